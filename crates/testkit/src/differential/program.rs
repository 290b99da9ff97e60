//! What a client does, as steps that follow from a seed. Names carry the seed, so that programs do not meet.

use crate::random::Random;
use crate::raw_client::message::{Content, Message, Properties};
use crate::raw_client::value::{FIELD_INT, Value};

const QUEUES: u64 = 4;
const EXCHANGES: u64 = 3;
const STEPS_MIN: u64 = 10;
const STEPS_MORE: u64 = 35;
const KEYS: [&str; 5] = ["a", "a.b", "a.b.c", "b", ""];
const PATTERNS: [&str; 6] = ["a", "a.*", "#", "*.b.#", "b", ""];

/// Which channel of which connection.
pub(super) type Place = (usize, u16);

/// One thing that a client does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Send(Place, Message),
    /// The same, unless a consumer of this tag is there already.
    Consume(Place, Message),
    /// Answers one of the deliveries that the channel holds; which, follows from the number.
    Settle(Place, u64, Answer),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Ack { multiple: bool },
    Nack { multiple: bool, requeue: bool },
    Reject { requeue: bool },
}

/// The program of a seed; `run` makes the names of another run of it different.
pub(super) fn program(seed: u64, run: &str) -> Vec<Step> {
    let mut maker =
        Maker { random: Random::new(seed), prefix: format!("{seed:x}.{run}"), bodies: 0, steps: Vec::new() };
    maker.set_up();
    for _ in 0..STEPS_MIN + maker.random.below(STEPS_MORE) {
        maker.step();
    }
    maker.look();
    maker.steps
}

struct Maker {
    random: Random,
    prefix: String,
    bodies: u64,
    steps: Vec<Step>,
}

fn method(name: &str) -> Message {
    Message::new(name).expect("the methods of a program are in methods.txt")
}

fn int(value: i128) -> Value {
    Value::Int { tag: FIELD_INT, value }
}

fn entry(name: &str, value: Value) -> (Vec<u8>, Value) {
    (name.as_bytes().to_vec(), value)
}

