"""Several thermometers in one process, each with a queue of its own on the fanout exchange "thermometers".

    python thermometers.py FIRST COUNT
"""

import os
import sys

import pika

first, count = int(sys.argv[1]), int(sys.argv[2])
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare("thermometers", "fanout")


def thermometer(number):
    def answer(channel, method, properties, body):
        channel.basic_publish("", properties.reply_to, f"{number} {number / 10}",
                              pika.BasicProperties(correlation_id=properties.correlation_id))

    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "thermometers")
    channel.basic_consume(queue, answer, auto_ack=True)


for number in range(first, first + count):
    thermometer(number)
print("ready", flush=True)
channel.start_consuming()
