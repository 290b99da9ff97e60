import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** The tutorial's RPC client: {@code RPCClient N...}, with an exclusive callback queue and a correlation id per call. */
public final class RPCClient {
    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"));
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            String callbackQueue = channel.queueDeclare().getQueue();
            Map<String, CompletableFuture<Delivery>> waiting = new ConcurrentHashMap<>();
            channel.basicConsume(callbackQueue, true, (tag, answer) -> {
                CompletableFuture<Delivery> call = waiting.remove(answer.getProperties().getCorrelationId());
                if (call != null) {
                    call.complete(answer);
                }
            }, tag -> { });
            for (String n : arguments) {
                System.out.println(" [x] Requesting fib(" + n + ")");
                String correlationId = UUID.randomUUID().toString();
                CompletableFuture<Delivery> call = new CompletableFuture<>();
                waiting.put(correlationId, call);
                channel.basicPublish("", "rpc_queue", new AMQP.BasicProperties.Builder()
                    .correlationId(correlationId).replyTo(callbackQueue).build(), n.getBytes(StandardCharsets.UTF_8));
                show(call.get(10, TimeUnit.SECONDS));
            }
        }
    }

    private static void show(Delivery answer) {
        Map<String, Object> headers = answer.getProperties().getHeaders();
        Object status = headers == null ? null : headers.get("rpc-status");
        if (status == null || status.toString().equals("OK")) {
            System.out.println(" [.] Got " + new String(answer.getBody(), StandardCharsets.UTF_8));
        } else { // only a worker that knows these headers sends them
            System.out.println(" [!] " + status + ": " + headers.get("rpc-error"));
        }
    }
}
