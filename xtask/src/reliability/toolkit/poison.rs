//! Messages that are wrong in one way each: a worker must get rid of every one and go on.

use leveret::content::Compression;
use leveret::{Client, Payload};
use leveret_client::Publish;
use leveret_testkit::random::Random;
use leveret_wire::{FieldTable, FieldValue, Properties};
use std::sync::OnceLock;
use std::time::Duration;

use super::job::WORK;

/// Messages for one fault: of many kinds, or so many of one kind that each could take a place of a worker.
const KINDS: u64 = 12;
const DOSES: u64 = 60;
/// Longer means that the connection is busy dying.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// More than a receiver unpacks.
const BOMB_BYTES: usize = leveret::content::DECOMPRESSED_MAX_BYTES + (1 << 20);
/// Nearly all that fits into a frame: nothing can be added to such headers.
const FULL_HEADERS_BYTES: usize = 130_900;

struct Poison {
    name: &'static str,
    properties: Properties,
    body: Vec<u8>,
}

/// Sends poison to the service. What the broker itself refuses costs only the channel it came on.
pub(super) async fn send_some(client: &Client, random: &mut Random) -> String {
    let all = poisons();
    let (kinds, doses) = if random.chance(1, 2) { (1, DOSES) } else { (KINDS, 1) };
    let mut sent = Vec::new();
    for _ in 0..kinds {
        let Some(poison) = random.pick(&all) else { break };
        // Unpacking is work, and takes memory: one bomb at a time.
        let doses = if poison.name == BOMB { 1 } else { doses };
        sent.push(format!("{doses} × {}", poison.name));
        for _ in 0..doses {
            let _refused_or_late = tokio::time::timeout(PUBLISH_TIMEOUT, send(client, poison)).await;
        }
    }
    sent.join(", ")
}

async fn send(client: &Client, poison: &Poison) {
    let Ok(connection) = client.connection().await else { return };
    let Ok(channel) = connection.channel().await else { return };
    let publish = Publish { properties: &poison.properties, ..Publish::to_queue(WORK, &poison.body) };
    if channel.publish(&publish).await.is_ok() {
        let _the_broker_may_have_closed_it = channel.close().await;
    }
}

const BOMB: &str = "zip bomb";

fn poisons() -> Vec<Poison> {
    let mut all = wrong_headers();
    all.extend(wrong_properties());
    all.extend(wrong_bodies());
    all
}

fn wrong_headers() -> Vec<Poison> {
    let names = ["rpc-deadline", "rpc-attempt", "rpc-stream", "rpc-caller", "rpc-accept", "traceparent"];
    let table = |value: FieldValue| FieldTable(names.map(|name| (name.to_owned(), value.clone())).to_vec());
    let mut deep = FieldValue::Bool(true);
    for _ in 0..24 {
        deep = FieldValue::Array(vec![deep]);
    }
    let text = |text: &[u8]| FieldValue::LongString(text.to_vec());
    [
        ("headers are text", table(text(b"soon"))),
        ("headers are octets that are no text", table(text(&[0xff, 0xfe]))),
        ("headers are lists", table(FieldValue::Array(vec![FieldValue::I64(1)]))),
        ("headers are negative", table(FieldValue::I64(i64::MIN))),
        ("headers are enormous", table(FieldValue::I64(i64::MAX))),
        ("headers are deep", table(deep)),
        ("headers fill the frame", full_headers()),
        ("an answer", one("rpc-status", text(b"OK"))),
        ("a forged delivery count", one("x-delivery-count", FieldValue::I64(i64::MAX))),
        ("a forged death", one("x-death", text(b"expired"))),
    ]
    .map(|(name, headers)| Poison {
        name,
        properties: Properties { headers: Some(headers), ..asking() },
        body: b"\"Quick\"".to_vec(),
    })
    .into()
}

fn one(name: &str, value: FieldValue) -> FieldTable {
    FieldTable(vec![(name.to_owned(), value)])
}

fn full_headers() -> FieldTable {
    one("filler", FieldValue::LongString(vec![b'x'; FULL_HEADERS_BYTES]))
}

/// A request whose answer goes nowhere.
fn asking() -> Properties {
    Properties {
        content_type: Some(b"application/json".to_vec()),
        correlation_id: Some(b"poison".to_vec()),
        reply_to: Some(b"campaign.nobody".to_vec()),
        ..Properties::default()
    }
}

fn wrong_properties() -> Vec<Poison> {
    let long = || Some(vec![b'i'; 255]);
    let garbage = || Some(vec![0xff; 255]);
    [
        ("ids of 255 octets", Properties { correlation_id: long(), message_id: long(), ..asking() }),
        ("ids that are no text", Properties { correlation_id: garbage(), message_id: garbage(), ..asking() }),
        ("a reply-to of 255 octets", Properties { reply_to: long(), ..asking() }),
        ("a reply-to that is no text", Properties { reply_to: garbage(), ..asking() }),
        (
            "a reply-to in a missing exchange",
            Properties { reply_to: Some(b"campaign.missing/key".to_vec()), ..asking() },
        ),
        ("a reply-to to the service", Properties { reply_to: Some(WORK.into()), ..asking() }),
        (
            "a forged direct reply-to",
            Properties { reply_to: Some(b"amq.rabbitmq.reply-to.g1h2AA.forged".to_vec()), ..asking() },
        ),
        ("an expiration that is no number", Properties { expiration: Some(b"soon".to_vec()), ..asking() }),
        ("an unknown type", Properties { content_type: Some(b"application/x-nothing".to_vec()), ..asking() }),
        ("an unknown encoding", Properties { content_encoding: Some(b"snappy".to_vec()), ..asking() }),
        ("a method nobody knows", Properties { kind: garbage(), ..asking() }),
        ("no properties", Properties::default()),
    ]
    .map(|(name, properties)| Poison { name, properties, body: b"\"Quick\"".to_vec() })
    .into()
}

fn wrong_bodies() -> Vec<Poison> {
    let gzip = || Properties { content_encoding: Some(b"gzip".to_vec()), ..asking() };
    let mut cut = bomb().to_vec();
    cut.truncate(40);
    let task = Properties { reply_to: None, ..asking() };
    let full = Properties { headers: Some(full_headers()), ..task.clone() };
    [
        ("a task that does not decode and fills the frame", full, b"{".to_vec()),
        ("truncated JSON", asking(), b"{\"Slow\":{\"ms\":".to_vec()),
        ("no JSON", asking(), vec![0xff; 100]),
        ("deep JSON", asking(), vec![b'['; 100_000]),
        ("nothing at all", asking(), Vec::new()),
        ("a task that does not decode", task, b"{".to_vec()),
        ("truncated gzip", gzip(), cut),
        (BOMB, gzip(), bomb().to_vec()),
    ]
    .map(|(name, properties, body)| Poison { name, properties, body })
    .into()
}

/// Small, and more than anybody unpacks.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let zeros = Payload::new("application/json", vec![0; BOMB_BYTES]);
        zeros.compress(Compression::Gzip).map(|packed| packed.body.to_vec()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bomb_is_one() {
        assert!((1..BOMB_BYTES / 100).contains(&bomb().len()), "{} octets", bomb().len());
    }
}
