//! Shovels of a real broker in this process, set up by parameters.

use leveret_admin::Shovels as _;
use leveret_broker::ParameterError;
use leveret_broker::ops::parameter::SetParameter;
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_client::{Channel, ConnectOptions, Connection, Publish, QueueDeclare};
use leveret_server::Broker;
use serde_json::{Value, json};

use super::*;

struct Stage {
    broker: Broker,
    shovels: Arc<Shovels>,
    channel: Channel,
}

impl Stage {
    async fn start() -> Stage {
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        let shovels = Shovels::start(broker.handle());
        let options = ConnectOptions::parse(&broker.url()).unwrap();
        let channel = Connection::open(&options).await.unwrap().channel().await.unwrap();
        for queue in ["from", "to"] {
            channel.declare_queue(&QueueDeclare::durable(queue)).await.unwrap();
        }
        Stage { broker, shovels, channel }
    }

    fn set(&self, user: &str, name: &str, value: &Value) -> Result<(), ParameterError> {
        let user = self.broker.rules().users.find(user).unwrap();
        let value = value.to_string();
        let set = SetParameter { component: COMPONENT, vhost: "/", name, value: &value };
        self.broker.rules().set_parameter(set, &user)
    }

    /// A user who may use queue `from` only.
    fn add_limited_user(&self) {
        let users = &self.broker.rules().users;
        users.add("limited", PasswordHash::new_public(b"secret").unwrap(), Vec::new()).unwrap();
        let permissions = Permissions::new("^from$", "^$", "^from$").unwrap();
        users.set_permissions("limited", "/", permissions).unwrap();
    }

    async fn publish(&self, count: u32) {
        for number in 0..count {
            let body = number.to_string();
            self.channel.publish(&Publish::to_queue("from", body.as_bytes())).await.unwrap();
        }
    }

    /// Waits until a queue has that many messages.
    async fn until(&self, queue: &str, messages: u32) {
        let waiting = async {
            while self.channel.declare_queue(&QueueDeclare::passive(queue)).await.unwrap().messages
                != messages
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    /// Waits until the only shovel is in that state.
    async fn until_state(&self, expected: &str) -> ShovelStatus {
        let waiting = async {
            loop {
                match &self.shovels.list()[..] {
                    [only] if only.state == expected => return only.clone(),
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap()
    }
}

fn here(more: Value) -> Value {
    let mut value =
        json!({"src-uri": "amqp://", "dest-uri": "amqp://", "src-queue": "from", "dest-queue": "to"});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_is_a_shovel_until_it_is_cleared() {
    let stage = Stage::start().await;
    stage.publish(20).await;
    stage.set("guest", "s", &here(json!({"dest-add-forward-headers": true}))).unwrap();
    stage.until("to", 20).await;
    let first = stage.channel.get("to", true).await.unwrap().unwrap();
    let stations = first.properties().headers().unwrap().find("x-shovelled").unwrap();
    let station = stations.as_array().unwrap()[0].as_table().unwrap();
    assert_eq!(station.get("shovel-name").and_then(|name| name.as_str()), Some("s"));
    assert_eq!(stage.until_state("running").await.moved, 20);
    stage.broker.rules().clear_parameter(COMPONENT, "/", "s").unwrap();
    while !stage.shovels.list().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.publish(1).await;
    stage.until("from", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shovel_that_has_moved_everything_clears_its_parameter() {
    let stage = Stage::start().await;
    stage.publish(20).await;
    stage.until("from", 20).await;
    stage.set("guest", "s", &here(json!({"src-delete-after": "queue-length"}))).unwrap();
    stage.until("to", 20).await;
    while !stage.broker.rules().parameters().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shovel_may_do_what_its_user_may() {
    let stage = Stage::start().await;
    stage.add_limited_user();
    stage.publish(3).await;
    stage.set("limited", "s", &here(json!({"reconnect-delay": 1}))).unwrap();
    let status = stage.until_state("terminated").await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("403") && reason.contains("refused for user 'limited'"), "{reason}");
    stage.until("from", 3).await;
    let all = Permissions::all();
    stage.broker.rules().users.set_permissions("limited", "/", all).unwrap();
    stage.until("to", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_that_the_user_may_not_enter_is_refused() {
    let stage = Stage::start().await;
    stage.add_limited_user();
    stage.broker.rules().add_vhost("other").unwrap();
    let check = |user: &str, uri: &str| {
        let refused = stage.set(user, "s", &here(json!({"dest-uri": uri}))).unwrap_err().to_string();
        let vhost = uri.trim_start_matches("amqp:///");
        let expected = format!("user \"{user}\" may not connect to vhost \"{vhost}\"");
        assert!(refused.contains(&expected), "{refused}");
    };
    check("limited", "amqp:///other");
    check("guest", "amqp:///other");
    check("guest", "amqp:///none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_shovel_goes_on() {
    let stage = Stage::start().await;
    stage.set("guest", "s", &here(json!({}))).unwrap();
    stage.until_state("running").await;
    stage.publish(5).await;
    stage.until("to", 5).await;
    assert!(stage.shovels.restart("/", "s") && !stage.shovels.restart("/", "t"));
    stage.publish(5).await;
    stage.until("to", 10).await;
}
