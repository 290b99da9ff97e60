"""Calls the weather service, whoever serves it, over direct reply-to: nothing to declare.

    python weather_client.py CITY...
"""

import json
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(
    os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
answers = {}


def on_answer(channel, method, properties, body):
    answers[properties.correlation_id] = properties.headers or {}, body


channel.basic_consume("amq.rabbitmq.reply-to", on_answer, auto_ack=True)
for city in sys.argv[1:]:
    channel.basic_publish("", "weather", json.dumps({"city": city}), pika.BasicProperties(
        type="forecast", content_type="application/json", reply_to="amq.rabbitmq.reply-to", correlation_id=city,
        expiration="5000"))  # nobody waits longer: past that, a worker need not begin
while len(answers) < len(sys.argv[1:]):
    connection.process_data_events(time_limit=5)
for city in sys.argv[1:]:
    headers, body = answers[city]
    if headers.get("rpc-status", "OK") == "OK":
        forecast = json.loads(body)
        print(f"{city}: {forecast['sky']}, {forecast['celsius']} °C")
    else:
        print(f"{city}: {headers['rpc-status']}: {headers['rpc-error']}")
connection.close()
