"""A server of a farm: takes requests for its region from amq.topic and answers to wherever they ask.

    python farm.py NAME PATTERN [seconds a get waits, 60]

The servers of a farm share the queue named after the pattern. `reply_to` is "exchange/routing key".
"""

import json
import os
import sys

import pika

name, pattern = sys.argv[1:3]
patience_s = float(sys.argv[3]) if len(sys.argv) > 3 else 60
connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
queue = f"farm {pattern}"
channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, "amq.topic", pattern)
channel.basic_qos(prefetch_count=1)
print("ready", flush=True)

for method, properties, body in channel.consume(queue, inactivity_timeout=patience_s):
    if method is None:
        print("nothing to do, going on", flush=True)
        continue
    exchange, _, key = properties.reply_to.partition("/")
    if not key:  # the name of a queue alone: the default exchange delivers to it
        exchange, key = "", properties.reply_to
    answer = {"by": name, "subject": method.routing_key, "request": json.loads(body)}
    channel.basic_publish(exchange, key, json.dumps(answer), pika.BasicProperties(
        content_type="application/json", correlation_id=properties.correlation_id))
    channel.basic_ack(method.delivery_tag)
