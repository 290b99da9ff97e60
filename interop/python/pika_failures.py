"""What goes wrong, and what the broker says about it: codes, texts and scopes as RabbitMQ has them."""

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError, UnroutableError

from checks import HOST, PORT, URL, equal, eventually, run, true, unique
from pika_basic import connect, fetch


def channel_error(action, code, text, connection=None):
    """`action(channel)` must close that channel, with exactly this code and text, and leave the connection open."""
    own = connection or connect()
    channel = own.channel()
    try:
        action(channel)
        channel.queue_declare("", exclusive=True)  # brings in what an asynchronous action caused
        true(False, f"nothing was refused, want {code} {text}")
    except ChannelClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (code, text), "channel.close")
    own.channel().close()
    if connection is None:
        own.close()


def connection_error(action, code, text):
    connection = connect()
    channel = connection.channel()
    try:
        action(channel)
        channel.queue_declare("", exclusive=True)
        true(False, f"nothing was refused, want {code} {text}")
    except ConnectionClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (code, text), "connection.close")


def what_is_not_there_is_404():
    queue, exchange = unique("no"), unique("no")
    no_queue = f"NOT_FOUND - no queue '{queue}' in vhost '/'"
    no_exchange = f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"
    channel_error(lambda c: c.queue_declare(queue, passive=True), 404, no_queue)
    channel_error(lambda c: c.basic_get(queue), 404, no_queue)
    channel_error(lambda c: c.basic_consume(queue, print), 404, no_queue)
    channel_error(lambda c: c.queue_purge(queue), 404, no_queue)
    channel_error(lambda c: c.queue_bind(queue, "amq.direct", "k"), 404, no_queue)
    channel_error(lambda c: c.exchange_declare(exchange, passive=True), 404, no_exchange)
    channel_error(lambda c: c.basic_publish(exchange, "k", b""), 404, no_exchange)
    channel_error(lambda c: c.exchange_bind("amq.fanout", exchange), 404, no_exchange)


def deleting_what_is_not_there_is_fine():
    connection = connect()
    channel = connection.channel()
    channel.queue_delete(unique("no"))
    channel.exchange_delete(unique("no"))
    channel.queue_unbind(unique("no"), "amq.direct", "k")
    connection.close()


def a_different_redeclaration_is_406():
    connection = connect()
    channel = connection.channel()
    queue, exchange = unique("same"), unique("same")
    channel.queue_declare(queue, durable=True, arguments={"x-message-ttl": 1000})
    channel.queue_declare(queue, durable=True, arguments={"x-message-ttl": 1000})
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.exchange_declare(exchange, "topic", durable=True)
    of_queue, of_exchange = f"for queue '{queue}' in vhost '/'", f"for exchange '{exchange}' in vhost '/'"
    same = {"x-message-ttl": 1000}
    for action, text in (
        (lambda c: c.queue_declare(queue, durable=False, arguments=same),
         f"inequivalent arg 'durable' {of_queue}: received 'false' but current is 'true'"),
        (lambda c: c.queue_declare(queue, durable=True, auto_delete=True, arguments=same),
         f"inequivalent arg 'auto_delete' {of_queue}: received 'true' but current is 'false'"),
        (lambda c: c.queue_declare(queue, durable=True, arguments={"x-message-ttl": 2000}),
         f"inequivalent arg 'x-message-ttl' {of_queue}: received '2000' but current is '1000'"),
        (lambda c: c.queue_declare(queue, durable=True),
         f"inequivalent arg 'x-message-ttl' {of_queue}: received none but current is the value '1000' of type 'signedint'"),
        (lambda c: c.queue_declare(queue, durable=True, arguments={**same, "x-max-length": 5}),
         f"inequivalent arg 'x-max-length' {of_queue}: received the value '5' of type 'signedint' but current is none"),
        (lambda c: c.exchange_declare(exchange, "direct", durable=True),
         f"inequivalent arg 'type' {of_exchange}: received 'direct' but current is 'topic'"),
        (lambda c: c.exchange_declare(exchange, "topic", durable=False),
         f"inequivalent arg 'durable' {of_exchange}: received 'false' but current is 'true'"),
    ):
        channel_error(action, 406, "PRECONDITION_FAILED - " + text, connection)
    channel.queue_delete(queue)
    channel.exchange_delete(exchange)
    connection.close()


