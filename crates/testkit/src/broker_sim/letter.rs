//! What a message says: as it is published, as it must arrive, and with the deaths it has died.

use std::fmt;

use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

/// Why a queue gave a message up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Rejected,
    Expired,
    MaxLen,
    DeliveryLimit,
}

impl Reason {
    pub(super) const ALL: [Self; 4] = [Self::Rejected, Self::Expired, Self::MaxLen, Self::DeliveryLimit];

    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// An entry of `x-death`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Death {
    pub(super) queue: String,
    pub(super) reason: Reason,
    pub(super) count: i64,
    /// Of the first death of this kind, seconds since 1970; what follows is of it too.
    pub(super) time_s: u64,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) original_expiration: Option<String>,
}

/// What `x-first-death-*` and `x-last-death-*` say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) reason: Reason,
    pub(super) queue: String,
    pub(super) exchange: String,
}

/// A message without its place: two copies of a letter look the same to a client.
#[derive(Clone, PartialEq)]
pub(super) struct Letter {
    /// Names the publish that it goes back to.
    pub(super) number: u64,
    pub(super) body_len: usize,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) expiration_ms: Option<u64>,
    /// Newest first.
    pub(super) deaths: Vec<Death>,
    pub(super) first: Option<Ending>,
    pub(super) last: Option<Ending>,
    /// How often its delivery came to nothing, where that is counted; a dead letter starts anew.
    pub(super) attempts: Attempts,
}

/// What `x-delivery-count` and `x-acquired-count` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    pub(super) failed: i64,
    pub(super) acquired: i64,
}

impl Letter {
    /// The number of the message, and octets that only it has.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = self.number.to_le_bytes().to_vec();
        body.extend((8..self.body_len as u64).map(|at| (self.number.wrapping_mul(0x9E37_79B9) ^ at) as u8));
        body
    }

    /// The properties with the history.
    pub(super) fn properties(&self) -> Vec<u8> {
        let mut headers = FieldTable::default();
        if !self.deaths.is_empty() {
            let deaths = self.deaths.iter().map(Death::table).collect();
            headers.push("x-death", FieldValue::Array(deaths));
        }
        for (which, ending) in [("first", &self.first), ("last", &self.last)] {
            let Some(Ending { reason, queue, exchange }) = ending else { continue };
            headers.push(format!("x-{which}-death-reason"), text(reason.name()));
            headers.push(format!("x-{which}-death-queue"), text(queue));
            headers.push(format!("x-{which}-death-exchange"), text(exchange));
        }
        let properties = Properties {
            headers: (!headers.is_empty()).then_some(headers),
            delivery_mode: Some(if self.persistent { 2 } else { 1 }),
            priority: Some(self.priority),
            expiration: self.expiration_ms.map(|ms| ms.to_string().into_bytes()),
            ..Properties::default()
        };
        properties.encode().expect("short texts and small numbers have a form")
    }

    /// Whether both are the same but for how often their delivery came to nothing.
    pub(super) fn is_twin(&self, other: &Self) -> bool {
        self.number == other.number && Self { attempts: other.attempts, ..self.clone() } == *other
    }

    /// What the limits of a queue count, in octets: everything that is kept of a message.
    pub(super) fn size_bytes(&self) -> u64 {
        (6 + self.exchange.len() + self.key.len() + self.properties().len() + self.body_len) as u64
    }

    /// Reads what a client received; the error says what in it never was sent by anybody.
    pub(super) fn read(exchange: &str, key: &str, properties: &[u8], body: &[u8]) -> Result<Self, String> {
        let number = body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or("P7: short body")?;
        let properties = RawProperties::parse(properties)
            .map_err(|error| format!("P7: message {number} has damaged properties: {error:?}"))?
            .to_properties();
        let headers = properties.headers.unwrap_or_default();
        let deaths = match headers.get("x-death") {
            Some(FieldValue::Array(deaths)) => deaths.iter().map(Death::read).collect::<Option<_>>(),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        let count = |name| headers.get(name).and_then(FieldValue::as_i64).unwrap_or_default();
        let expiration = properties.expiration.map(|octets| String::from_utf8_lossy(&octets).parse());
        let letter = Self {
            number,
            body_len: body.len(),
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            persistent: properties.delivery_mode == Some(2),
            priority: properties.priority.unwrap_or_default(),
            expiration_ms: expiration.transpose().map_err(|_| format!("P7: expiration of {number}"))?,
            deaths: deaths.ok_or_else(|| format!("x-death of {number} is {:?}", headers.get("x-death")))?,
            first: ending(&headers, "first"),
            last: ending(&headers, "last"),
            attempts: Attempts { failed: count("x-delivery-count"), acquired: count("x-acquired-count") },
        };
        if letter.body() == body { Ok(letter) } else { Err(format!("P7: message {number} has another body")) }
    }

    /// The dead letter that it becomes in `queue`, sent to `exchange`, with another key if there is one.
    pub(super) fn dies(&self, queue: &str, reason: Reason, now_ms: u64, to: (&str, Option<&str>)) -> Self {
        let mut dead = self.clone();
        let again = dead.deaths.iter().position(|death| death.queue == queue && death.reason == reason);
        let death = match again {
            Some(at) => {
                let death = dead.deaths.remove(at);
                Death { count: death.count + 1, ..death }
            }
            None => Death {
                queue: queue.to_owned(),
                reason,
                count: 1,
                time_s: now_ms / 1000,
                exchange: self.exchange.clone(),
                key: self.key.clone(),
                original_expiration: self.expiration_ms.map(|ms| ms.to_string()),
            },
        };
        dead.deaths.insert(0, death);
        let ending = Ending { reason, queue: queue.to_owned(), exchange: self.exchange.clone() };
        dead.first.get_or_insert_with(|| ending.clone());
        dead.last = Some(ending);
        dead.attempts = Attempts::default();
        dead.expiration_ms = None;
        dead.exchange = to.0.to_owned();
        dead.key = to.1.unwrap_or(&self.key).to_owned();
        dead
    }

    /// Whether it comes to `queue` again without anybody having rejected it on the way.
    pub(super) fn has_gone_round(&self, queue: &str) -> bool {
        let until = self.deaths.iter().position(|death| death.queue == queue);
        until.is_some_and(|at| self.deaths[..=at].iter().all(|death| death.reason != Reason::Rejected))
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, body_len, exchange, key, persistent, priority, .. } = self;
        let mode = if *persistent { "" } else { " transient" };
        write!(f, "#{number} '{exchange}'/{key} priority {priority}{mode} {body_len} B")?;
        if let Some(ms) = self.expiration_ms {
            write!(f, " expiration {ms}")?;
        }
        if self.attempts != Attempts::default() {
            write!(f, " {:?}", self.attempts)?;
        }
        for Death { queue, reason, count, time_s, exchange, key, original_expiration } in &self.deaths {
            write!(f, " †{queue} {reason:?} ×{count} {time_s} s '{exchange}'/{key} {original_expiration:?}")?;
        }
        match (&self.first, &self.last) {
            (None, None) => Ok(()),
            (first, last) => write!(f, " first {first:?} last {last:?}"),
        }
    }
}

