//! Queues, exchanges and bindings as values, to declare one by one or together.

use leveret_wire::FieldTable;

use crate::channel::Channel;
use crate::connection::Connection;
use crate::error::ChannelError;

/// A queue to declare.
///
/// ```
/// use leveret_client::QueueDeclare;
///
/// let declare = QueueDeclare::durable("jobs").argument("x-max-length", 1000);
/// assert!(declare.durable && !declare.exclusive);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueDeclare {
    /// Its name; empty: the broker chooses one and says it in [`QueueDeclared`].
    pub name: String,
    /// Only ask whether it exists.
    pub passive: bool,
    /// It survives a restart of the broker.
    pub durable: bool,
    /// It is this connection's and goes with it.
    pub exclusive: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// `x-…` arguments.
    pub arguments: FieldTable,
}

impl QueueDeclare {
    /// A queue that survives a restart of the broker.
    pub fn durable(name: &str) -> QueueDeclare {
        QueueDeclare { name: name.to_owned(), durable: true, ..QueueDeclare::default() }
    }

    /// A queue of this connection.
    pub fn exclusive(name: &str) -> QueueDeclare {
        QueueDeclare { name: name.to_owned(), exclusive: true, ..QueueDeclare::default() }
    }

    /// A question: does it exist, and how many messages and consumers has it?
    pub fn passive(name: &str) -> QueueDeclare {
        QueueDeclare { name: name.to_owned(), passive: true, ..QueueDeclare::default() }
    }

    /// Sets an argument.
    #[must_use]
    pub fn argument(mut self, name: &str, value: impl Into<leveret_wire::FieldValue>) -> QueueDeclare {
        self.arguments.insert(name, value);
        self
    }
}

/// A queue as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// Its name.
    pub name: String,
    /// Messages ready to be delivered.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}

/// An exchange to declare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExchangeDeclare {
    /// Its name.
    pub name: String,
    /// `direct`, `fanout`, `topic`, `headers`, or what else the broker has.
    pub kind: String,
    /// Only ask whether it exists.
    pub passive: bool,
    /// It survives a restart of the broker.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Only other exchanges may publish to it.
    pub internal: bool,
    /// `alternate-exchange` and the like.
    pub arguments: FieldTable,
}

impl ExchangeDeclare {
    /// An exchange that survives a restart of the broker.
    pub fn durable(name: &str, kind: &str) -> ExchangeDeclare {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        ExchangeDeclare { name, kind, durable: true, ..ExchangeDeclare::default() }
    }

    /// A question: does it exist?
    pub fn passive(name: &str) -> ExchangeDeclare {
        let kind = "direct".to_owned(); // a broker does not compare it, but wants one it knows
        ExchangeDeclare { name: name.to_owned(), kind, passive: true, ..ExchangeDeclare::default() }
    }
}

/// Messages of an exchange that go to a queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueBinding {
    /// The queue; empty: the one declared last.
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// Which messages; what it means depends on the exchange.
    pub routing_key: String,
    /// What a headers exchange compares.
    pub arguments: FieldTable,
}

impl QueueBinding {
    /// A binding without arguments.
    pub fn new(queue: &str, exchange: &str, routing_key: &str) -> QueueBinding {
        QueueBinding {
            queue: queue.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            arguments: FieldTable::new(),
        }
    }
}

/// What a program needs on the broker. Declared in this order: exchanges, queues, bindings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    /// Exchanges.
    pub exchanges: Vec<ExchangeDeclare>,
    /// Queues.
    pub queues: Vec<QueueDeclare>,
    /// Bindings of those queues.
    pub bindings: Vec<QueueBinding>,
}

impl Topology {
    /// Declares everything, on a channel of its own.
    ///
    /// # Errors
    /// The first refusal, e.g. 406 if something exists and is different; what came before it stays.
    pub async fn declare(&self, connection: &Connection) -> Result<(), ChannelError> {
        let channel = connection.channel().await?;
        self.declare_on(&channel).await?;
        channel.close().await
    }

    pub(crate) async fn declare_on(&self, channel: &Channel) -> Result<(), ChannelError> {
        for exchange in &self.exchanges {
            channel.declare_exchange(exchange).await?;
        }
        for queue in &self.queues {
            channel.declare_queue(queue).await?;
        }
        for QueueBinding { queue, exchange, routing_key, arguments } in &self.bindings {
            channel.bind_queue(queue, exchange, routing_key, arguments.clone()).await?;
        }
        Ok(())
    }
}
