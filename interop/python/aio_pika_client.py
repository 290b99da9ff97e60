"""aio-pika: robust connections, queue iterators, its RPC pattern and the master/worker pattern."""

import asyncio
import functools

import aio_pika
from aio_pika.patterns import RPC, Master

from checks import URL, equal, run, true, unique


def step(coroutine):
    @functools.wraps(coroutine)
    def plain():
        asyncio.run(coroutine())

    return plain


@step
async def it_publishes_with_confirms_and_iterates_a_queue():
    async with await aio_pika.connect_robust(URL) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(unique("iterate"), auto_delete=True)
        for n in range(100):
            confirmation = await channel.default_exchange.publish(
                aio_pika.Message(str(n).encode(), headers={"n": n}, delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
                routing_key=queue.name)
            true(confirmation is not None and type(confirmation).__name__ == "Ack", f"confirmed: {confirmation}")
        got = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append((int(message.body), message.headers["n"], message.redelivered))
                if len(got) == 100:
                    break
        equal(got, [(n, n, False) for n in range(100)], "in order")


@step
async def unroutable_messages_are_an_error():
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(on_return_raises=True)
        try:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=unique("nobody"))
            true(False, "published to nobody")
        except aio_pika.exceptions.DeliveryError as error:
            equal(error.message.delivery.reply_code, 312, "basic.return")


@step
async def missing_and_differing_declarations_raise():
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel()
        name = unique("no")
        try:
            await channel.declare_queue(name, passive=True)
            true(False, "found what is not there")
        except aio_pika.exceptions.ChannelNotFoundEntity as error:
            equal(str(error), f"NOT_FOUND - no queue '{name}' in vhost '/'", "text")
        channel = await connection.channel()
        await channel.declare_queue(name, auto_delete=True)
        try:
            await channel.declare_queue(name, durable=True)
            true(False, "redeclared")
        except aio_pika.exceptions.ChannelPreconditionFailed as error:
            true("inequivalent arg 'durable'" in str(error), str(error))


@step
async def a_rejected_message_returns_or_dies():
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel()
        grave = await channel.declare_queue(exclusive=True)
        queue = await channel.declare_queue(exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave.name})
        await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=queue.name)
        message = await queue.get()
        await message.nack(requeue=True)
        message = await queue.get(timeout=5)
        equal(message.redelivered, True, "redelivered")
        await message.reject(requeue=False)
        for _ in range(50):
            if (dead := await grave.get(fail=False)) is not None:
                break
            await asyncio.sleep(0.05)
        equal(dead.headers["x-death"][0]["reason"], "rejected", "reason")


@step
async def topic_exchange_feeds_several_consumers():
    async with await aio_pika.connect_robust(URL) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(unique("logs"), aio_pika.ExchangeType.TOPIC, auto_delete=True)
        got = {"#": [], "*.error": []}
        for pattern, bodies in got.items():
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, pattern)
            await queue.consume(lambda message, bodies=bodies: on_message(message, bodies))

        async def on_message(message, bodies):
            async with message.process():
                bodies.append(message.body.decode())

        for key in ("app.info", "app.error", "db.error"):
            await exchange.publish(aio_pika.Message(key.encode()), routing_key=key)
        for _ in range(100):
            if len(got["#"]) == 3 and len(got["*.error"]) == 2:
                break
            await asyncio.sleep(0.05)
        equal(got, {"#": ["app.info", "app.error", "db.error"], "*.error": ["app.error", "db.error"]}, "routed")


@step
async def its_rpc_pattern_calls_and_expires():
    async with await aio_pika.connect_robust(URL) as connection:
        serving = await RPC.create(await connection.channel())
        calling = await RPC.create(await connection.channel())
        name, slow = unique("multiply"), unique("slow")

        async def multiply(*, x, y):
            return x * y

        async def fail(*, x):
            raise ValueError(x)

        await serving.register(name, multiply, auto_delete=True)
        await serving.register(slow, fail, auto_delete=True)
        results = await asyncio.gather(*(calling.call(name, kwargs={"x": n, "y": n}) for n in range(50)))
        equal(results, [n * n for n in range(50)], "results")
        try:
            await calling.call(slow, kwargs={"x": 7})
            true(False, "the error did not arrive")
        except ValueError as error:
            equal(error.args, (7,), "remote error")
        # Nobody consumes: the call expires in the queue and comes back through the dead letter exchange.
        channel = await connection.channel()
        deaf = await channel.declare_queue(unique("deaf"), auto_delete=True, arguments={
            "x-dead-letter-exchange": RPC.DLX_NAME})
        try:
            await calling.call(deaf.name, kwargs={}, expiration=1)
            true(False, "an unanswered call returned")
        except asyncio.TimeoutError:
            pass
        try:
            await calling.call(unique("nobody"), kwargs={})
            true(False, "a call to nobody returned")
        except aio_pika.exceptions.MessageProcessError as error:
            equal(error.args[0], "Message has been returned", "reason")
        await deaf.delete()


@step
async def its_master_hands_tasks_to_workers():
    async with await aio_pika.connect_robust(URL) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        name, done = unique("tasks"), []
        master, workers = Master(channel), Master(await connection.channel())

        async def work(*, task_id):
            done.append(task_id)

        for _ in range(2):
            await workers.create_worker(name, work, auto_delete=True)
        for n in range(20):
            await master.create_task(name, kwargs={"task_id": n})
        for _ in range(100):
            if len(done) == 20:
                break
            await asyncio.sleep(0.05)
        equal(sorted(done), list(range(20)), "each task once")


@step
async def transactions_hold_messages_back():
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(publisher_confirms=False)
        watcher = await connection.channel()
        queue = await watcher.declare_queue(exclusive=True)
        async with channel.transaction():
            await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=queue.name)
            state = await watcher.declare_queue(queue.name, passive=True)
            equal(state.declaration_result.message_count, 0, "before the commit")
        state = await watcher.declare_queue(queue.name, passive=True)
        equal(state.declaration_result.message_count, 1, "after the commit")


if __name__ == "__main__":
    run("aio_pika", [
        it_publishes_with_confirms_and_iterates_a_queue, unroutable_messages_are_an_error,
        missing_and_differing_declarations_raise, a_rejected_message_returns_or_dies,
        topic_exchange_feeds_several_consumers, its_rpc_pattern_calls_and_expires,
        its_master_hands_tasks_to_workers, transactions_hold_messages_back,
    ])
