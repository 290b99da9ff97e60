import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.StringRpcServer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The RabbitMQ Java client: confirms, consumers, returns, its RPC classes, errors, transactions. */
public final class JavaClient {
    interface Use {
        void on(Channel channel) throws Exception;
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        String url = System.getenv("AMQP_URL");
        if (url != null) {
            factory.setUri(url);
        } else {
            factory.setHost(System.getenv().getOrDefault("AMQP_HOST", "127.0.0.1"));
            factory.setPort(Integer.parseInt(System.getenv().getOrDefault("AMQP_PORT", "5672")));
        }
        return factory;
    }

    static void withChannel(Use use) throws Exception {
        try (Connection connection = factory().newConnection()) {
            use.on(connection.createChannel());
        }
    }

    static String unique(String prefix) {
        return prefix + "-" + UUID.randomUUID();
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static void serverProperties() throws Exception {
        try (Connection connection = factory().newConnection("interop")) {
            Map<String, Object> properties = connection.getServerProperties();
            Checks.isTrue(properties.get("product") != null && properties.get("version") != null, "product and version");
            Map<?, ?> capabilities = (Map<?, ?>) properties.get("capabilities");
            Checks.equal(capabilities.get("publisher_confirms"), true, "publisher_confirms");
        }
    }

    static void propertiesAndHeaders() throws Exception {
        withChannel(channel -> {
            String queue = channel.queueDeclare().getQueue();
            Map<String, Object> headers = new HashMap<>();
            headers.put("int", 7);
            headers.put("long", 1L << 40);
            headers.put("double", 2.5);
            headers.put("bool", true);
            headers.put("date", new Date(1_700_000_000_000L));
            headers.put("bytes", new byte[] {0, 1, 2});
            headers.put("null", null);
            headers.put("list", List.of(1, 2L));
            AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder()
                .contentType("text/plain").headers(headers).deliveryMode(2).priority(1).correlationId("c").replyTo("r")
                .expiration("60000").messageId("m").timestamp(new Date(1_700_000_000_000L)).type("t").userId("guest")
                .appId("a").build();
            channel.basicPublish("", queue, sent, bytes("grüße"));
            GetResponse got = channel.basicGet(queue, true);
            Checks.equal(text(got.getBody()), "grüße", "body");
            AMQP.BasicProperties back = got.getProps();
            Checks.equal(List.of(back.getContentType(), back.getDeliveryMode(), back.getPriority(), back.getCorrelationId(),
                    back.getReplyTo(), back.getExpiration(), back.getMessageId(), back.getTimestamp(), back.getType(),
                    back.getUserId(), back.getAppId()),
                List.of("text/plain", 2, 1, "c", "r", "60000", "m", new Date(1_700_000_000_000L), "t", "guest", "a"), "properties");
            for (String key : List.of("int", "long", "double", "bool", "date", "null", "list")) {
                Checks.equal(back.getHeaders().get(key), headers.get(key), "header " + key);
            }
            Checks.equal(back.getHeaders().keySet(), headers.keySet(), "header names");
        });
    }

    static void asynchronousConfirms() throws Exception {
        withChannel(channel -> {
            String queue = channel.queueDeclare().getQueue();
            SortedSet<Long> outstanding = Collections.synchronizedSortedSet(new TreeSet<>());
            CountDownLatch all = new CountDownLatch(1);
            List<Long> nacked = new CopyOnWriteArrayList<>();
            channel.confirmSelect();
            channel.addConfirmListener((tag, multiple) -> {
                if (multiple) {
                    outstanding.headSet(tag + 1).clear();
                } else {
                    outstanding.remove(tag);
                }
                if (outstanding.isEmpty()) {
                    all.countDown();
                }
            }, (tag, multiple) -> nacked.add(tag));
            for (int n = 0; n < 2000; n++) {
                outstanding.add(channel.getNextPublishSeqNo());
                channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("" + n));
            }
            channel.waitForConfirmsOrDie(10_000);
            Checks.isTrue(all.await(5, TimeUnit.SECONDS) && outstanding.isEmpty(), "outstanding: " + outstanding.size());
            Checks.equal(nacked, List.of(), "nacks");
            Checks.equal(channel.messageCount(queue), 2000L, "messages");
        });
    }

    static void consumeInOrder() throws Exception {
        withChannel(channel -> {
            String queue = channel.queueDeclare().getQueue();
            BlockingQueue<Integer> got = new LinkedBlockingQueue<>();
            channel.basicQos(10);
            channel.basicConsume(queue, false, (tag, delivery) -> {
                got.add(Integer.parseInt(text(delivery.getBody())));
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }, tag -> { });
            for (int n = 0; n < 1000; n++) {
                channel.basicPublish("", queue, null, bytes("" + n));
            }
            for (int n = 0; n < 1000; n++) {
                Checks.equal(got.poll(5, TimeUnit.SECONDS), n, "message");
            }
        });
    }

