"""Answers questions from the shared queue. Without a qid it does the work and answers nobody.

    python recipe_worker.py NAME
"""

import json
import os
import sys
import time

import pika

name = sys.argv[1]
connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
channel.queue_declare("questions", durable=True)
channel.basic_qos(prefetch_count=1)


def work(channel, method, properties, body):
    request = json.loads(body)
    print("working", request["q"], flush=True)
    if request["q"].startswith("slow"):
        time.sleep(3)
    answer = request["q"].upper()
    if "qid" in request:
        channel.basic_publish(
            "amq.topic", request["qid"], json.dumps({"qid": request["qid"], "a": answer, "by": name}),
            pika.BasicProperties(content_type="application/json"))
    channel.basic_ack(method.delivery_tag)
    print("done", request["q"], flush=True)


channel.basic_consume("questions", work)
print("ready", flush=True)
channel.start_consuming()
