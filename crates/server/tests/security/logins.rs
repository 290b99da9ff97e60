//! Wrong passwords: how many are looked at, what they cost others, and what is told of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Peer, plain};
use leveret_broker::attempts::{Door, Tries};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_server::Broker;
use tokio::net::{TcpSocket, TcpStream};

const FAILURES_MAX: usize = 10;

async fn start() -> Broker {
    let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
    let users = &broker.rules().users;
    users.add("u", PasswordHash::new(b"right").unwrap(), Vec::new()).unwrap();
    users.set_permissions("u", "/", Permissions::all()).unwrap();
    broker
}

async fn log_in(broker: &Broker, user: &str, password: &str) -> bool {
    let stream = TcpStream::connect(broker.addresses()[0]).await.unwrap();
    Peer::log_in(stream, "PLAIN", &plain(user, password)).await.is_ok()
}

/// From 127.0.1.`host`.
async fn log_in_from(broker: &Broker, host: u8, user: &str, password: &str) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 1, host], 0).into()).unwrap();
    let stream = socket.connect(broker.addresses()[0]).await.unwrap();
    Peer::log_in(stream, "PLAIN", &plain(user, password)).await.is_ok()
}

#[tokio::test]
async fn guessing_ends_and_those_who_were_in_before_still_get_in() {
    let broker = start().await;
    assert!(log_in(&broker, "guest", "guest").await);
    for _ in 0..FAILURES_MAX {
        assert!(!log_in(&broker, "u", "wrong").await);
    }
    let before = Instant::now();
    assert!(!log_in(&broker, "u", "right").await, "not looked at any more");
    assert!(before.elapsed() >= Duration::from_millis(900), "and not at once: {:?}", before.elapsed());
    let before = Instant::now();
    assert!(log_in(&broker, "guest", "guest").await, "somebody else at the same address");
    assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
    let tries = broker.rules().attempts.total(Door::Amqp);
    assert_eq!(tries, Tries { succeeded: 2, failed: FAILURES_MAX as u64 + 1 });
    let list = broker.rules().attempts.list();
    let guesses = list.iter().find(|one| one.user == "u").unwrap();
    assert_eq!(
        (guesses.source, guesses.tries.failed),
        (Some([127, 0, 0, 1].into()), FAILURES_MAX as u64 + 1)
    );
}

#[tokio::test]
async fn a_crowd_of_guesses_is_heard_one_after_the_other_and_soon_not_at_all() {
    let broker = Arc::new(start().await);
    let before = Instant::now();
    let mut crowd = tokio::task::JoinSet::new();
    for guess in 0..100 {
        let broker = broker.clone();
        crowd.spawn(async move { log_in(&broker, "u", &format!("wrong{guess}")).await });
    }
    assert!(crowd.join_all().await.iter().all(|let_in| !let_in));
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    assert_eq!(broker.rules().attempts.total(Door::Amqp), Tries { succeeded: 0, failed: 100 });
}

/// A hundred sources guess, each less often than it may; somebody logs in for the first time, from another one.
#[tokio::test]
async fn who_never_failed_does_not_stand_in_the_line_of_those_who_did() {
    let broker = Arc::new(start().await);
    let mut crowd = tokio::task::JoinSet::new();
    for source in 1..=100 {
        let broker = broker.clone();
        crowd.spawn(async move {
            for guess in 0..5 {
                log_in_from(&broker, source, &format!("u{guess}"), "wrong").await;
            }
        });
    }
    let failed = || broker.rules().attempts.total(Door::Amqp).failed;
    while failed() < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await; // until each of them has
    }
    let before = failed();
    assert!(log_in_from(&broker, 200, "u", "right").await);
    let overtaken_by = failed() - before;
    assert!(overtaken_by <= 4, "one is being heard, one is in line; {overtaken_by}");
    crowd.abort_all();
}

#[tokio::test]
async fn an_imported_hash_is_hashed_anew_at_the_first_login() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Broker::builder().data_dir(directory.path()).any_port().start();
    let broker = start().await.unwrap();
    let imported = PasswordHash::import(
        "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s",
        "rabbit_password_hashing_sha256",
    );
    broker.rules().users.add("i", imported.unwrap(), Vec::new()).unwrap();
    broker.rules().save_user("i").unwrap();
    assert!(log_in(&broker, "i", "test12").await);
    broker.stop().await.unwrap();
    let broker = start().await.unwrap();
    assert_eq!(broker.rules().users.password_hash("i").unwrap().export().1, "argon2id");
    assert!(log_in(&broker, "i", "test12").await && !log_in(&broker, "i", "wrong").await);
}
