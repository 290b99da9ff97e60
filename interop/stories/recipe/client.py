"""Asks a question: a unique id, a temporary response queue bound by it, a thin JSON wrapper, one answer.

    python client.py "why?" [timeout in seconds]
"""

import json
import os
import sys
import uuid

import pika


def ask(connection, question, timeout_s=30):
    qid = str(uuid.uuid4())
    channel = connection.channel()
    channel.exchange_declare("answers", exchange_type="topic", durable=True)
    channel.queue_declare("questions", durable=True)
    response_queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
    channel.queue_bind(response_queue, "answers", routing_key=qid)
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
    link = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    print(json.dumps(ask(link, sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30)))
    link.close()