    static void returns() throws Exception {
        withChannel(channel -> {
            BlockingQueue<String> returned = new LinkedBlockingQueue<>();
            channel.addReturnListener(message -> returned.add(
                message.getReplyCode() + " " + message.getReplyText() + " " + message.getRoutingKey() + " " + text(message.getBody())));
            channel.basicPublish("amq.direct", "nobody", true, null, bytes("home"));
            Checks.equal(returned.poll(5, TimeUnit.SECONDS), "312 NO_ROUTE nobody home", "returned");
        });
    }

    static void redelivery() throws Exception {
        withChannel(channel -> {
            String queue = channel.queueDeclare().getQueue();
            channel.basicPublish("", queue, null, bytes("x"));
            GetResponse got = channel.basicGet(queue, false);
            Checks.equal(got.getEnvelope().isRedeliver(), false, "first");
            channel.basicNack(got.getEnvelope().getDeliveryTag(), false, true);
            Channel other = channel.getConnection().createChannel();
            got = other.basicGet(queue, false);
            Checks.equal(got.getEnvelope().isRedeliver(), true, "second");
            other.close();
            Checks.equal(channel.basicGet(queue, true).getEnvelope().isRedeliver(), true, "third");
        });
    }

    static void transactions() throws Exception {
        withChannel(channel -> {
            String queue = channel.queueDeclare().getQueue();
            channel.txSelect();
            channel.basicPublish("", queue, null, bytes("kept"));
            channel.txCommit();
            channel.basicPublish("", queue, null, bytes("dropped"));
            channel.txRollback();
            Checks.equal(channel.messageCount(queue), 1L, "messages");
        });
    }

