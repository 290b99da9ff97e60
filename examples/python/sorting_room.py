"""The publisher: puts each argument into the sorting room as a persistent letter for jason.

    python sorting_room.py TEXT...
"""

import os
import sys

import amqp

host, port = os.environ.get("AMQP_HOST", "127.0.0.1"), os.environ.get("AMQP_PORT", "5672")
conn = amqp.Connection(host=f"{host}:{port}", userid="guest", password="guest", virtual_host="/", insist=False)
conn.connect()
chan = conn.channel()

for text in sys.argv[1:]:
    msg = amqp.Message(text)
    msg.properties["delivery_mode"] = 2
    chan.basic_publish(msg, exchange="sorting_room", routing_key="jason")

chan.close()
conn.close()
