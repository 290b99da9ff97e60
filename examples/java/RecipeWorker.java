import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The recipe's worker: {@code RecipeWorker NAME} answers until it is ended. */
public final class RecipeWorker {
    private static String field(String json, String name) {
        Matcher matcher = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
        return matcher.find() ? matcher.group(1) : null;
    }

    public static void main(String[] arguments) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"));
        Channel channel = factory.newConnection().createChannel();
        channel.queueDeclare("questions", true, false, false, null);
        channel.basicQos(1);
        channel.basicConsume("questions", false, (tag, delivery) -> {
            String request = new String(delivery.getBody(), StandardCharsets.UTF_8);
            String question = field(request, "q");
            String qid = field(request, "qid");
            System.out.println("working " + question);
            if (qid != null) {
                String answer = "{\"qid\":\"" + qid + "\",\"a\":\"" + question.toUpperCase(Locale.ROOT) + "\",\"by\":\"" + arguments[0] + "\"}";
                channel.basicPublish("amq.topic", qid, null, answer.getBytes(StandardCharsets.UTF_8));
            }
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            System.out.println("done " + question);
        }, tag -> { });
        System.out.println("ready");
    }
}
