"""The consumer: declares its box and the sorting room, takes one letter, then waits for more.

    python po_box.py [number of letters, 0 for ever]
"""

import os
import sys

import amqp

wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 0
host, port = os.environ.get("AMQP_HOST", "127.0.0.1"), os.environ.get("AMQP_PORT", "5672")
conn = amqp.Connection(host=f"{host}:{port}", userid="guest", password="guest", virtual_host="/", insist=False)
conn.connect()
chan = conn.channel()

chan.queue_declare(queue="po_box", durable=True, exclusive=False, auto_delete=False)
chan.exchange_declare(exchange="sorting_room", type="direct", durable=True, auto_delete=False)
chan.queue_bind(queue="po_box", exchange="sorting_room", routing_key="jason")

received = 0
letter = chan.basic_get("po_box")
if letter is not None:
    print("Got:", letter.body, flush=True)
    chan.basic_ack(letter.delivery_tag)
    received += 1


def recv_callback(msg):
    global received
    received += 1
    print("Received:", msg.body, "from channel #" + str(msg.channel.channel_id), flush=True)


chan.basic_consume(queue="po_box", no_ack=True, callback=recv_callback, consumer_tag="testtag")
print("waiting", flush=True)
while wanted == 0 or received < wanted:
    conn.drain_events()
chan.basic_cancel("testtag")

chan.close()
conn.close()