    static void rpcClasses() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel serving = connection.createChannel();
            String queue = serving.queueDeclare(unique("upper"), false, false, true, null).getQueue();
            StringRpcServer server = new StringRpcServer(serving, queue) {
                @Override
                public String handleStringCall(String request, AMQP.BasicProperties replyProperties) {
                    return request.toUpperCase();
                }
            };
            Thread loop = new Thread(() -> {
                try {
                    server.mainloop();
                } catch (IOException | ShutdownSignalException e) {
                    // The connection closes: that ends the service.
                }
            });
            loop.setDaemon(true);
            loop.start();
            for (String replyTo : List.of("amq.rabbitmq.reply-to", "")) {
                RpcClientParams params = new RpcClientParams()
                    .channel(connection.createChannel()).exchange("").routingKey(queue).timeout(5000).useMandatory();
                if (replyTo.isEmpty()) {
                    params.replyTo(connection.createChannel().queueDeclare().getQueue());
                }
                RpcClient client = new RpcClient(params);
                for (int n = 0; n < 20; n++) {
                    Checks.equal(client.stringCall("call " + n), "CALL " + n, "answer");
                }
                client.close();
            }
        }
    }

    static void channelErrors() throws Exception {
        try (Connection connection = factory().newConnection()) {
            String name = unique("no");
            try {
                connection.createChannel().queueDeclarePassive(name);
                throw new AssertionError("found what is not there");
            } catch (IOException e) {
                AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) e.getCause()).getReason();
                Checks.equal(close.getReplyCode() + " " + close.getReplyText(), "404 NOT_FOUND - no queue '" + name + "' in vhost '/'", "text");
                Checks.equal(close.getClassId() + "." + close.getMethodId(), "50.10", "method");
            }
            Channel channel = connection.createChannel();
            channel.exchangeDeclare(name, "direct", false, true, null);
            try {
                channel.exchangeDeclare(name, "fanout", false, true, null);
                throw new AssertionError("redeclared");
            } catch (IOException e) {
                AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) e.getCause()).getReason();
                Checks.equal(close.getReplyText(), "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '" + name
                    + "' in vhost '/': received 'fanout' but current is 'direct'", "text");
            }
            Channel publishing = connection.createChannel();
            CountDownLatch closed = new CountDownLatch(1);
            publishing.addShutdownListener(signal -> closed.countDown());
            publishing.basicPublish("no-such-exchange", "k", null, bytes("x"));
            Checks.isTrue(closed.await(5, TimeUnit.SECONDS), "a publish to nowhere closes the channel");
            try {
                publishing.basicPublish("", "k", null, bytes("x"));
                throw new AssertionError("published on a closed channel");
            } catch (AlreadyClosedException e) {
                Checks.isTrue(e.getMessage().contains("NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'"), e.getMessage());
            }
            Checks.isTrue(connection.isOpen(), "the connection lives on");
        }
    }

    static void authentication() throws Exception {
        ConnectionFactory factory = factory();
        factory.setPassword("wrong");
        try {
            factory.newConnection().close();
            throw new AssertionError("let in");
        } catch (AuthenticationFailureException e) {
            Checks.isTrue(e.getMessage().contains("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."), e.getMessage());
        }
    }

    static void cancelNotification() throws Exception {
        try (Connection connection = factory().newConnection()) {
            Channel channel = connection.createChannel();
            String queue = channel.queueDeclare(unique("doomed"), false, false, false, null).getQueue();
            BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
            String tag = channel.basicConsume(queue, true, (t, delivery) -> { }, cancelled::add);
            connection.createChannel().queueDelete(queue);
            Checks.equal(cancelled.poll(5, TimeUnit.SECONDS), tag, "cancelled");
            Checks.isTrue(channel.isOpen(), "the channel lives on");
        }
    }

    static void manyChannels() throws Exception {
        try (Connection connection = factory().newConnection()) {
            List<Channel> channels = new ArrayList<>();
            for (int n = 0; n < 200; n++) {
                channels.add(connection.createChannel());
            }
            String queue = channels.get(0).queueDeclare().getQueue();
            Thread[] threads = new Thread[4];
            for (int t = 0; t < threads.length; t++) {
                int first = t * 50;
                threads[t] = new Thread(() -> {
                    try {
                        for (int n = first; n < first + 50; n++) {
                            channels.get(n).confirmSelect();
                            channels.get(n).basicPublish("", queue, null, bytes("x"));
                            channels.get(n).waitForConfirmsOrDie(5000);
                        }
                    } catch (Exception e) {
                        throw new IllegalStateException(e);
                    }
                });
                threads[t].start();
            }
            for (Thread thread : threads) {
                thread.join();
            }
            Checks.equal(channels.get(0).messageCount(queue), 200L, "messages");
        }
    }

    /** Two consumers of a quorum queue, of which one is served; it goes with a message in hand. */
    static void singleActiveConsumer() throws Exception {
        String queue = unique("work");
        try (Connection standing = factory().newConnection()) {
            Channel channel = standing.createChannel();
            channel.queueDeclare(queue, true, false, false, Map.of(
                "x-queue-type", "quorum", "x-single-active-consumer", true));
            Connection falling = factory().newConnection();
            Channel doomed = falling.createChannel();
            doomed.basicQos(1);
            BlockingQueue<String> first = new LinkedBlockingQueue<>();
            BlockingQueue<String> second = new LinkedBlockingQueue<>();
            doomed.basicConsume(queue, false, (t, delivery) -> first.add(text(delivery)), t -> { });
            channel.basicConsume(queue, false, (t, delivery) -> {
                second.add(text(delivery) + " " + delivery.getEnvelope().isRedeliver());
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }, t -> { });
            Channel publisher = standing.createChannel();
            publisher.confirmSelect();
            for (String body : List.of("one", "two")) {
                publisher.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes(body));
            }
            publisher.waitForConfirmsOrDie(5000);
            Checks.equal(first.poll(5, TimeUnit.SECONDS), "one", "the first consumer's");
            Checks.equal(second.poll(300, TimeUnit.MILLISECONDS), null, "the second consumer's");
            falling.abort();
            Checks.equal(second.poll(5, TimeUnit.SECONDS), "one true", "taken over");
            Checks.equal(second.poll(5, TimeUnit.SECONDS), "two false", "and on");
            publisher.queueDelete(queue);
        }
    }

    static String text(Delivery delivery) {
        return new String(delivery.getBody(), StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) {
        new Checks("java_client")
            .step("the server introduces itself", JavaClient::serverProperties)
            .step("properties and headers come back", JavaClient::propertiesAndHeaders)
            .step("asynchronous confirms cover every message", JavaClient::asynchronousConfirms)
            .step("a thousand messages keep their order", JavaClient::consumeInOrder)
            .step("mandatory messages return", JavaClient::returns)
            .step("redelivery is flagged", JavaClient::redelivery)
            .step("transactions commit and roll back", JavaClient::transactions)
            .step("its RPC classes call and answer", JavaClient::rpcClasses)
            .step("channel errors carry code, text and method", JavaClient::channelErrors)
            .step("a bad password is told", JavaClient::authentication)
            .step("a deleted queue cancels its consumer", JavaClient::cancelNotification)
            .step("two hundred channels on four threads", JavaClient::manyChannels)
            .step("a single active consumer of a quorum queue is succeeded", JavaClient::singleActiveConsumer)
            .run();
    }
}
