"""Asks the farms, from anywhere: so many requests to each of the named subjects. Answers come to an exchange and a
routing key of our own, which `reply_to` names.

    python farm_client.py COUNT SUBJECT...
"""

import json
import os
import sys
import uuid

import pika

count, subjects = int(sys.argv[1]), sys.argv[2:]
connection = pika.BlockingConnection(pika.URLParameters(
    os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
key = f"answers.{uuid.uuid4()}"
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "amq.direct", key)

for number in range(count):
    for subject in subjects:
        channel.basic_publish("amq.topic", subject, json.dumps(f"{subject}-{number}"), pika.BasicProperties(
            content_type="application/json", reply_to=f"amq.direct/{key}", correlation_id=f"{subject}-{number}"))

missing = count * len(subjects)
for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=10):
    if method is None:
        sys.exit(f"{missing} answers are missing")
    answer = json.loads(body)
    print(answer["by"], "served", answer["subject"], answer["request"])
    missing -= 1
    if missing == 0:
        break
connection.close()
