//! What a load needs on the broker: declared before it, deleted after it, whatever happened. Every name begins with
//! the load's own prefix, so nothing else is ever touched.

use crate::Result;
use crate::connection::{Connection, write_long_string, write_table};
use crate::frames::{CHANNEL, id, short_string, write_short_string};
use crate::messages::Way;
use crate::plan::{Argument, Flow, Route};
use crate::target::Target;

/// The header that bindings of a headers exchange look for.
const QUEUE_HEADER: &str = "queue";

/// Exchange and queues of one load.
pub(crate) struct Topology {
    control: Connection,
    exchange: Option<String>,
    queues: Vec<String>,
}

impl Topology {
    /// Declares everything; what was declared before something was refused is deleted again.
    pub(crate) fn declare(target: &Target, plan: &Flow, prefix: &str) -> Result<Topology> {
        let control = Connection::connect(target)?;
        let mut topology = Topology { control, exchange: None, queues: Vec::new() };
        match topology.declare_all(plan, prefix) {
            Ok(()) => Ok(topology),
            Err(error) => {
                // The refusal closed the channel. It says more than why what was declared cannot be deleted.
                if let Ok(control) = Connection::connect(target) {
                    let _ = Topology { control, ..topology }.remove();
                }
                Err(error)
            }
        }
    }

    /// The ways of producer number `producer`.
    pub(crate) fn ways(&self, plan: &Flow, producer: u32) -> Vec<Way> {
        let exchange = self.exchange.clone().unwrap_or_default();
        if plan.route == Route::Fanout {
            return vec![Way { flow: producer as u16, exchange, routing_key: String::new(), header: None }];
        }
        // With fewer producers than queues each serves several, and a queue has one producer; else it is the other way.
        let crowded = plan.producers >= plan.queues;
        let served = (producer % plan.queues..plan.queues).step_by(plan.producers as usize);
        let way = |queue: u32| Way {
            flow: if crowded { producer as u16 } else { queue as u16 },
            exchange: exchange.clone(),
            routing_key: routing_key(plan.route, &self.queues[queue as usize], queue),
            header: (plan.route == Route::Headers).then(|| (QUEUE_HEADER.to_owned(), queue.to_string())),
        };
        served.map(way).collect()
    }

    /// The queue that consumer number `consumer` reads.
    pub(crate) fn queue(&self, plan: &Flow, consumer: u32) -> &str {
        &self.queues[(consumer % plan.queues) as usize]
    }

    /// Deletes what was declared.
    ///
    /// # Errors
    /// The broker is gone, or refuses.
    pub(crate) fn remove(self) -> Result<()> {
        let Topology { mut control, exchange, queues } = self;
        for queue in &queues {
            control.delete_queue(queue)?;
        }
        if let Some(exchange) = &exchange {
            delete_exchange(&mut control, exchange)?;
        }
        control.close()
    }

    fn declare_all(&mut self, plan: &Flow, prefix: &str) -> Result<()> {
        let kind = match plan.route {
            Route::Queue => None,
            Route::Direct => Some("direct"),
            Route::Fanout => Some("fanout"),
            Route::Topic => Some("topic"),
            Route::Headers => Some("headers"),
        };
        if let Some(kind) = kind {
            let exchange = format!("{prefix}.exchange");
            declare_exchange(&mut self.control, &exchange, kind, plan.durable)?;
            self.exchange = Some(exchange);
        }
        for number in 0..plan.queues {
            let queue = format!("{prefix}.{number}");
            declare_queue(&mut self.control, &queue, plan.durable, &plan.arguments)?;
            self.queues.push(queue);
            self.bind(plan, self.queues.len() - 1, Match::Load(number))?;
        }
        if plan.other_bindings > 0 {
            let queue = format!("{prefix}.others");
            declare_queue(&mut self.control, &queue, false, &[])?;
            self.queues.push(queue);
            for number in 0..plan.other_bindings {
                self.bind(plan, self.queues.len() - 1, Match::Nothing(number))?;
            }
        }
        Ok(())
    }

