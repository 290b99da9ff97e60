"""The tutorial's RPC server: Fibonacci numbers from rpc_queue, one at a time.

    python rpc_server.py
"""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
channel.queue_declare(queue="rpc_queue", durable=True)


def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


def on_request(ch, method, props, body):
    n = int(body)
    print(f" [.] fib({n})", flush=True)
    headers = None
    if n < 0:  # two headers, and callers that know them see an error
        headers, response = {"rpc-status": "INVALID_ARGUMENT", "rpc-error": f"there is no fib({n})"}, ""
    else:
        response = fib(n)
    ch.basic_publish(exchange="", routing_key=props.reply_to, body=str(response),
                     properties=pika.BasicProperties(correlation_id=props.correlation_id, headers=headers))
    ch.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
print(" [x] Awaiting RPC requests", flush=True)
channel.start_consuming()