impl Death {
    fn table(&self) -> FieldValue {
        let mut table = FieldTable::default();
        table.push("count", FieldValue::I64(self.count));
        table.push("reason", text(self.reason.name()));
        table.push("queue", text(&self.queue));
        table.push("time", FieldValue::Timestamp(self.time_s));
        table.push("exchange", text(&self.exchange));
        table.push("routing-keys", FieldValue::Array(vec![text(&self.key)]));
        if let Some(expiration) = &self.original_expiration {
            table.push("original-expiration", text(expiration));
        }
        FieldValue::Table(table)
    }

    fn read(value: &FieldValue) -> Option<Self> {
        let table = value.as_table()?;
        let text = |key| table.get(key).and_then(FieldValue::as_str).map(str::to_owned);
        let time_s = match table.get("time")? {
            FieldValue::Timestamp(time_s) => *time_s,
            _ => return None,
        };
        let [key] = table.get("routing-keys")?.as_array()? else { return None };
        let death = Self {
            queue: text("queue")?,
            reason: Reason::of_name(&text("reason")?)?,
            count: table.get("count")?.as_i64()?,
            time_s,
            exchange: text("exchange")?,
            key: key.as_str()?.to_owned(),
            original_expiration: text("original-expiration"),
        };
        let known = 6 + usize::from(death.original_expiration.is_some());
        (table.len() == known).then_some(death)
    }
}

fn ending(headers: &FieldTable, which: &str) -> Option<Ending> {
    let text = |what| headers.get(&format!("x-{which}-death-{what}")).and_then(FieldValue::as_str);
    Some(Ending {
        reason: Reason::of_name(text("reason")?)?,
        queue: text("queue")?.to_owned(),
        exchange: text("exchange")?.to_owned(),
    })
}

fn text(text: &str) -> FieldValue {
    FieldValue::LongString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            number: 7,
            body_len: 20,
            exchange: "keys".into(),
            key: "k1".into(),
            persistent: true,
            priority: 3,
            expiration_ms: Some(250),
            deaths: Vec::new(),
            first: None,
            last: None,
            attempts: Attempts::default(),
        }
    }

    #[test]
    fn what_is_sent_reads_back_with_its_deaths() {
        let mut letter = letter();
        for (queue, reason) in
            [("a", Reason::Expired), ("b", Reason::MaxLen), ("a", Reason::Expired), ("a", Reason::Rejected)]
        {
            let back =
                Letter::read(&letter.exchange, &letter.key, &letter.properties(), &letter.body()).unwrap();
            assert_eq!(back, letter);
            letter = letter.dies(queue, reason, 5000, ("", None));
        }
        let deaths: Vec<_> = letter.deaths.iter().map(|d| (d.queue.as_str(), d.reason, d.count)).collect();
        let expected = [("a", Reason::Rejected, 1), ("a", Reason::Expired, 2), ("b", Reason::MaxLen, 1)];
        assert_eq!(deaths, expected);
    }

    #[test]
    fn a_rejection_on_the_way_breaks_a_cycle() {
        let check = |deaths: &[(&str, Reason)], queue: &str, expected: bool| {
            let died = deaths
                .iter()
                .fold(letter(), |letter, (queue, reason)| letter.dies(queue, *reason, 0, ("", None)));
            assert_eq!(died.has_gone_round(queue), expected, "{deaths:?} {queue}");
        };
        check(&[("a", Reason::Expired)], "a", true);
        check(&[("a", Reason::Expired)], "b", false);
        check(&[("a", Reason::Expired), ("b", Reason::Rejected)], "a", false);
        check(&[("b", Reason::Rejected), ("a", Reason::Expired)], "a", true);
        check(&[("a", Reason::Rejected)], "a", false);
    }
}
