"""A server of a farm: takes requests for its region from amq.topic and answers to wherever they ask.

    python farm.py NAME PATTERN [seconds a get waits, 60]

The servers of a farm share the queue named after the pattern. `reply_to` is "exchange/routing key".
"""

import os
import sys

import pika

name, pattern = sys.argv[1:3]
patience_s = float(sys.argv[3]) if len(sys.argv) > 3 else 60
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
queue = f"farm {pattern}"
channel.queue_declare(queue, auto_delete=True)
channel.queue_bind(queue, "amq.topic", pattern)
channel.basic_qos(prefetch_count=1)
print("ready", flush=True)

for method, properties, body in channel.consume(queue, inactivity_timeout=patience_s):
    if method is None:
        print("nothing to do, going on", flush=True)
        continue
    exchange, _, key = properties.reply_to.partition("/")
    channel.basic_publish(exchange, key, f"{name} served {method.routing_key} {body.decode()}",
                          pika.BasicProperties(correlation_id=properties.correlation_id))
    channel.basic_ack(method.delivery_tag)
