import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.charset.StandardCharsets;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The recipe's client: {@code RecipeClient QUESTION} prints the answer. */
public final class RecipeClient {
    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"));
        try (Connection connection = factory.newConnection()) {
            String qid = UUID.randomUUID().toString();
            Channel channel = connection.createChannel();
            channel.queueDeclare("questions", true, false, false, null);
            String responseQueue = channel.queueDeclare().getQueue();
            channel.queueBind(responseQueue, "amq.topic", qid);
            BlockingQueue<String> answers = new LinkedBlockingQueue<>();
            channel.basicConsume(responseQueue, true,
                (tag, delivery) -> answers.add(new String(delivery.getBody(), StandardCharsets.UTF_8)), tag -> { });
            String wrapper = "{\"q\":\"" + arguments[0] + "\",\"qid\":\"" + qid + "\"}";
            channel.basicPublish("", "questions",
                new AMQP.BasicProperties.Builder().contentType("application/json").deliveryMode(2).build(),
                wrapper.getBytes(StandardCharsets.UTF_8));
            String answer = answers.poll(30, TimeUnit.SECONDS);
            channel.close();
            if (answer == null) {
                throw new IllegalStateException("no answer to " + qid);
            }
            System.out.println(answer);
        }
    }
}