def exclusive_queues_are_locked_405():
    owner, stranger = connect(), connect()
    queue = unique("mine")
    owner.channel().queue_declare(queue, exclusive=True)
    text = (f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be "
            "originally declared on another connection or the exclusive property value does not match that of the "
            "original declaration.")
    for action in (lambda c: c.queue_declare(queue, passive=True), lambda c: c.queue_declare(queue),
                   lambda c: c.basic_consume(queue, print), lambda c: c.basic_get(queue),
                   lambda c: c.queue_delete(queue), lambda c: c.queue_bind(queue, "amq.direct", "k")):
        channel_error(action, 405, text, stranger)
    owner.close()
    channel_error(lambda c: c.queue_declare(queue, passive=True), 404,
                  f"NOT_FOUND - no queue '{queue}' in vhost '/'", stranger)
    stranger.close()


def reserved_names_and_system_exchanges_are_403():
    reserved = unique("amq.mine")
    channel_error(lambda c: c.queue_declare(reserved), 403,
                  f"ACCESS_REFUSED - queue name '{reserved}' contains reserved prefix 'amq.*'")
    channel_error(lambda c: c.exchange_declare(reserved), 403,
                  f"ACCESS_REFUSED - exchange name '{reserved}' contains reserved prefix 'amq.*'")
    channel_error(lambda c: c.exchange_delete("amq.direct"), 403,
                  "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed")
    connection = connect()
    queue = connection.channel().queue_declare("", exclusive=True).method.queue
    channel_error(lambda c: c.queue_declare(queue, exclusive=True), 403,
                  f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'", connection)
    for action in (lambda c: c.queue_bind(queue, "", "k"), lambda c: c.queue_unbind(queue, "", "k"),
                   lambda c: c.exchange_declare("", "direct"), lambda c: c.exchange_delete("")):
        channel_error(action, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", connection)
    connection.close()


def publishing_to_an_internal_exchange_is_403():
    connection = connect()
    channel = connection.channel()
    exchange = unique("internal")
    channel.exchange_declare(exchange, "fanout", internal=True)
    channel_error(lambda c: c.basic_publish(exchange, "", b""), 403,
                  f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'", connection)
    channel.exchange_delete(exchange)
    connection.close()


def an_exclusive_consumer_keeps_others_out():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("alone"), auto_delete=True).method.queue
    channel.basic_consume(queue, print, exclusive=True)
    channel_error(lambda c: c.basic_consume(queue, print), 403,
                  f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", connection)
    connection.close()


def an_unknown_delivery_tag_is_406():
    def twice(channel):
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"x")
        method, _, _ = fetch(channel, queue, auto_ack=False)
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
    channel_error(twice, 406, "PRECONDITION_FAILED - unknown delivery tag 1")
    channel_error(lambda c: c.basic_ack(99), 406, "PRECONDITION_FAILED - unknown delivery tag 99")
    channel_error(lambda c: c.basic_nack(7), 406, "PRECONDITION_FAILED - unknown delivery tag 7")
    channel_error(lambda c: c.basic_reject(3), 406, "PRECONDITION_FAILED - unknown delivery tag 3")


def conditional_deletes_are_406():
    connection = connect()
    channel = connection.channel()
    queue, exchange = unique("kept"), unique("kept")
    channel.queue_declare(queue)
    channel.exchange_declare(exchange)
    channel.queue_bind(queue, exchange, "k")
    channel.basic_publish("", queue, b"x")
    channel_error(lambda c: c.queue_delete(queue, if_empty=True), 406,
                  f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty", connection)
    channel_error(lambda c: c.exchange_delete(exchange, if_unused=True), 406,
                  f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use", connection)
    channel.basic_consume(queue, lambda *_: None)
    channel_error(lambda c: c.queue_delete(queue, if_unused=True), 406,
                  f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use", connection)
    equal(channel.queue_delete(queue).method.message_count, 0, "the message was out with the consumer")
    channel.exchange_delete(exchange, if_unused=True)
    connection.close()


def mode_switches_are_406():
    def confirm_then_tx(channel):
        channel.confirm_delivery()
        channel.tx_select()

    def tx_then_confirm(channel):
        channel.tx_select()
        channel.confirm_delivery()

    channel_error(confirm_then_tx, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode")
    channel_error(tx_then_confirm, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode")
    channel_error(lambda c: c.tx_commit(), 406, "PRECONDITION_FAILED - channel is not transactional")


def bad_expirations_and_user_ids_are_406():
    connection = connect()
    queue = connection.channel().queue_declare("", exclusive=True).method.queue
    channel_error(lambda c: c.basic_publish("", queue, b"", pika.BasicProperties(user_id="somebody")), 406,
                  "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
                  connection)
    channel = connection.channel()
    try:
        channel.basic_publish("", queue, b"", pika.BasicProperties(expiration="soon"))
        channel.queue_declare(queue, passive=True)
        true(False, "expiration 'soon' was taken")
    except ChannelClosedByBroker as error:
        equal(error.reply_code, 406, "code")
        true(error.reply_text.startswith("PRECONDITION_FAILED - invalid expiration 'soon'"), error.reply_text)
    connection.close()


def a_used_consumer_tag_is_530():
    def reuse(channel):
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel._impl.basic_consume(queue, print, consumer_tag="twice", callback=None)
        channel._impl._consumers.clear()  # pika itself would refuse
        channel._impl.basic_consume(queue, print, consumer_tag="twice", callback=None)
    connection_error(reuse, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'")


def what_is_not_implemented_is_540():
    connection_error(lambda c: c.basic_qos(prefetch_size=10), 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)")
    connection_error(lambda c: c.basic_recover(requeue=False), 540, "NOT_IMPLEMENTED - requeue=false")


def a_mandatory_message_comes_back():
    connection = connect()
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(lambda c, method, properties, body: returned.append((method, properties, body)))
    channel.basic_publish("amq.direct", "nobody", b"home", pika.BasicProperties(message_id="7"), mandatory=True)
    connection.sleep(0.3)
    equal(len(returned), 1, "returned once")
    method, properties, body = returned[0]
    equal((method.reply_code, method.reply_text, method.exchange, method.routing_key, properties.message_id, body),
          (312, "NO_ROUTE", "amq.direct", "nobody", "7", b"home"), "basic.return")
    channel.basic_publish("amq.direct", "nobody", b"lost")
    connection.sleep(0.2)
    equal(len(returned), 1, "without mandatory it is dropped")
    connection.close()


def confirms_follow_returns():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for n in range(50):
        channel.basic_publish("", queue, b"%d" % n, mandatory=True)  # returns when confirmed
    try:
        channel.basic_publish("", unique("nobody"), b"home", mandatory=True)
        true(False, "an unroutable mandatory message was taken")
    except UnroutableError as error:
        equal([(m.method.reply_code, m.method.reply_text, m.body) for m in error.messages],
              [(312, "NO_ROUTE", b"home")], "returned")
    channel.basic_publish("", unique("nobody"), b"dropped")  # confirmed all the same
    equal(channel.queue_declare(queue, passive=True).method.message_count, 50, "arrived")
    connection.close()


def a_deleted_queue_cancels_its_consumers():
    connection, other = connect(), connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("doomed")).method.queue
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(queue, lambda *_: None)
    other.channel().queue_delete(queue)
    eventually(lambda: (connection.process_data_events(0.05), cancelled)[1], "basic.cancel")
    equal(cancelled, [tag], "cancelled")
    channel.queue_declare("", exclusive=True)  # the channel lives on
    connection.close()
    other.close()


def a_bad_password_is_403_with_a_text():
    try:
        pika.BlockingConnection(pika.ConnectionParameters(
            HOST, PORT, "/", pika.PlainCredentials("guest", "wrong")))
        true(False, "a wrong password was accepted")
    except pika.exceptions.ProbableAuthenticationError as error:
        true("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker "
             "logfile." in str(error), str(error))
        true("403" in str(error), str(error))


def an_unknown_vhost_is_530():
    try:
        pika.BlockingConnection(pika.ConnectionParameters(HOST, PORT, "nowhere"))
        true(False, "vhost 'nowhere' was opened")
    except (ConnectionClosedByBroker, pika.exceptions.ProbableAccessDeniedError) as error:
        true("530" in str(error) and "NOT_ALLOWED - vhost nowhere not found" in str(error), str(error))


def an_error_leaves_other_channels_alone():
    connection = connect()
    good, bad = connection.channel(), connection.channel()
    queue = good.queue_declare("", exclusive=True).method.queue
    got = []
    good.basic_consume(queue, lambda c, m, p, body: got.append(body), auto_ack=True)
    try:
        bad.queue_declare(unique("no"), passive=True)
    except ChannelClosedByBroker:
        pass
    good.basic_publish("", queue, b"fine")
    connection.sleep(0.2)
    equal(got, [b"fine"], "delivered after the other channel's death")
    connection.close()


if __name__ == "__main__":
    run("pika_failures", [
        what_is_not_there_is_404, deleting_what_is_not_there_is_fine, a_different_redeclaration_is_406,
        exclusive_queues_are_locked_405, reserved_names_and_system_exchanges_are_403,
        publishing_to_an_internal_exchange_is_403, an_exclusive_consumer_keeps_others_out,
        an_unknown_delivery_tag_is_406, conditional_deletes_are_406, mode_switches_are_406,
        bad_expirations_and_user_ids_are_406, a_used_consumer_tag_is_530, what_is_not_implemented_is_540,
        a_mandatory_message_comes_back, confirms_follow_returns, a_deleted_queue_cancels_its_consumers,
        a_bad_password_is_403_with_a_text, an_unknown_vhost_is_530, an_error_leaves_other_channels_alone,
    ])
