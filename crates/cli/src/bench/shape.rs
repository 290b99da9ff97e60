//! The shapes of load as commands, each with the flags that mean something for it, and the plan they ask for.

use clap::{Subcommand, ValueEnum};
use leveret_bench::plan::{Argument, Calls, Churn, Cycle, Flow, Plan, Properties, Route, Settle};

use super::Flags;
use crate::failure::Failure;
use crate::toolkit::{pair, size};

/// What kind of load.
#[derive(Subcommand)]
pub(super) enum Shape {
    /// Messages from producers through queues to consumers
    Flow(Load<FlowFlags>),
    /// Messages through a fanout exchange: each to every queue, a consumer per queue
    Fanout(Load<FanoutFlags>),
    /// Messages through a topic exchange with many other bindings, which match nothing
    Topic(Load<TopicFlags>),
    /// A queue is filled, then drained
    Backlog(Load<BacklogFlags>),
    /// Requests and answers
    Rpc(Load<RpcFlags>),
    /// Connections with a channel are opened and closed, or opened and held
    Connections(Load<ConnectionFlags>),
    /// Channels are opened and closed on open connections
    Channels(Load<ChurnFlags>),
    /// Durable queues are declared, bound and deleted
    Declare(Load<ChurnFlags>),
}

/// The flags of a shape and those of all.
#[derive(clap::Args)]
pub(super) struct Load<F: clap::Args> {
    #[command(flatten)]
    own: F,
    #[command(flatten)]
    flags: Flags,
}

#[derive(clap::Args)]
pub(super) struct FlowFlags {
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    messages: MessageFlags,
    #[command(flatten)]
    counted: Counted,
    /// The kind of exchange between producers and queues [default: the default exchange]
    #[arg(long, value_name = "KIND")]
    exchange: Option<Kind>,
    /// Further bindings of the exchange, which match nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    other_bindings: u32,
}

#[derive(clap::Args)]
pub(super) struct FanoutFlags {
    /// How many publish
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: u32,
    /// How many consume, each from a queue of its own
    #[arg(long, value_name = "N", default_value_t = 10)]
    consumers: u32,
    #[command(flatten)]
    messages: MessageFlags,
    #[command(flatten)]
    counted: Counted,
}

#[derive(clap::Args)]
pub(super) struct TopicFlags {
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    messages: MessageFlags,
    #[command(flatten)]
    counted: Counted,
    /// Further bindings of the exchange, which match nothing
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    other_bindings: u32,
}

#[derive(clap::Args)]
pub(super) struct BacklogFlags {
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    messages: MessageFlags,
    /// How many messages, of all producers together
    #[arg(long, value_name = "N", default_value_t = 500_000, conflicts_with_all = ["duration", "warm_up"])]
    count: u64,
}

/// Who is at both ends.
#[derive(clap::Args)]
struct Ends {
    /// How many publish
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: u32,
    /// How many consume; 0 leaves the messages in the queues
    #[arg(long, value_name = "N", default_value_t = 1)]
    consumers: u32,
    /// How many queues; producers and consumers are spread over them
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: u32,
}

#[derive(clap::Args)]
struct Counted {
    /// End after so many messages, of all producers together, instead of after a time
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warm_up"])]
    count: Option<u64>,
}

#[derive(clap::Args)]
struct MessageFlags {
    /// How many producers, or consumers, share a connection, each on a channel of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: u16,
    /// Size of the bodies, 16 octets to 64MiB; several, with commas between, take turns
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "1KiB", value_parser = size)]
    size: Vec<usize>,
    /// Messages and queues that survive a restart of the broker
    #[arg(long)]
    persistent: bool,
    /// Use confirms; at most so many messages of a producer wait for theirs
    #[arg(long, value_name = "N")]
    confirms: Option<u32>,
    /// Consumers acknowledge, after every so many messages [default: no-ack]
    #[arg(long, value_name = "N")]
    ack_every: Option<u16>,
    /// With --ack-every: deliveries that may be unacknowledged; 0 is without limit
    #[arg(long, value_name = "N", default_value_t = 500)]
    prefetch: u16,
    /// Messages per second of each producer; latencies count from when a message should have left [default: as fast
    /// as the broker takes them]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Durable queues, even of messages that are not persistent
    #[arg(long)]
    durable: bool,
    /// The type of the queues: classic, quorum, stream, or what the broker knows
    #[arg(long, value_name = "TYPE")]
    queue_type: Option<String>,
    /// An argument of the queues, e.g. x-max-length=1000; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    queue_argument: Vec<(String, String)>,
    /// That messages are lost is no failure: for queues with a limit that drops them
    #[arg(long)]
    allow_loss: bool,
    /// Publish as mandatory: what no queue takes comes back
    #[arg(long)]
    mandatory: bool,
    /// The type of the bodies
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header of every message; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
}

