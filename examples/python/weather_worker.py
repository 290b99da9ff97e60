"""The weather service as a plain pika worker. An error is two headers: `rpc-status` and `rpc-error`.

    python weather_worker.py
"""

import json
import os

import pika

SKIES = {"Columbus": ("sunny", 21), "Richmond": ("rain", 24)}

connection = pika.BlockingConnection(pika.URLParameters(
    os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
channel.queue_declare("weather", durable=True)
channel.basic_qos(prefetch_count=1)


def on_request(channel, method, properties, body):
    city = json.loads(body)["city"]  # properties.type is the method: "forecast"
    headers, answer = {}, b""
    if city in SKIES:
        sky, celsius = SKIES[city]
        answer = json.dumps({"sky": sky, "celsius": celsius})
    else:
        headers = {"rpc-status": "NOT_FOUND", "rpc-error": "no such city"}
    channel.basic_publish("", properties.reply_to, answer, pika.BasicProperties(
        correlation_id=properties.correlation_id, content_type="application/json", headers=headers))
    channel.basic_ack(method.delivery_tag)


channel.basic_consume("weather", on_request)
print("ready", flush=True)
channel.start_consuming()
