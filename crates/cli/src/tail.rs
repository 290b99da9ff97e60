//! `leveret tail`: a live stream of messages, until a signal or `--count`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_core::Stream;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use crate::client::{BrokerUrl, short};
use crate::failure::Failure;
use crate::printer::{Format, Printer, Separator};
use crate::signals::Termination;

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
    let client = arguments.url.connect("leveret tail").await?;
    let consumer = source.consume(&client.channel, arguments.count).await?;
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
    Copies { exchange: ShortString, keys: Vec<ShortString> },
    Queue(ShortString),
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
        let (queue, no_ack) = match self {
            Self::Queue(queue) => {
                let prefetch = count.unwrap_or(PREFETCH_MAX).min(PREFETCH_MAX) as u16;
                channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
                (queue.clone(), false)
            }
            Self::Copies { exchange, keys } => (temporary_queue(channel, exchange, keys).await?, true),
        };
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        Ok(channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?)
    }

    fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Queue(_))
    }
}

/// A queue of our own that goes with the connection.
async fn temporary_queue(
    channel: &Channel,
    exchange: &ShortString,
    keys: &[ShortString],
) -> Result<ShortString, Failure> {
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?.name().clone();
    for key in keys {
        let (exchange, key) = (exchange.clone(), key.clone());
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
    }
    Ok(queue)
}

/// From here on nothing is missed: scripts wait for this line before they publish.
fn say_ready(source: &Source) {
    match source {
        Source::Queue(queue) => eprintln!("leveret: waiting for messages of queue {queue}"),
        Source::Copies { exchange, .. } => eprintln!("leveret: waiting for messages of exchange {exchange}"),
    }
}

async fn print_all(
    mut consumer: Consumer,
    source: &Source,
    count: Option<u64>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        let Some(delivery) = poll_fn(|context| Pin::new(&mut consumer).poll_next(context)).await else {
            return Err(Failure::NoRoute("the queue was deleted".to_owned()));
        };
        let delivery = delivery?;
        match printer.print(&delivery) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()), // `tail … | head`
            outcome => outcome?,
        }
        if source.is_acknowledged() {
            delivery.ack(BasicAckOptions::default()).await?;
        }
        printed += 1;
    }
    Ok(())
}
