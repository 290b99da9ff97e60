//! What was allowed and no longer is ends within a second, also for a client that only waits for messages.

use std::time::{Duration, Instant};

use crate::support::{CHANNEL, Peer, plain};
use leveret_broker::definitions::{DefinedPermissions, Definitions};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_broker::{Batch, Broker as Rules};
use leveret_server::Broker;
use leveret_wire::Method;
use leveret_wire::method::BasicConsume;
use tokio::net::TcpStream;

const AT_ONCE: Duration = Duration::from_secs(1);

/// A broker with the virtual host `v` and the user `u`, who may do everything there.
async fn start() -> Broker {
    let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
    let rules = broker.rules();
    rules.add_vhost("v").unwrap();
    rules.users.set_permissions("guest", "v", Permissions::all()).unwrap();
    rules.users.add("u", PasswordHash::new_public(b"u").unwrap(), Vec::new()).unwrap();
    allow(rules, ".*", ".*");
    broker
}

fn allow(rules: &Rules, configure: &str, read: &str) {
    let permissions = Permissions::new(configure, ".*", read).unwrap();
    rules.users.set_permissions("u", "v", permissions).unwrap();
    rules.save_user("u").unwrap();
}

/// A consumer of the queue `name`.
async fn consumer(broker: &Broker, name: &str) -> Peer<TcpStream> {
    let stream = TcpStream::connect(broker.addresses()[0]).await.unwrap();
    let mut peer = Peer::log_in(stream, "PLAIN", &plain("u", "u")).await.unwrap();
    peer.enter("v", 0).await.unwrap();
    peer.declare(name).await;
    let consume = BasicConsume { queue: name, consumer_tag: "tag", ..Default::default() };
    peer.ask(CHANNEL, consume, "basic.consume-ok").await;
    peer
}

/// What a consumer of `q` hears when something changes: the name of the method and its text or tag.
async fn check(change: impl FnOnce(&Rules), expected: &str) {
    let broker = start().await;
    let mut peer = consumer(&broker, "q").await;
    let mut bystander = Peer::open(TcpStream::connect(broker.addresses()[0]).await.unwrap(), 0).await;
    change(broker.rules());
    let before = Instant::now();
    let frame = peer.frame().await.expect("the consumer is told");
    assert!(before.elapsed() < AT_ONCE, "{:?}", before.elapsed());
    let heard = match frame.method() {
        Method::ConnectionClose(close) => format!("{} {}", close.reply_code, close.reply_text),
        Method::BasicCancel(cancel) => format!("cancelled {}", cancel.consumer_tag),
        other => format!("{other:?}"),
    };
    assert_eq!(heard, expected);
    bystander.declare("others").await;
}

#[tokio::test]
async fn a_deleted_users_connections_are_closed() {
    let delete = |rules: &Rules| {
        assert!(rules.users.delete("u"));
        rules.save_user("u").unwrap();
    };
    check(delete, "320 CONNECTION_FORCED - user 'u' was deleted").await;
}

#[tokio::test]
async fn without_permissions_in_its_virtual_host_a_connection_is_closed() {
    let clear = |rules: &Rules| {
        rules.users.clear_permissions("u", "v").unwrap();
        rules.save_user("u").unwrap();
    };
    check(clear, "320 CONNECTION_FORCED - access to vhost 'v' refused for user 'u'").await;
}

#[tokio::test]
async fn a_consumer_that_may_no_longer_read_is_cancelled() {
    check(|rules| allow(rules, ".*", "^other"), "cancelled tag").await;
}

/// Definitions woke only the connections of users that they define.
#[tokio::test]
async fn definitions_that_take_a_permission_away_end_consumers_too() {
    let define = |rules: &Rules| {
        let permissions = Permissions::new(".*", ".*", "^other").unwrap();
        let permissions = DefinedPermissions { user: "u".into(), vhost: "v".into(), permissions };
        let definitions = Definitions { permissions: vec![permissions], ..Definitions::default() };
        rules.define(&definitions, None, &mut Batch::at(0)).unwrap();
    };
    check(define, "cancelled tag").await;
}

#[tokio::test]
async fn a_deleted_virtual_hosts_connections_are_closed() {
    // The queue goes first, and its consumer with it.
    check(
        |rules| rules.delete_vhost("v", &mut Batch::at(0)).unwrap(),
        "320 CONNECTION_FORCED - vhost 'v' is deleted",
    )
    .await;
}

#[tokio::test]
async fn what_is_still_allowed_goes_on() {
    let broker = start().await;
    let mut peer = consumer(&broker, "q").await;
    allow(broker.rules(), "", "^q");
    broker.rules().users.set_password("u", PasswordHash::new_public(b"new").unwrap()).unwrap();
    broker.rules().save_user("u").unwrap();
    peer.publish("q", b"m").await;
    peer.expect("basic.deliver").await;
    assert_eq!(peer.content().await, b"m");
}

#[tokio::test]
async fn nobody_enters_a_virtual_host_that_was_deleted_during_the_login() {
    let broker = start().await;
    let stream = TcpStream::connect(broker.addresses()[0]).await.unwrap();
    let mut peer = Peer::log_in(stream, "PLAIN", &plain("u", "u")).await.unwrap();
    assert!(broker.rules().users.delete("u"));
    broker.rules().save_user("u").unwrap();
    let refusal = peer.enter("v", 0).await.unwrap_err().unwrap();
    let Method::ConnectionClose(close) = refusal.method() else { panic!("{refusal:?}") };
    assert_eq!(close.reply_text, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'");
}
