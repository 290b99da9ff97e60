//! `leveret tail`: a live stream of messages, until a signal or `--count`.

use std::io;

use leveret_client::{Channel, Consume, Consumer, ConsumerEnd, QueueDeclare};
use leveret_wire::FieldTable;

use crate::client::short;
use crate::failure::Failure;
use crate::printer::{Format, Printer, Separator};
use crate::say::say;
use crate::signals::Termination;
use crate::toolkit::BrokerUrl;

/// How many messages a queue hands out before the first is printed.
const PREFETCH_MAX: u64 = 100;

/// Print messages as they come: copies of what an exchange routes, or a queue's own
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// Print copies of what this exchange routes; nobody else misses anything
    #[arg(long, value_name = "NAME", required_unless_present = "queue", conflicts_with = "queue")]
    exchange: Option<String>,
    /// With --exchange: the binding key, e.g. `#.ohio`; may be repeated [default: #]
    #[arg(long, value_name = "KEY", conflicts_with = "queue")]
    key: Vec<String>,
    /// Take messages out of this queue, acknowledging each once it is printed
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    format: Format,
}

/// Prints until it is told to stop; that is no failure.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let source = source(&arguments)?;
    let mut termination = Termination::catch()?;
    let client = arguments.url.connect_plainly("leveret tail").await?;
    let channel = client.connection.channel().await?;
    let consumer = source.consume(&channel, arguments.count).await?;
    say_ready(&source);
    let mut printer = Printer::new(arguments.format, Separator::Line);
    tokio::select! {
        printed = print_all(consumer, &source, arguments.count, &mut printer) => printed?,
        _ = termination.next() => {}
    }
    client.close().await
}

/// What is tailed.
enum Source {
    Copies { exchange: String, keys: Vec<String> },
    Queue(String),
}

fn source(arguments: &Arguments) -> Result<Source, Failure> {
    if let Some(queue) = &arguments.queue {
        return Ok(Source::Queue(short("the queue's name", queue)?));
    }
    let exchange = arguments.exchange.as_deref().unwrap_or_default();
    if exchange.is_empty() {
        return Err(Failure::Usage("the default exchange cannot be watched; use --queue".to_owned()));
    }
    let keys = if arguments.key.is_empty() { vec!["#".to_owned()] } else { arguments.key.clone() };
    let keys = keys.iter().map(|key| short("the key", key)).collect::<Result<_, _>>()?;
    Ok(Source::Copies { exchange: short("the exchange", exchange)?, keys })
}

impl Source {
    async fn consume(&self, channel: &Channel, count: Option<u64>) -> Result<Consumer, Failure> {
        let consume = match self {
            Self::Queue(queue) => {
                let prefetch = count.unwrap_or(PREFETCH_MAX).min(PREFETCH_MAX) as u16;
                channel.prefetch(prefetch).await?;
                Consume::queue(queue)
            }
            Self::Copies { exchange, keys } => {
                Consume::queue(&temporary_queue(channel, exchange, keys).await?).no_ack()
            }
        };
        Ok(channel.consume(&consume).await?)
    }

    fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Queue(_))
    }
}

/// A queue of our own that goes with the connection.
async fn temporary_queue(channel: &Channel, exchange: &str, keys: &[String]) -> Result<String, Failure> {
    let declare = QueueDeclare { auto_delete: true, ..QueueDeclare::exclusive("") };
    let queue = channel.declare_queue(&declare).await?.name;
    for key in keys {
        channel.bind_queue(&queue, exchange, key, FieldTable::new()).await?;
    }
    Ok(queue)
}

/// From here on nothing is missed: scripts wait for this line before they publish.
fn say_ready(source: &Source) {
    let whence = match source {
        Source::Queue(queue) => format!("queue {queue}"),
        Source::Copies { exchange, .. } => format!("exchange {exchange}"),
    };
    say(&format!("leveret: waiting for messages of {whence}"));
}

async fn print_all(
    mut consumer: Consumer,
    source: &Source,
    count: Option<u64>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        let Some(delivery) = consumer.next().await else {
            return Err(match consumer.ended() {
                Some(ConsumerEnd::Lost(closed)) => closed.into(),
                _ => Failure::NoRoute("the queue was deleted".to_owned()),
            });
        };
        match printer.print(&delivery) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()), // `tail … | head`
            outcome => outcome?,
        }
        if source.is_acknowledged() {
            delivery.ack();
        }
        printed += 1;
    }
    Ok(())
}
