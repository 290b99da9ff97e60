import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import java.nio.charset.StandardCharsets;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The recipe's client in Java: {@code java RecipeClient QUESTION} prints the answer. */
public final class RecipeClient {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = JavaClient.factory().newConnection()) {
            String qid = UUID.randomUUID().toString();
            Channel channel = connection.createChannel();
            channel.exchangeDeclare("answers", "topic", true);
            channel.queueDeclare("questions", true, false, false, null);
            String responseQueue = channel.queueDeclare().getQueue();
            channel.queueBind(responseQueue, "answers", qid);
            BlockingQueue<String> answers = new LinkedBlockingQueue<>();
            channel.basicConsume(responseQueue, true,
                (tag, delivery) -> answers.add(new String(delivery.getBody(), StandardCharsets.UTF_8)), tag -> { });
            String wrapper = "{\"q\":\"" + arguments[0] + "\",\"qid\":\"" + qid + "\"}";
            channel.basicPublish("", "questions",
                new AMQP.BasicProperties.Builder().contentType("application/json").deliveryMode(2).build(),
                wrapper.getBytes(StandardCharsets.UTF_8));
            String answer = answers.poll(30, TimeUnit.SECONDS);
            Checks.isTrue(answer != null && answer.contains(qid), "no answer to " + qid + ": " + answer);
            channel.close();
            System.out.println(answer);
        }
    }
}
