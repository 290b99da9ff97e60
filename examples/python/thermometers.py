"""Several thermometers in one process, each with a queue of its own bound to amq.topic: every one hears every question.

    python thermometers.py FIRST COUNT
"""

import json
import os
import sys

import pika

first, count = int(sys.argv[1]), int(sys.argv[2])
connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()


def thermometer(number):
    def answer(channel, method, properties, body):
        reading = {"number": number, "celsius": number / 10}
        channel.basic_publish("", properties.reply_to, json.dumps(reading),
                              pika.BasicProperties(correlation_id=properties.correlation_id))

    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", "thermometers")
    channel.basic_consume(queue, answer, auto_ack=True)


for number in range(first, first + count):
    thermometer(number)
print("ready", flush=True)
channel.start_consuming()