    fn bind(&mut self, plan: &Flow, queue: usize, wanted: Match) -> Result<()> {
        let Some(exchange) = &self.exchange else { return Ok(()) };
        let queue = &self.queues[queue];
        let (key, header) = match (plan.route, wanted) {
            (Route::Topic, Match::Load(number)) => (format!("*.q{number}.#"), None),
            (Route::Topic, Match::Nothing(number)) => (format!("other.{number}.*"), None),
            (Route::Headers, Match::Load(number)) => (String::new(), Some(number.to_string())),
            (Route::Headers, Match::Nothing(number)) => (number.to_string(), Some(format!("other {number}"))),
            (route, Match::Load(number)) => (routing_key(route, queue, number), None),
            // A fanout exchange does not look at keys: it has no bindings that match nothing.
            (_, Match::Nothing(number)) => (format!("other.{number}"), None),
        };
        self.control.call(CHANNEL, id::QUEUE_BIND, id::QUEUE_BIND_OK, |out| {
            out.extend([0, 0]);
            write_short_string(out, queue.as_bytes());
            write_short_string(out, exchange.as_bytes());
            write_short_string(out, key.as_bytes());
            out.push(0);
            write_table(out, |out| {
                if let Some(value) = &header {
                    write_short_string(out, QUEUE_HEADER.as_bytes());
                    write_long_string(out, value.as_bytes());
                }
            });
        })?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Match {
    /// What is sent to the queue with this number.
    Load(u32),
    /// Nothing: one of the other bindings.
    Nothing(u32),
}

fn routing_key(route: Route, queue: &str, number: u32) -> String {
    match route {
        Route::Queue | Route::Direct => queue.to_owned(),
        Route::Topic => format!("load.q{number}.a.b"),
        Route::Fanout | Route::Headers => String::new(),
    }
}

/// Declares an exchange without arguments.
pub(crate) fn declare_exchange(
    control: &mut Connection,
    name: &str,
    kind: &str,
    durable: bool,
) -> Result<()> {
    control
        .call(CHANNEL, id::EXCHANGE_DECLARE, id::EXCHANGE_DECLARE_OK, |out| {
            out.extend([0, 0]);
            write_short_string(out, name.as_bytes());
            write_short_string(out, kind.as_bytes());
            out.push(if durable { 0b10 } else { 0 });
            write_table(out, |_| {});
        })
        .map(drop)
}

/// Deletes an exchange with all its bindings; none of that name is fine.
pub(crate) fn delete_exchange(connection: &mut Connection, name: &str) -> Result<()> {
    let args = |out: &mut Vec<u8>| {
        out.extend([0, 0]);
        write_short_string(out, name.as_bytes());
        out.push(0);
    };
    connection.call(CHANNEL, id::EXCHANGE_DELETE, id::EXCHANGE_DELETE_OK, args).map(drop)
}

/// Declares a shared queue.
pub(crate) fn declare_queue(
    control: &mut Connection,
    name: &str,
    durable: bool,
    arguments: &[(String, Argument)],
) -> Result<()> {
    let answer = control.call(CHANNEL, id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
        out.extend([0, 0]);
        write_short_string(out, name.as_bytes());
        out.push(if durable { 0b10 } else { 0 });
        write_table(out, |out| arguments.iter().for_each(|(name, value)| write_argument(out, name, value)));
    })?;
    short_string(&answer).map(drop)
}

fn write_argument(out: &mut Vec<u8>, name: &str, value: &Argument) {
    write_short_string(out, name.as_bytes());
    match value {
        Argument::Flag(flag) => out.extend([b't', u8::from(*flag)]),
        Argument::Number(number) => {
            out.push(b'l');
            out.extend(number.to_be_bytes());
        }
        Argument::Text(text) => write_long_string(out, text.as_bytes()),
    }
}
