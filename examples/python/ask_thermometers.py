"""One message asks a hundred thermometers; their answers are gathered.

    python ask_thermometers.py [COUNT]
"""

import json
import os
import sys
import time

import pika

count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
connection = pika.BlockingConnection(pika.URLParameters(
    os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
readings = {}


def on_reading(channel, method, properties, body):
    reading = json.loads(body)
    readings[reading["number"]] = reading["celsius"]


channel.basic_consume("amq.rabbitmq.reply-to", on_reading, auto_ack=True)
channel.basic_publish("amq.topic", "thermometers", json.dumps("how warm?"), pika.BasicProperties(
    reply_to="amq.rabbitmq.reply-to", correlation_id="how warm?"))
end = time.monotonic() + 5
while len(readings) < count and time.monotonic() < end:
    connection.process_data_events(time_limit=0.1)
for number in sorted(readings):
    print(number, readings[number])
print(len(readings), "answers")
connection.close()