#[derive(clap::Args)]
pub(super) struct RpcFlags {
    /// How many call, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    callers: u32,
    /// How many answer, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    responders: u32,
    /// How many calls of each caller wait for their answer; with --rate, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: u32,
    /// Calls per second of each caller; latencies count from when a request should have left [default: the next
    /// request leaves when an answer comes]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Size of requests and answers, up to 64KiB
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = size)]
    size: usize,
    /// Answers come by amq.rabbitmq.reply-to instead of an exclusive queue
    #[arg(long)]
    direct_reply_to: bool,
}

#[derive(clap::Args)]
pub(super) struct ConnectionFlags {
    /// How many at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: u32,
    /// Open so many and let them do nothing: what does one cost?
    #[arg(long, value_name = "N", conflicts_with = "connections")]
    hold: Option<u32>,
}

#[derive(clap::Args)]
pub(super) struct ChurnFlags {
    /// On how many connections at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

/// What the command line asks for.
pub(super) struct Asked {
    /// Those of all shapes.
    pub(super) flags: Flags,
    pub(super) plan: Plan,
    /// Messages after which it ends, instead of after a time.
    pub(super) count: Option<u64>,
    /// Whether it is no failure that messages do not come.
    pub(super) loss_is_expected: bool,
}

impl Asked {
    /// No messages, or none that may be lost.
    fn timed(flags: Flags, plan: Plan) -> Asked {
        Asked { flags, plan, count: None, loss_is_expected: false }
    }
}

impl Shape {
    /// The plan behind the flags.
    pub(super) fn into_asked(self) -> Result<Asked, Failure> {
        let churn = |cycle, load: Load<ChurnFlags>| {
            Asked::timed(load.flags, Plan::Churn(Churn { cycle, connections: load.own.connections }))
        };
        Ok(match self {
            Shape::Flow(Load { own, flags }) => {
                let (loss_is_expected, count) = (own.messages.allow_loss, own.counted.count);
                let route = own.exchange.map_or(Route::Queue, Kind::route);
                let plan = Plan::Flow(own.ends.flow(own.messages, route, own.other_bindings)?);
                Asked { flags, plan, count, loss_is_expected }
            }
            Shape::Fanout(Load { own, flags }) => {
                let FanoutFlags { producers, consumers, messages, counted } = own;
                let ends = Ends { producers, consumers, queues: consumers };
                let loss_is_expected = messages.allow_loss;
                let plan = Plan::Flow(ends.flow(messages, Route::Fanout, 0)?);
                Asked { flags, plan, count: counted.count, loss_is_expected }
            }
            Shape::Topic(Load { own, flags }) => {
                let (loss_is_expected, count) = (own.messages.allow_loss, own.counted.count);
                let plan = Plan::Flow(own.ends.flow(own.messages, Route::Topic, own.other_bindings)?);
                Asked { flags, plan, count, loss_is_expected }
            }
            Shape::Backlog(Load { own, flags }) => {
                let loss_is_expected = own.messages.allow_loss;
                let plan = Plan::Backlog(own.ends.flow(own.messages, Route::Queue, 0)?);
                Asked { flags, plan, count: Some(own.count), loss_is_expected }
            }
            Shape::Rpc(Load { own, flags }) => Asked::timed(flags, own.plan()),
            Shape::Connections(Load { own: ConnectionFlags { hold: Some(connections), .. }, flags }) => {
                Asked::timed(flags, Plan::Hold { connections })
            }
            Shape::Connections(Load { own, flags }) => {
                let churn = Churn { cycle: Cycle::Connection, connections: own.connections };
                Asked::timed(flags, Plan::Churn(churn))
            }
            Shape::Channels(load) => churn(Cycle::Channel, load),
            Shape::Declare(load) => churn(Cycle::Declare, load),
        })
    }
}

impl Ends {
    fn flow(self, messages: MessageFlags, route: Route, other_bindings: u32) -> Result<Flow, Failure> {
        let is_replicated = messages.queue_type.as_deref().is_some_and(|kind| kind != "classic");
        Ok(Flow {
            producers: self.producers,
            consumers: self.consumers,
            queues: self.queues,
            channels: messages.channels,
            persistent: messages.persistent,
            window: messages.confirms,
            settle: match messages.ack_every {
                None => Settle::None,
                Some(every) => Settle::Every { messages: every, prefetch: messages.prefetch },
            },
            rate: messages.rate,
            route,
            other_bindings,
            // Quorum queues and streams are always durable, and brokers insist on being told.
            durable: messages.durable || messages.persistent || is_replicated,
            arguments: arguments(&messages)?,
            mandatory: messages.mandatory,
            sizes_bytes: messages.size,
            properties: Properties { content_type: messages.content_type, headers: messages.header },
        })
    }
}

fn arguments(messages: &MessageFlags) -> Result<Vec<(String, Argument)>, Failure> {
    let kind = messages.queue_type.iter().map(|kind| ("x-queue-type".to_owned(), kind.clone()));
    let all = kind.chain(messages.queue_argument.iter().cloned());
    let argument = |(name, text): (String, String)| {
        let value = match text.as_str() {
            "true" => Argument::Flag(true),
            "false" => Argument::Flag(false),
            text => text.parse().map_or_else(|_| Argument::Text(text.to_owned()), Argument::Number),
        };
        (name, value)
    };
    let all: Vec<_> = all.map(argument).collect();
    let mut names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::Usage(format!("--queue-argument: {} is there twice", pair[0]))),
        None => Ok(all),
    }
}

