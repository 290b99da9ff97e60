//! Links between real brokers in this process.

use leveret_admin::FederationLinks as _;
use leveret_broker::Batch;
use leveret_broker::ops::parameter::SetParameter;
use leveret_broker::policies::{Author, Policy};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_client::{Channel, Connection, Consume, Publish};
use leveret_server::Broker;
use leveret_wire::FieldValue;
use serde_json::{Value, json};

use super::*;

/// A broker with its links, and a client.
struct Place {
    broker: Broker,
    federation: Arc<Federation>,
    channel: Channel,
}

impl Place {
    async fn start(name: &str) -> Self {
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        broker.rules().set_global_parameter("cluster_name", &json!(name).to_string()).unwrap();
        let federation = Federation::start(broker.handle());
        let options = ConnectOptions::parse(&broker.url()).unwrap();
        let channel = Connection::open(&options).await.unwrap().channel().await.unwrap();
        Self { broker, federation, channel }
    }

    fn set(&self, user: &str, component: &str, name: &str, value: &Value) -> Result<(), String> {
        let user = self.broker.rules().users.find(user).unwrap();
        let value = value.to_string();
        let set = SetParameter { component, vhost: "/", name, value: &value };
        self.broker.rules().set_parameter(set, &user).map_err(|error| error.to_string())
    }

    fn upstream(&self, name: &str, of: &Place, more: &Value) {
        let mut value = json!({"uri": of.broker.url(), "reconnect-delay": 0.1});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.set("guest", UPSTREAM, name, &value).unwrap();
    }

    fn policy(&self, pattern: &str, setting: (&str, &str)) {
        let policy =
            Policy::new(Author::User, "fed", pattern, "all", 0, FieldTable::from([setting])).unwrap();
        let mut batch = Batch::at_us(1);
        self.broker.rules().set_policy("/", Author::User, policy, &mut batch).unwrap();
        self.broker.handle().finish(&mut batch);
    }

    async fn exchange(&self, name: &str) {
        self.channel.declare_exchange(&ExchangeDeclare::durable(name, "topic")).await.unwrap();
    }

    async fn bound_queue(&self, queue: &str, exchange: &str, key: &str) {
        self.channel.declare_queue(&QueueDeclare::durable(queue)).await.unwrap();
        self.channel.bind_queue(queue, exchange, key, FieldTable::new()).await.unwrap();
    }

    async fn publish(&self, exchange: &str, key: &str, body: &str) {
        self.channel.publish(&Publish::new(exchange, key, body.as_bytes())).await.unwrap();
    }

    async fn links(&self, count: usize, state: &str) -> Vec<LinkStatus> {
        let fits = || {
            let links = self.federation.list();
            let fit = links.len() == count && links.iter().all(|link| link.state == state);
            fit.then_some(links)
        };
        until(fits, || format!("{:?}", self.federation.list())).await
    }

    /// Waits for the keys with which an exchange is bound.
    async fn bound(&self, exchange: &str, keys: &[&str]) {
        let vhost = self.broker.rules().vhost("/").unwrap();
        let bound = || {
            let exchange = vhost.exchange(exchange)?;
            let bindings = exchange.bindings.read();
            let mut bound: Vec<_> = bindings.iter().map(|(_, key, _)| key.to_owned()).collect();
            bound.sort_unstable();
            Some(bound)
        };
        let fits = || bound().filter(|bound| bound == keys).map(drop);
        until(fits, || format!("{exchange} {:?}", bound())).await;
    }

