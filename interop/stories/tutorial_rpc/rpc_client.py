"""The tutorial's RPC client: an exclusive callback queue, a correlation id per call.

    python rpc_client.py N...
"""

import os
import sys
import uuid

import pika


class FibonacciRpcClient:
    def __init__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
        self.channel = self.connection.channel()
        result = self.channel.queue_declare(queue="", exclusive=True)
        self.callback_queue = result.method.queue
        self.channel.basic_consume(queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True)
        self.response = None
        self.corr_id = None

    def on_response(self, ch, method, props, body):
        if self.corr_id == props.correlation_id:
            self.response = body

    def call(self, n):
        self.response = None
        self.corr_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="", routing_key="rpc_queue",
            properties=pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.corr_id), body=str(n))
        while self.response is None:
            self.connection.process_data_events(time_limit=None)
        return int(self.response)


if __name__ == "__main__":
    fibonacci_rpc = FibonacciRpcClient()
    for argument in sys.argv[1:]:
        print(f" [x] Requesting fib({argument})", flush=True)
        print(f" [.] Got {fibonacci_rpc.call(int(argument))}", flush=True)
