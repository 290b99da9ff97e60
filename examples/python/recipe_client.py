"""Asks a question: a unique id, a temporary response queue bound by it on a topic exchange, a thin JSON
wrapper, one answer.

    python recipe_client.py "why?" [timeout in seconds]
"""

import json
import os
import sys
import uuid

import pika


def ask(connection, question, timeout_s=30):
    qid = str(uuid.uuid4())
    channel = connection.channel()
    channel.queue_declare("questions", durable=True)
    response_queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
    channel.queue_bind(response_queue, "amq.topic", routing_key=qid)
    channel.basic_publish(
        "", "questions", json.dumps({"q": question, "qid": qid}),
        pika.BasicProperties(content_type="application/json", delivery_mode=2))
    for method, _, body in channel.consume(response_queue, auto_ack=True, inactivity_timeout=timeout_s):
        channel.cancel()
        channel.close()
        if method is None:
            raise TimeoutError(f"no answer within {timeout_s} s")
        answer = json.loads(body)
        assert answer["qid"] == qid, f"somebody else's answer: {answer}"
        return answer


if __name__ == "__main__":
    link = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
    print(json.dumps(ask(link, sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30)))
    link.close()
