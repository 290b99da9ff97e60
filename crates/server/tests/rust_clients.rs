//! The two AMQP clients of the Rust world, lapin and amqprs, used as their users use them.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::pin::Pin;
use std::time::Duration;

use leveret_server::Broker;

const PATIENCE: Duration = Duration::from_secs(10);

async fn start() -> Broker {
    Broker::builder().in_memory().any_port().start().await.unwrap()
}

mod with_lapin {
    use futures_core::Stream;
    use lapin::message::Delivery;
    use lapin::options::*;
    use lapin::types::FieldTable;
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

    use super::*;

    const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

    async fn connect(broker: &Broker) -> Connection {
        Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap()
    }

    async fn declare(channel: &Channel, queue: &str, options: QueueDeclareOptions) -> String {
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        declared.name().to_string()
    }

    async fn consume(channel: &Channel, queue: &str, options: BasicConsumeOptions) -> Consumer {
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
    }

    async fn next(consumer: &mut Consumer) -> Delivery {
        let next = std::future::poll_fn(|context| Pin::new(&mut *consumer).poll_next(context));
        tokio::time::timeout(PATIENCE, next).await.expect("a delivery").expect("a consumer").unwrap()
    }

    async fn publish(channel: &Channel, routing_key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), routing_key.into(), options, body, properties);
        sent.await.unwrap().await.unwrap();
    }

    fn with_delivery_mode(delivery_mode: u8) -> BasicProperties {
        BasicProperties::default().with_delivery_mode(delivery_mode)
    }

    #[tokio::test]
    async fn every_publish_is_confirmed_and_the_unroutable_is_returned() {
        let broker = start().await;
        let channel = connect(&broker).await.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        declare(&channel, "q", QueueDeclareOptions::durable()).await;
        let check = async |routing_key: &str, mandatory, returned: Option<(u16, &str)>| {
            let options = BasicPublishOptions { mandatory, ..Default::default() };
            let properties = with_delivery_mode(2);
            let sent = channel.basic_publish("".into(), routing_key.into(), options, b"hello", properties);
            let confirmation = sent.await.unwrap().await.unwrap();
            assert!(confirmation.is_ack(), "{confirmation:?}");
            let message = confirmation.take_message();
            let got = message.as_ref().map(|message| (message.reply_code, message.reply_text.as_str()));
            assert_eq!(got, returned);
            assert!(message.is_none_or(|message| message.delivery.data == b"hello"));
        };
        check("q", false, None).await;
        check("q", true, None).await;
        check("nobody", false, None).await;
        check("nobody", true, Some((312, "NO_ROUTE"))).await;
        check("q", true, None).await;
        let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        assert_eq!(got.message_count, 2, "three were routed, one of them is here");
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_gone_and_what_is_refused_comes_again() {
        let broker = start().await;
        let connection = connect(&broker).await;
        let channel = connection.create_channel().await.unwrap();
        declare(&channel, "q", QueueDeclareOptions::default()).await;
        for body in [b"one", b"two"] {
            publish(&channel, "q", body, BasicProperties::default().with_message_id("id".into())).await;
        }
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let mut consumer = consume(&channel, "q", BasicConsumeOptions::default()).await;
        let first = next(&mut consumer).await;
        assert_eq!((&first.data[..], first.redelivered), (&b"one"[..], false));
        assert_eq!(first.properties.message_id().as_ref().map(|id| id.as_str()), Some("id"));
        first.nack(BasicNackOptions { requeue: true, ..Default::default() }).await.unwrap();
        let again = next(&mut consumer).await;
        assert_eq!((&again.data[..], again.redelivered), (&b"one"[..], true), "in its old place");
        again.ack(BasicAckOptions::default()).await.unwrap();
        let second = next(&mut consumer).await;
        assert_eq!((&second.data[..], second.redelivered), (&b"two"[..], false));
        // Not acknowledged: it goes back when the connection ends.
        connection.close(200, "bye".into()).await.unwrap();
        let channel = connect(&broker).await.create_channel().await.unwrap();
        let left = channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
        assert_eq!((&left.delivery.data[..], left.delivery.redelivered), (&b"two"[..], true));
        assert_eq!(channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap(), None);
    }

    /// Answers one request as RPC servers do, with the request's body in capitals.
    async fn serve_one(broker: &Broker) -> tokio::task::JoinHandle<()> {
        let channel = connect(broker).await.create_channel().await.unwrap();
        declare(&channel, "rpc", QueueDeclareOptions::default()).await;
        let mut requests = consume(&channel, "rpc", BasicConsumeOptions::default()).await;
        tokio::spawn(async move {
            let request = next(&mut requests).await;
            let reply_to = request.properties.reply_to().clone().expect("where to answer");
            let id = request.properties.correlation_id().clone().expect("what is answered");
            let properties = BasicProperties::default().with_correlation_id(id);
            publish(&channel, reply_to.as_str(), &request.data.to_ascii_uppercase(), properties).await;
            request.ack(BasicAckOptions::default()).await.unwrap();
        })
    }

    async fn check_call(channel: &Channel, reply_to: &str, replies: &mut Consumer) {
        let properties =
            BasicProperties::default().with_reply_to(reply_to.into()).with_correlation_id("call-1".into());
        publish(channel, "rpc", b"shout", properties).await;
        let reply = next(replies).await;
        assert_eq!(reply.data, b"SHOUT");
        assert_eq!(reply.properties.correlation_id().as_ref().map(|id| id.as_str()), Some("call-1"));
    }

    #[tokio::test]
    async fn a_call_is_answered_on_an_exclusive_queue() {
        let broker = start().await;
        let server = serve_one(&broker).await;
        let channel = connect(&broker).await.create_channel().await.unwrap();
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let reply_to = declare(&channel, "", exclusive).await;
        assert!(reply_to.starts_with("amq.gen-"), "{reply_to}");
        let mut replies = consume(&channel, &reply_to, BasicConsumeOptions::default()).await;
        check_call(&channel, &reply_to, &mut replies).await;
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_is_answered_directly() {
        let broker = start().await;
        let server = serve_one(&broker).await;
        let channel = connect(&broker).await.create_channel().await.unwrap();
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut replies = consume(&channel, DIRECT_REPLY_TO, no_ack).await;
        check_call(&channel, DIRECT_REPLY_TO, &mut replies).await;
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_confirmed_message_survives_a_stop_and_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let start = || Broker::builder().data_dir(directory.path()).any_port().start();
        let broker = start().await.unwrap();
        let channel = connect(&broker).await.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        declare(&channel, "kept", QueueDeclareOptions::durable()).await;
        declare(&channel, "lost", QueueDeclareOptions::default()).await;
        publish(&channel, "kept", b"transient", with_delivery_mode(1)).await;
        publish(&channel, "kept", b"persistent", with_delivery_mode(2)).await;
        broker.stop().await.unwrap();
        let broker = start().await.unwrap();
        assert!(broker.condition().clean);
        let channel = connect(&broker).await.create_channel().await.unwrap();
        let got = channel.basic_get("kept".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
        assert_eq!(got.delivery.data, b"persistent");
        assert_eq!(got.message_count, 0, "the transient one is gone");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let gone = channel.queue_declare("lost".into(), passive, FieldTable::default()).await;
        assert!(gone.is_err_and(|error| error.to_string().contains("NOT_FOUND")));
        broker.stop().await.unwrap();
    }
}

mod with_amqprs {
    use amqprs::callbacks::ChannelCallback;
    use amqprs::channel::*;
    use amqprs::connection::{Connection, OpenConnectionArguments};
    use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, DELIVERY_MODE_PERSISTENT, Nack, Return};
    use async_trait::async_trait;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;

    async fn connect(broker: &Broker) -> Connection {
        let address = broker.addresses()[0];
        let (host, port) = (address.ip().to_string(), address.port());
        let arguments = OpenConnectionArguments::new(&host, port, "guest", "guest");
        Connection::open(&arguments).await.unwrap()
    }

    async fn publish(channel: &Channel, routing_key: &str, body: &[u8], properties: BasicProperties) {
        let arguments = BasicPublishArguments::new("", routing_key).mandatory(true).finish();
        channel.basic_publish(properties, body.to_vec(), arguments).await.unwrap();
    }

    async fn next<T>(messages: &mut UnboundedReceiver<T>) -> T {
        tokio::time::timeout(PATIENCE, messages.recv()).await.expect("a message").expect("a channel")
    }

    fn data(message: &ConsumerMessage) -> (&[u8], bool, u64) {
        let deliver = message.deliver.as_ref().unwrap();
        (message.content.as_deref().unwrap(), deliver.redelivered(), deliver.delivery_tag())
    }

    #[derive(Debug, PartialEq, Eq)]
    enum News {
        /// Everything up to this tag is confirmed.
        Confirmed(u64),
        Refused(u64),
        Returned(u16, Vec<u8>),
    }

    struct Reporter(UnboundedSender<News>);

    #[async_trait]
    impl ChannelCallback for Reporter {
        async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
            Ok(())
        }
        async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
            Ok(())
        }
        async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
            Ok(active)
        }
        async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
            self.0.send(News::Confirmed(ack.delivery_tag())).unwrap();
        }
        async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
            self.0.send(News::Refused(nack.delivery_tag())).unwrap();
        }
        async fn publish_return(&mut self, _: &Channel, returned: Return, _: BasicProperties, body: Vec<u8>) {
            self.0.send(News::Returned(returned.reply_code(), body)).unwrap();
        }
    }

    #[tokio::test]
    async fn every_publish_is_confirmed_and_the_unroutable_is_returned() {
        let broker = start().await;
        let connection = connect(&broker).await;
        let channel = connection.open_channel(None).await.unwrap();
        let (sender, mut news) = unbounded_channel();
        channel.register_callback(Reporter(sender)).await.unwrap();
        channel.confirm_select(ConfirmSelectArguments::default()).await.unwrap();
        channel.queue_declare(QueueDeclareArguments::durable_client_named("q")).await.unwrap();
        let persistent = BasicProperties::default().with_delivery_mode(DELIVERY_MODE_PERSISTENT).finish();
        publish(&channel, "q", b"routed", persistent.clone()).await;
        assert_eq!(next(&mut news).await, News::Confirmed(1));
        publish(&channel, "nobody", b"back", persistent).await;
        assert_eq!(next(&mut news).await, News::Returned(312, b"back".to_vec()));
        assert_eq!(next(&mut news).await, News::Confirmed(2));
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_gone_and_what_is_refused_comes_again() {
        let broker = start().await;
        let connection = connect(&broker).await;
        let channel = connection.open_channel(None).await.unwrap();
        channel.queue_declare(QueueDeclareArguments::new("q")).await.unwrap();
        publish(&channel, "q", b"one", BasicProperties::default()).await;
        publish(&channel, "q", b"two", BasicProperties::default()).await;
        channel.basic_qos(BasicQosArguments::new(0, 1, false)).await.unwrap();
        let arguments = BasicConsumeArguments::new("q", "consumer");
        let (consumer_tag, mut messages) = channel.basic_consume_rx(arguments).await.unwrap();
        assert_eq!(consumer_tag, "consumer");
        assert_eq!(data(&next(&mut messages).await), (&b"one"[..], false, 1));
        channel.basic_nack(BasicNackArguments::new(1, false, true)).await.unwrap();
        assert_eq!(data(&next(&mut messages).await), (&b"one"[..], true, 2));
        channel.basic_ack(BasicAckArguments::new(2, false)).await.unwrap();
        assert_eq!(data(&next(&mut messages).await), (&b"two"[..], false, 3));
        channel.basic_ack(BasicAckArguments::new(3, false)).await.unwrap();
        channel.basic_cancel(BasicCancelArguments::new("consumer")).await.unwrap();
        assert!(channel.basic_get(BasicGetArguments::new("q")).await.unwrap().is_none(), "both are gone");
        publish(&channel, "q", b"three", BasicProperties::default()).await;
        let (get_ok, _, body) = channel.basic_get(BasicGetArguments::new("q")).await.unwrap().unwrap();
        assert_eq!((get_ok.redelivered(), get_ok.message_count(), &body[..]), (false, 0, &b"three"[..]));
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_call_is_answered_on_an_exclusive_queue() {
        let broker = start().await;
        let (client, server) = (connect(&broker).await, connect(&broker).await);
        let answering = server.open_channel(None).await.unwrap();
        answering.queue_declare(QueueDeclareArguments::new("rpc")).await.unwrap();
        let arguments = BasicConsumeArguments::new("rpc", "").auto_ack(true).finish();
        let (_, mut requests) = answering.basic_consume_rx(arguments).await.unwrap();
        let asking = client.open_channel(None).await.unwrap();
        let exclusive = QueueDeclareArguments::exclusive_server_named();
        let (reply_to, ..) = asking.queue_declare(exclusive).await.unwrap().unwrap();
        let arguments = BasicConsumeArguments::new(&reply_to, "").auto_ack(true).finish();
        let (_, mut replies) = asking.basic_consume_rx(arguments).await.unwrap();

        let question = BasicProperties::default().with_reply_to(&reply_to).with_correlation_id("7").finish();
        publish(&asking, "rpc", b"ping", question).await;
        let request = next(&mut requests).await;
        assert_eq!(request.content.as_deref(), Some(&b"ping"[..]));
        let properties = request.basic_properties.unwrap();
        let (address, id) = (properties.reply_to().unwrap(), properties.correlation_id().unwrap());
        publish(&answering, address, b"pong", BasicProperties::default().with_correlation_id(id).finish())
            .await;
        let reply = next(&mut replies).await;
        assert_eq!(reply.content.as_deref(), Some(&b"pong"[..]));
        assert_eq!(reply.basic_properties.unwrap().correlation_id().map(String::as_str), Some("7"));
        client.close().await.unwrap();
        server.close().await.unwrap();
    }
}
