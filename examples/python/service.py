"""The service: renders documents from MessagePack requests and sends them to the requester's queue.

    python service.py
"""

import os

import msgpack
import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))
channel = connection.channel()
channel.exchange_declare("service.tasks", "direct", durable=True)
channel.exchange_declare("service.results", "direct", durable=True)
channel.queue_declare("service.my_template", durable=True)
channel.queue_bind("service.my_template", "service.tasks", "service.my_template")
channel.basic_qos(prefetch_count=4)


def pdf(text):
    """One page that says the text: small, but a document every reader opens."""
    stream = b"BT /F1 24 Tf 72 720 Td (" + text.encode("latin-1", "replace") + b") Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n" % len(stream) + stream + b"\nendstream",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 5\n0000000000 65535 f \n" + table + b"trailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(out)


def on_task(channel, method, properties, body):
    task = msgpack.unpackb(body)
    print("rendering", task["title"], flush=True)
    exchange, _, key = properties.reply_to.partition("/")  # service.results, the queue of the requester
    channel.basic_publish(exchange, key, pdf(task["title"]), pika.BasicProperties(
        content_type="application/pdf", correlation_id=properties.correlation_id, delivery_mode=2))
    channel.basic_ack(method.delivery_tag)


channel.basic_consume("service.my_template", on_task)
print("ready", flush=True)
channel.start_consuming()
