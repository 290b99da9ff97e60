"""The publisher: puts each argument into the sorting room as a persistent letter for jason.

    python sorting_room.py TEXT...
"""

import os
import sys

import amqp

conn = amqp.Connection(host=f"{os.environ['AMQP_HOST']}:{os.environ['AMQP_PORT']}", userid="guest",
                       password="guest", virtual_host="/", insist=False)
conn.connect()
chan = conn.channel()

for text in sys.argv[1:]:
    msg = amqp.Message(text)
    msg.properties["delivery_mode"] = 2
    chan.basic_publish(msg, exchange="sorting_room", routing_key="jason")

chan.close()
conn.close()
