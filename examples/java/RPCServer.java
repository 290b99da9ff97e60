import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** The tutorial's RPC server: Fibonacci numbers from rpc_queue, one at a time. */
public final class RPCServer {
    private static long fib(long n) {
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
    }

    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"));
        Channel channel = factory.newConnection().createChannel();
        channel.queueDeclare("rpc_queue", true, false, false, null);
        channel.basicQos(1);
        channel.basicConsume("rpc_queue", false, (tag, request) -> {
            long n = Long.parseLong(new String(request.getBody(), StandardCharsets.UTF_8));
            System.out.println(" [.] fib(" + n + ")");
            AMQP.BasicProperties.Builder properties = new AMQP.BasicProperties.Builder()
                .correlationId(request.getProperties().getCorrelationId());
            String answer = "";
            if (n < 0) {
                // Two headers, and callers that know them see an error.
                properties.headers(Map.of("rpc-status", "INVALID_ARGUMENT", "rpc-error", "there is no fib(" + n + ")"));
            } else {
                answer = String.valueOf(fib(n));
            }
            channel.basicPublish("", request.getProperties().getReplyTo(), properties.build(),
                answer.getBytes(StandardCharsets.UTF_8));
            channel.basicAck(request.getEnvelope().getDeliveryTag(), false);
        }, tag -> { });
        System.out.println(" [x] Awaiting RPC requests");
    }
}