impl Maker {
    fn set_up(&mut self) {
        let place = (0, 1);
        for exchange in 0..EXCHANGES {
            let declare = self.declare_exchange(exchange);
            self.send(place, declare);
        }
        for queue in 0..QUEUES {
            let declare = self.declare_queue(queue);
            self.send(place, declare);
        }
        for _ in 0..5 {
            let bind = self.bind("queue.bind");
            self.send(place, bind);
        }
        for place in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            if self.random.chance(2, 3) {
                self.send(place, method("confirm.select"));
            }
        }
    }

    fn step(&mut self) {
        let place = (self.random.below(2) as usize, 1 + self.random.below(2) as u16);
        let message = match self.random.below(100) {
            0..32 => self.publish(),
            32..42 => {
                let no_ack = self.flag(1, 3);
                method("basic.get").with("queue", self.queue()).with("no-ack", no_ack)
            }
            42..57 => {
                let (pick, answer) = (self.random.next(), self.answer());
                return self.steps.push(Step::Settle(place, pick, answer));
            }
            57..65 => {
                let (place, consume) = self.consume();
                return self.steps.push(Step::Consume(place, consume));
            }
            65..68 => method("basic.cancel").with("consumer-tag", self.queue()),
            68..72 => {
                let count = int(i128::from(self.random.below(4)));
                method("basic.qos").with("prefetch-count", count).with("global", self.flag(1, 4))
            }
            72..74 => method("queue.purge").with("queue", self.queue()),
            74..79 => self.bind("queue.bind"),
            79..82 => self.bind("queue.unbind"),
            82..85 => self.delete_queue(),
            85..89 => {
                let queue = self.random.below(QUEUES);
                self.declare_queue(queue)
            }
            89..91 => {
                let exchange = self.random.below(EXCHANGES);
                self.declare_exchange(exchange)
            }
            91 => {
                method("exchange.delete").with("exchange", self.exchange()).with("if-unused", self.flag(1, 2))
            }
            92 => self.bind_exchange(),
            93..95 => method("basic.recover").with("requeue", Value::Bool(true)),
            95 => method("tx.select"),
            96 => method("tx.commit"),
            97 => method("tx.rollback"),
            98 => method("confirm.select"),
            _ => method("queue.declare").with("queue", self.queue()).with("passive", Value::Bool(true)),
        };
        self.send(place, message);
    }

    /// What is left: counts and contents.
    fn look(&mut self) {
        for queue in 0..QUEUES {
            let name = self.queue_name(queue);
            let passive =
                method("queue.declare").with("queue", name.clone()).with("passive", Value::Bool(true));
            self.send((1, 3), passive);
            for _ in 0..3 {
                let get = method("basic.get").with("queue", name.clone()).with("no-ack", Value::Bool(true));
                self.send((1, 3), get);
            }
        }
        for queue in 0..QUEUES {
            let delete = method("queue.delete").with("queue", self.queue_name(queue));
            self.send((0, 3), delete);
        }
        for exchange in 0..EXCHANGES {
            let delete = method("exchange.delete").with("exchange", self.exchange_name(exchange));
            self.send((0, 3), delete);
        }
    }

    fn send(&mut self, place: Place, message: Message) {
        self.steps.push(Step::Send(place, message));
    }

    fn flag(&mut self, wins: u64, tries: u64) -> Value {
        Value::Bool(self.random.chance(wins, tries))
    }

    fn queue_name(&self, queue: u64) -> Value {
        Value::text(&format!("{}.q{queue}", self.prefix))
    }

    fn exchange_name(&self, exchange: u64) -> Value {
        Value::text(&format!("{}.e{exchange}", self.prefix))
    }

    fn queue(&mut self) -> Value {
        let queue = self.random.below(QUEUES);
        self.queue_name(queue)
    }

    fn exchange(&mut self) -> Value {
        let exchange = self.random.below(EXCHANGES);
        self.exchange_name(exchange)
    }

    fn key(&mut self, keys: &[&str]) -> Value {
        Value::text(self.random.pick(keys).copied().unwrap_or_default())
    }

    /// For an exchange that all programs share.
    fn own_key(&mut self, keys: &[&str]) -> Value {
        let key = self.random.pick(keys).copied().unwrap_or_default();
        Value::text(&format!("{}.{key}", self.prefix))
    }

    fn declare_exchange(&mut self, exchange: u64) -> Message {
        let kind = self.key(&["direct", "fanout", "topic", "topic"]);
        let mut arguments = Vec::new();
        if self.random.chance(1, 5) {
            arguments.push(entry("alternate-exchange", self.exchange()));
        }
        method("exchange.declare")
            .with("exchange", self.exchange_name(exchange))
            .with("type", kind)
            .with("durable", self.flag(1, 2))
            .with("auto-delete", self.flag(1, 10))
            .with("internal", self.flag(1, 12))
            .with("arguments", Value::Table(arguments))
    }

    fn declare_queue(&mut self, queue: u64) -> Message {
        method("queue.declare")
            .with("queue", self.queue_name(queue))
            .with("durable", self.flag(1, 2))
            .with("exclusive", self.flag(1, 12))
            .with("auto-delete", self.flag(1, 10))
            .with("arguments", Value::Table(self.queue_arguments()))
    }

    fn queue_arguments(&mut self) -> Vec<(Vec<u8>, Value)> {
        let mut arguments = Vec::new();
        if self.random.chance(1, 3) {
            arguments.push(entry("x-max-length", int(i128::from(self.random.below(4)))));
            if self.random.chance(1, 2) {
                let overflow = self.key(&["drop-head", "reject-publish", "reject-publish-dlx", "bogus"]);
                arguments.push(entry("x-overflow", overflow));
            }
        }
        if self.random.chance(1, 4) {
            arguments.push(entry("x-max-priority", int(1 + i128::from(self.random.below(4)))));
        }
        if self.random.chance(1, 3) {
            let exchange = if self.random.chance(1, 2) { Value::text("") } else { self.exchange() };
            arguments.push(entry("x-dead-letter-exchange", exchange));
            if self.random.chance(1, 2) {
                arguments.push(entry("x-dead-letter-routing-key", self.queue()));
            }
        }
        if self.random.chance(1, 12) {
            let (name, value) = match self.random.below(4) {
                0 => ("x-max-length", int(-1)),
                1 => ("x-message-ttl", Value::text("soon")),
                2 => ("x-expires", int(0)),
                _ => ("x-nobody-knows", int(1)),
            };
            arguments.retain(|(known, _)| known != name.as_bytes());
            arguments.push(entry(name, value));
        }
        arguments
    }

    fn bind(&mut self, name: &str) -> Message {
        let (exchange, pattern) = if self.random.chance(1, 12) {
            (Value::text("amq.topic"), self.own_key(&PATTERNS))
        } else {
            (self.exchange(), self.key(&PATTERNS))
        };
        method(name).with("queue", self.queue()).with("exchange", exchange).with("routing-key", pattern)
    }

    fn bind_exchange(&mut self) -> Message {
        method("exchange.bind")
            .with("destination", self.exchange())
            .with("source", self.exchange())
            .with("routing-key", self.key(&PATTERNS))
    }

    fn delete_queue(&mut self) -> Message {
        let delete = method("queue.delete").with("queue", self.queue());
        delete.with("if-unused", self.flag(1, 3)).with("if-empty", self.flag(1, 3))
    }

    /// The tag is the queue's name: a queue has one consumer at most. Each consumer has its own channel, since nobody promises an
    /// order between queues.
    fn consume(&mut self) -> (Place, Message) {
        let number = self.random.below(QUEUES);
        let queue = self.queue_name(number);
        let consume = method("basic.consume")
            .with("queue", queue.clone())
            .with("consumer-tag", queue)
            .with("no-ack", self.flag(1, 3))
            .with("exclusive", self.flag(1, 8));
        ((number as usize / 2, 1 + number as u16 % 2), consume)
    }

    fn publish(&mut self) -> Message {
        self.bodies += 1;
        let (exchange, key) = match self.random.below(10) {
            0..4 => (Value::text(""), self.queue()),
            4 => (Value::text("amq.topic"), self.own_key(&KEYS)),
            _ => (self.exchange(), self.key(&KEYS)),
        };
        let mut properties: Properties = Vec::new();
        if self.random.chance(1, 2) {
            properties.push(("delivery-mode", int(2)));
        }
        if self.random.chance(1, 4) {
            properties.push(("priority", int(i128::from(self.random.below(6)))));
        }
        if self.random.chance(1, 5) {
            properties.push(("correlation-id", Value::text("c")));
        }
        let mut publish = method("basic.publish")
            .with("exchange", exchange)
            .with("routing-key", key)
            .with("mandatory", self.flag(1, 3));
        publish.content = Some(Content { properties, body: format!("m{}", self.bodies).into_bytes() });
        publish
    }

    fn answer(&mut self) -> Answer {
        let (multiple, requeue) = (self.random.chance(1, 4), self.random.chance(1, 2));
        match self.random.below(5) {
            0..3 => Answer::Ack { multiple },
            3 => Answer::Nack { multiple, requeue },
            _ => Answer::Reject { requeue },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program_and_another_run_of_it_has_other_names() {
        assert_eq!(program(7, "a"), program(7, "a"));
        assert_ne!(program(7, "a"), program(8, "a"));
        assert_eq!(program(7, "a").len(), program(7, "b").len());
        assert_ne!(program(7, "a"), program(7, "b"));
        for seed in 0..200 {
            for step in program(seed, "x") {
                if let Step::Send(_, message) | Step::Consume(_, message) = step {
                    message.encode_method().unwrap();
                }
            }
        }
    }
}