    async fn take(&self, queue: &str) -> (String, FieldTable) {
        let taking = async {
            loop {
                if let Some(got) = self.channel.get(queue, true).await.unwrap() {
                    let headers = got.properties().to_properties().headers.unwrap_or_default();
                    return (String::from_utf8(got.body.to_vec()).unwrap(), headers);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taking).await.unwrap()
    }

    async fn waiting(&self, queue: &str) -> u32 {
        self.channel.declare_queue(&QueueDeclare::passive(queue)).await.unwrap().messages
    }

    fn queues(&self) -> Vec<String> {
        let vhost = self.broker.rules().vhost("/").unwrap();
        vhost.queues().iter().map(|queue| queue.name.to_string()).collect()
    }
}

async fn until<T>(mut fits: impl FnMut() -> Option<T>, tell: impl Fn() -> String) -> T {
    for _ in 0..2_000 {
        if let Some(found) = fits() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{}", tell())
}

/// `b` takes from `a` what is published to exchange `x`.
async fn two() -> (Place, Place) {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    b.exchange("x").await;
    b.upstream("up", &a, &json!({}));
    b.policy("^x$", (SET, "all"));
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_gets_what_is_bound_here() {
    let (a, b) = two().await;
    b.bound_queue("q", "x", "news.#").await;
    let link = b.links(1, "running").await.remove(0);
    a.bound("x", &["news.#"]).await;
    a.publish("x", "sports.ohio", "not wanted").await;
    a.publish("x", "news.ohio", "wanted").await;
    let (body, headers) = b.take("q").await;
    let stations = headers.get("x-received-from").and_then(FieldValue::as_array).unwrap().to_vec();
    let station = stations[0].as_table().unwrap();
    let text = |name: &str| station.get(name).and_then(FieldValue::as_str);
    assert_eq!((&*body, text("cluster-name"), text("exchange")), ("wanted", Some("a"), Some("x")));
    assert_eq!((link.upstream_name.as_str(), link.consumer_tag), ("x", None));
    assert!(link.local_connection.is_some_and(|name| name.starts_with("memory:")));
    assert!(a.queues().contains(&"federation: x -> b".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_are_followed() {
    let (a, b) = two().await;
    b.bound_queue("q", "x", "one").await;
    a.bound("x", &["one"]).await;
    b.bound_queue("r", "x", "one").await;
    b.exchange("y").await;
    b.channel.bind_exchange("y", "x", "two", FieldTable::new()).await.unwrap();
    a.bound("x", &["one", "two"]).await;
    b.channel.unbind_queue("q", "x", "one", FieldTable::new()).await.unwrap();
    b.channel.unbind_exchange("y", "x", "two", FieldTable::new()).await.unwrap();
    a.bound("x", &["one"]).await;
    b.channel.delete_queue("r").await.unwrap();
    a.bound("x", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_both_ways_stops() {
    let (a, b) = two().await;
    a.upstream("up", &b, &json!({"max-hops": 5}));
    b.upstream("up", &a, &json!({"max-hops": 5}));
    a.policy("^x$", (UPSTREAM, "up"));
    a.exchange("x").await;
    a.bound_queue("q", "x", "#").await;
    b.bound_queue("q", "x", "#").await;
    a.links(1, "running").await;
    b.links(1, "running").await;
    // What is bound for the other broker is not bound for it once more.
    a.bound("x", &["#", "#"]).await;
    b.bound("x", &["#", "#"]).await;
    a.publish("x", "k", "of a").await;
    b.publish("x", "k", "of b").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((a.waiting("q").await, b.waiting("q").await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_as_long_as_its_hops() {
    let (a, b) = two().await;
    let (c, d) = (Place::start("c").await, Place::start("d").await);
    for (from, to) in [(&a, &b), (&b, &c), (&c, &d)] {
        to.upstream("up", from, &json!({"max-hops": 2}));
        to.policy("^x$", ("federation-upstream-pattern", "^u"));
        to.exchange("x").await;
        to.links(1, "running").await;
    }
    for site in [&b, &c, &d] {
        site.bound_queue("q", "x", "k").await;
    }
    // The binding of d goes as far as b, where that of c goes to a.
    b.bound("x", &["k", "k", "k"]).await;
    a.bound("x", &["k", "k"]).await;
    a.publish("x", "k", "far").await;
    assert_eq!(b.take("q").await.0, "far");
    assert_eq!(c.take("q").await.0, "far");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(d.waiting("q").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_federated_no_more_leaves_nothing_behind() {
    let (a, b) = two().await;
    b.bound_queue("q", "x", "k").await;
    a.bound("x", &["k"]).await;
    let vhost = a.broker.rules().vhost("/").unwrap();
    let left =
        || vhost.exchanges().iter().filter(|exchange| exchange.name.starts_with("federation:")).count();
    assert_eq!((a.queues().len(), left()), (1, 1));
    b.broker.rules().clear_parameter(UPSTREAM, "/", "up").unwrap();
    b.links(0, "").await;
    until(|| (a.queues().is_empty() && left() == 0).then_some(()), || format!("{:?}", a.queues())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_the_link_is_away_comes_later() {
    let (a, b) = two().await;
    b.bound_queue("q", "x", "k").await;
    a.bound("x", &["k"]).await;
    b.federation.stop().await;
    a.publish("x", "k", "meanwhile").await;
    let _again = Federation::start(b.broker.handle());
    assert_eq!(b.take("q").await.0, "meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_takes_while_it_is_wanted() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    a.channel.declare_queue(&QueueDeclare::durable("q")).await.unwrap();
    b.channel.declare_queue(&QueueDeclare::durable("q")).await.unwrap();
    b.upstream("up", &a, &json!({"prefetch-count": 1}));
    b.policy("^q$", (UPSTREAM, "up"));
    assert_eq!(b.links(1, "running").await[0].consumer_tag.as_deref(), Some("federation-link-up"));
    for body in ["1", "2", "3"] {
        a.publish("", "q", body).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((a.waiting("q").await, b.waiting("q").await), (3, 0));
    let mut consumer = b.channel.consume(&Consume::queue("q")).await.unwrap();
    for body in ["1", "2", "3"] {
        let delivery = consumer.next().await.unwrap();
        let headers = delivery.properties().to_properties().headers.unwrap();
        assert_eq!(
            (&*delivery.body, headers.get("x-original-routing-key")),
            (body.as_bytes(), Some(&"q".into()))
        );
        delivery.ack();
    }
    drop(consumer);
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.publish("", "q", "4").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((a.waiting("q").await, b.waiting("q").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_may_do_what_its_user_may() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let users = &b.broker.rules().users;
    users.add("limited", PasswordHash::new_public(b"secret").unwrap(), Vec::new()).unwrap();
    let value = json!({"uri": a.broker.url(), "reconnect-delay": 0.1});
    let refused = b.set("limited", UPSTREAM, "up", &value).unwrap_err();
    assert!(refused.contains("user \"limited\" may not connect to vhost \"/\""), "{refused}");
    users.set_permissions("limited", "/", Permissions::new("", "^$", "").unwrap()).unwrap();
    b.set("limited", UPSTREAM, "up", &value).unwrap();
    b.exchange("x").await;
    b.bound_queue("q", "x", "k").await;
    b.policy("^x$", (UPSTREAM, "up"));
    a.bound("x", &["k"]).await;
    a.publish("x", "k", "kept").await;
    let error = b.links(1, "error").await[0].error.clone().unwrap();
    assert!(error.contains("403") && error.contains("user 'limited'"), "{error}");
    users.set_permissions("limited", "/", Permissions::all()).unwrap();
    assert_eq!(b.take("q").await.0, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_one_name_are_told_apart_first() {
    let (a, b) = two().await;
    b.broker.rules().set_global_parameter("cluster_name", "\"a\"").unwrap();
    let error = b.links(1, "error").await[0].error.clone().unwrap();
    assert!(error.contains("the upstream calls itself 'a' as this broker does"), "{error}");
    b.broker.rules().set_global_parameter("cluster_name", "\"c\"").unwrap();
    b.links(1, "running").await;
    until(
        || a.queues().contains(&"federation: x -> c".to_owned()).then_some(()),
        || format!("{:?}", a.queues()),
    )
    .await;
}

#[test]
fn upstream_queues_are_called_as_by_rabbitmq() {
    let check = |exchange: &str, vhost: &str, downstream: &str, expected: &str| {
        let here = Site { cluster: "me".into(), vhost: "/".into() };
        assert_eq!(upstream_queue(exchange, vhost, &here, downstream), expected);
    };
    check("x", "/", "x", "federation: x -> me");
    check("x", "/", "y", "federation: x -> me:y");
    check("x", "far", "x", "federation: x -> me:/:x");
}
