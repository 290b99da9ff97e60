//! `leveret get`: messages out of a queue, now. Exit code 1 when it is empty.

use leveret_client::Channel;

use crate::client::short;
use crate::failure::Failure;
use crate::printer::{Format, Printer, Separator};
use crate::toolkit::BrokerUrl;

/// Take a message out of a queue and print it; exit 1 when the queue is empty
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: String,
    /// Remove the messages once they are printed (the default)
    #[arg(long, conflicts_with = "requeue")]
    ack: bool,
    /// Put the messages back: look without taking. The broker marks them as redelivered
    #[arg(long)]
    requeue: bool,
    /// At most so many messages, with a line feed behind each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    format: Format,
}

/// Gets, prints, and only then acknowledges: a message that could not be printed stays in the queue.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let queue = short("the queue's name", &arguments.queue)?;
    let separator = if arguments.count == 1 { Separator::Nothing } else { Separator::Line };
    let mut printer = Printer::new(arguments.format, separator);
    let client = arguments.url.connect_plainly("leveret get").await?;
    let channel = client.connection.channel().await?;
    let mut printed = 0;
    while printed < arguments.count && get_one(&channel, &queue, &arguments, &mut printer).await? {
        printed += 1;
    }
    if arguments.requeue && printed > 0 {
        // All at once and at the end: what is put back earlier would be the next to come.
        channel.nack(0, true, true);
    }
    channel.close().await?;
    client.close().await?;
    if printed > 0 { Ok(()) } else { Err(Failure::Nothing) }
}

async fn get_one(
    channel: &Channel,
    queue: &str,
    arguments: &Arguments,
    printer: &mut Printer,
) -> Result<bool, Failure> {
    let Some(message) = channel.get(queue, false).await? else {
        return Ok(false);
    };
    printer.print(&message)?;
    if !arguments.requeue {
        message.ack();
    }
    Ok(true)
}