impl RpcFlags {
    fn plan(self) -> Plan {
        Plan::Calls(Calls {
            callers: self.callers,
            responders: self.responders,
            in_flight: self.in_flight,
            rate: self.rate,
            size_bytes: self.size,
            direct_reply_to: self.direct_reply_to,
        })
    }
}

impl Kind {
    fn route(self) -> Route {
        match self {
            Kind::Direct => Route::Direct,
            Kind::Fanout => Route::Fanout,
            Kind::Topic => Route::Topic,
            Kind::Headers => Route::Headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        shape: Shape,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let line = Line::try_parse_from(format!("bench {line}").split_whitespace());
        let asked = line.map_err(|error| error.to_string())?.shape.into_asked();
        asked.map(|asked| asked.plan).map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_become_plans() {
        let line = "flow --producers 4 --consumers 8 --queues 4 --size 16,2KiB --persistent --confirms 1000 \
                    --ack-every 100 --queue-type quorum --queue-argument x-max-length=9 --rate 2.5";
        let Ok(Plan::Flow(flow)) = plan(line) else { panic!("no flow") };
        assert_eq!((flow.producers, flow.consumers, flow.queues), (4, 8, 4));
        assert_eq!((flow.sizes_bytes, flow.window, flow.rate), (vec![16, 2048], Some(1000), Some(2.5)));
        assert_eq!(flow.settle, Settle::Every { messages: 100, prefetch: 500 });
        assert!(flow.persistent && flow.durable && flow.route == Route::Queue);
        let expected =
            [("x-queue-type", Argument::Text("quorum".into())), ("x-max-length", Argument::Number(9))];
        assert_eq!(flow.arguments, expected.map(|(name, value)| (name.to_owned(), value)));
        let Ok(Plan::Flow(flow)) = plan("fanout --consumers 7") else { panic!("no flow") };
        assert_eq!((flow.queues, flow.consumers, flow.route), (7, 7, Route::Fanout));
        assert!(matches!(plan("connections --hold 50"), Ok(Plan::Hold { connections: 50 })));
        assert!(matches!(plan("rpc --in-flight 1"), Ok(Plan::Calls(Calls { in_flight: 1, rate: None, .. }))));
        assert!(matches!(plan("rpc --rate 9"), Ok(Plan::Calls(Calls { rate: Some(9.0), .. }))));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        let check = |line: &str, words: &str| {
            let said = plan(line).unwrap_err();
            assert!(said.contains(words), "{line}: {said}");
        };
        check(
            "flow --queue-type quorum --queue-argument x-queue-type=classic",
            "x-queue-type is there twice",
        );
        check("flow --exchange odd", "invalid value 'odd'");
        check("flow --count 5 --duration 3s", "cannot be used with");
        check("rpc --count 5", "unexpected argument");
        check("flow --size big", "no unit of size");
        check("connections --hold 5 --connections 2", "cannot be used with");
    }
}
