"""The tutorial's RPC client: an exclusive callback queue, a correlation id per call.

    python rpc_client.py N...
"""

import os
import sys
import uuid

import pika


class RpcError(Exception):
    """What the server reported instead of an answer."""


class FibonacciRpcClient:
    def __init__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
        self.channel = self.connection.channel()
        result = self.channel.queue_declare(queue="", exclusive=True)
        self.callback_queue = result.method.queue
        self.channel.basic_consume(queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True)
        self.response = self.corr_id = self.status = self.error = None

    def on_response(self, ch, method, props, body):
        if self.corr_id == props.correlation_id:
            self.status = (props.headers or {}).get("rpc-status", "OK")
            self.error = (props.headers or {}).get("rpc-error")
            self.response = body

    def call(self, n):
        self.response = None
        self.corr_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="", routing_key="rpc_queue",
            properties=pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.corr_id), body=str(n))
        while self.response is None:
            self.connection.process_data_events(time_limit=None)
        if self.status != "OK":  # only a worker that knows these headers sends them
            raise RpcError(f"{self.status}: {self.error}")
        return int(self.response)


if __name__ == "__main__":
    fibonacci_rpc = FibonacciRpcClient()
    for argument in sys.argv[1:]:
        print(f" [x] Requesting fib({argument})", flush=True)
        try:
            print(f" [.] Got {fibonacci_rpc.call(int(argument))}", flush=True)
        except RpcError as error:
            print(f" [!] {error}", flush=True)
