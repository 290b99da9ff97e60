//! The messages of the load. Everything about one follows from the seed of the run and its number: where it goes, how
//! long it is, every octet of it. So what arrives is compared with what was sent without keeping either.

use leveret_testkit::random::Random;
use leveret_wire::method::{BasicPublish, ExchangeDeclare, QueueBind, QueueDeclare};
use leveret_wire::{FieldTable, Properties, RawTable};

use super::client::{Client, Ended};

/// Queues of the load, all durable.
pub(super) const QUEUES: usize = 8;
/// A topic exchange that gives one message to several queues.
const EXCHANGE: &str = "reliability.spread";
const ID_BYTES: usize = 8;

/// The name of a queue of the load.
pub(super) fn queue_name(queue: usize) -> String {
    format!("reliability.{queue}")
}

/// The queue with this name.
pub(super) fn queue_number(name: &str) -> Option<usize> {
    name.strip_prefix("reliability.")?.parse().ok().filter(|queue| *queue < QUEUES)
}

/// Declares queues, exchange and bindings of the load.
pub(super) fn declare_topology(client: &mut Client) -> Result<(), Ended> {
    declare_topology_of(client, FieldTable::new())
}

/// The same with arguments for the queues.
pub(super) fn declare_topology_of(client: &mut Client, arguments: FieldTable) -> Result<(), Ended> {
    let arguments = arguments.raw_bytes().map_err(|error| Ended::Garbled(format!("{error:?}")))?;
    let arguments = RawTable::parse(&arguments)?;
    client.call(ExchangeDeclare {
        exchange: EXCHANGE,
        kind: "topic",
        durable: true,
        ..Default::default()
    })?;
    for queue in 0..QUEUES {
        let name = queue_name(queue);
        client.call(QueueDeclare { queue: &name, durable: true, arguments, ..Default::default() })?;
        for routing_key in ["all".to_owned(), format!("half.{}", queue % 2), format!("quarter.{}", queue % 4)]
        {
            let bind = QueueBind {
                queue: &name,
                exchange: EXCHANGE,
                routing_key: &routing_key,
                ..Default::default()
            };
            client.call(bind)?;
        }
    }
    Ok(())
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    seed: u64,
    pub(super) id: u64,
}

/// Which queues it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    One(usize),
    Half(usize),
    Quarter(usize),
    All,
}

impl Message {
    pub(super) fn new(seed: u64, id: u64) -> Message {
        Message { seed, id }
    }

    /// The number a delivery carries.
    pub(super) fn id_of(message_id: &[u8]) -> Option<u64> {
        u64::from_str_radix(std::str::from_utf8(message_id).ok()?, 16).ok()
    }

    fn random(self, purpose: u64) -> Random {
        Random::new(self.seed ^ self.id.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ purpose)
    }

    fn route(self) -> Route {
        let mut random = self.random(1);
        match random.below(100) {
            0..80 => Route::One(random.below(QUEUES as u64) as usize),
            80..88 => Route::Half(random.below(2) as usize),
            88..96 => Route::Quarter(random.below(4) as usize),
            _ => Route::All,
        }
    }

    /// The queues it is for.
    pub(super) fn queues(self) -> impl Iterator<Item = usize> {
        let route = self.route();
        (0..QUEUES).filter(move |queue| match route {
            Route::One(one) => one == *queue,
            Route::Half(half) => half == queue % 2,
            Route::Quarter(quarter) => quarter == queue % 4,
            Route::All => true,
        })
    }

    /// Mostly small, some empty, a few up to 1 MiB.
    fn body_bytes(self) -> usize {
        let mut random = self.random(2);
        let (least, most) = match random.below(1000) {
            0..50 => (0, 0),
            50..850 => (1, 512),
            850..980 => (512, 16 << 10),
            980..998 => (16 << 10, 128 << 10),
            _ => (128 << 10, 1 << 20),
        };
        (least + random.below(most - least + 1)) as usize
    }

    /// Its number, as far as there is room, then octets that follow from it.
    pub(super) fn body(self) -> Vec<u8> {
        self.body_of(self.body_bytes())
    }

    /// The same for a size that the caller chooses.
    pub(super) fn body_of(self, size_bytes: usize) -> Vec<u8> {
        let mut random = self.random(3);
        let mut body = self.id.to_be_bytes().to_vec();
        body.reserve(size_bytes + ID_BYTES);
        while body.len() < size_bytes {
            body.extend(random.next().to_be_bytes());
        }
        body.truncate(size_bytes);
        body
    }

    pub(super) fn properties(self) -> Properties {
        Properties {
            delivery_mode: Some(2),
            message_id: Some(format!("{:x}", self.id).into_bytes()),
            ..Default::default()
        }
    }

    /// Appends its publish to what `client` flushes next.
    pub(super) fn publish(self, client: &mut Client) -> Result<(), Ended> {
        let (exchange, routing_key) = match self.route() {
            Route::One(queue) => ("", queue_name(queue)),
            Route::Half(half) => (EXCHANGE, format!("half.{half}")),
            Route::Quarter(quarter) => (EXCHANGE, format!("quarter.{quarter}")),
            Route::All => (EXCHANGE, "all".to_owned()),
        };
        let publish = BasicPublish { exchange, routing_key: &routing_key, ..Default::default() };
        client.publish(publish, &self.properties(), &self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_follows_from_seed_and_number() {
        let message = Message::new(7, 0xabc);
        assert_eq!(message.body(), Message::new(7, 0xabc).body());
        assert_eq!(Message::id_of(message.properties().message_id.as_deref().unwrap()), Some(0xabc));
        let sizes: Vec<usize> = (0..5000).map(|id| Message::new(7, id).body().len()).collect();
        assert!(sizes.contains(&0) && sizes.iter().all(|size| *size <= 1 << 20));
        assert!(sizes.iter().any(|size| *size > 128 << 10));
        let routes: Vec<usize> = (0..1000).map(|id| Message::new(7, id).queues().count()).collect();
        assert!([1, 2, 4, 8].iter().all(|count| routes.contains(count)));
    }

    #[test]
    fn queues_have_names() {
        assert_eq!(queue_number(&queue_name(3)), Some(3));
        assert_eq!(queue_number("reliability.8"), None);
        assert_eq!(queue_number("amq.topic"), None);
    }
}
