//! `leveret migrate`: definitions, then messages, from any broker to any other, while clients go on.
//!
//! ```text
//!   management API ─► definitions ─► settings ──► management API
//!   or a file                    └─► topology ──► AMQP
//!   queue ─────────────────────────► lane ──────► queue          (crate shovel)
//! ```
//!
//! A message is acknowledged at the source when the destination has confirmed it, so the command may be killed at any
//! moment and run again: nothing is lost, and what may be there twice carries a mark.

mod apply;
mod definitions;
mod lane;
mod report;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leveret_client::{Channel, ConnectOptions, Connection, QueueDeclare};
use leveret_shovel::Progress;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::management::{Management, ManagementAddress, Path};
use crate::signals::Termination;
use crate::toolkit::duration;
use apply::{apply, declare};
use definitions::{Choice, Definitions, is_stream};
use lane::{Lane, Outcome, QueueMove};
use report::{QueueReport, Report};
use state::State;

/// How often the state is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// RabbitMQ's management API tells counts that are up to 5 s old.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(12);
const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// What switches a management API off.
const NONE: &str = "none";

/// Move definitions and messages from a broker to another; run it again after any interruption
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The broker to move from: amqp(s)://USER:PASSWORD@HOST:PORT
    #[arg(long, value_name = "URL")]
    from: String,
    /// The broker to move to
    #[arg(long, value_name = "URL")]
    to: String,
    /// The management API of --from, or `none` [default: port 15672 of the same host]
    #[arg(long, value_name = "URL", env = "LEVERET_MANAGEMENT_FROM", hide_env_values = true)]
    management_from: Option<String>,
    /// The management API of --to, or `none`: then exchanges, queues and bindings are migrated, nothing else
    /// [default: port 15672 of the same host]
    #[arg(long, value_name = "URL", env = "LEVERET_MANAGEMENT_TO", hide_env_values = true)]
    management_to: Option<String>,
    /// Take the definitions from this file, as exported by a broker, instead of from the source
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Only this virtual host; may be repeated
    #[arg(long, value_name = "NAME")]
    vhost: Vec<String>,
    /// Make durable classic queues quorum queues
    #[arg(long, value_name = "TYPE", value_parser = ["quorum"])]
    queue_type: Option<String>,
    /// Do not end when the queues are empty: go on until SIGTERM or SIGINT, while clients move over
    #[arg(long)]
    follow: bool,
    /// Move on although the destination refuses a definition
    #[arg(long)]
    keep_going: bool,
    /// Keep what was moved in this file, for the counts of a run that goes on after an interruption
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How long to try when nothing gets better, e.g. while a broker is away
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    patience: Duration,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// The brokers, and how to ask them.
struct Brokers {
    from: ConnectOptions,
    to: ConnectOptions,
    management_from: Option<Management>,
    management_to: Option<Management>,
}

/// Migrates, and says what was done. Exit code 0: nothing is left at the source.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let brokers = Brokers::new(&arguments)?;
    let definitions = brokers.definitions(&arguments).await?;
    let choice = Choice {
        vhosts: arguments.vhost.clone(),
        to_quorum: arguments.queue_type.is_some(),
        users_there: brokers.users_there().await?,
    };
    let mut report = Report { left_out: definitions.left_out(&choice), ..Report::default() };
    if arguments.dry_run {
        return preview(&brokers, &definitions, &choice, report, arguments.json).await;
    }
    report.refused = brokers.define(&definitions, &choice).await?;
    tell(&report);
    if !report.refused.is_empty() && !arguments.keep_going {
        report.print(arguments.json)?;
        let what = "the destination refuses definitions (--keep-going moves the messages all the same)";
        return Err(Failure::Refused(what.to_owned()));
    }
    let outcomes = move_messages(&brokers, &definitions, &choice, &arguments).await?;
    report.complete = count(&brokers, &outcomes, &mut report.queues).await?;
    report.print(arguments.json)?;
    match report.complete {
        true => Ok(()),
        false => Err(Failure::Other(anyhow::anyhow!("something is left at the source; run it again"))),
    }
}

impl Brokers {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let options = |flag: &str, url: &str| {
            let parsed =
                ConnectOptions::parse(url).map_err(|error| Failure::Usage(format!("{flag}: {error}")));
            parsed.map(|options| options.name("leveret migrate"))
        };
        Ok(Self {
            from: options("--from", &arguments.from)?,
            to: options("--to", &arguments.to)?,
            management_from: management(arguments.management_from.as_deref(), &arguments.from)?,
            management_to: management(arguments.management_to.as_deref(), &arguments.to)?,
        })
    }

    async fn definitions(&self, arguments: &Arguments) -> Result<Definitions, Failure> {
        if let Some(file) = &arguments.definitions {
            let unusable =
                |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
            return serde_json::from_str(&text).map_err(|error| unusable(&error));
        }
        match &self.management_from {
            Some(from) => {
                // A Leveret leaves out what a RabbitMQ would refuse; a RabbitMQ does not care who is to read.
                let path = Path::of(&["definitions"]).query("for", self.reader().await?);
                Ok(from.get(&path).await?)
            }
            None => {
                let what = "without the management API of the source, --definitions names the file to take them from";
                Err(Failure::Usage(what.to_owned()))
            }
        }
    }

    /// Which product is to understand the definitions.
    async fn reader(&self) -> Result<&'static str, Failure> {
        #[derive(Deserialize)]
        struct Overview {
            product_name: Option<String>,
        }
        let Some(to) = &self.management_to else { return Ok("leveret") };
        let overview: Overview = to.get(&Path::of(&["overview"])).await?;
        Ok(if overview.product_name.as_deref() == Some("Leveret") { "leveret" } else { "rabbitmq" })
    }

    async fn users_there(&self) -> Result<BTreeSet<String>, Failure> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let Some(to) = &self.management_to else { return Ok(BTreeSet::new()) };
        let users: Vec<Named> = to.get(&Path::of(&["users"])).await?;
        Ok(users.into_iter().map(|user| user.name).collect())
    }

    /// Answers what the destination refuses.
    async fn define(&self, definitions: &Definitions, choice: &Choice) -> Result<Vec<String>, Failure> {
        let mut refused = match &self.management_to {
            Some(to) => apply(to, &definitions.settings(choice)).await?,
            None => Vec::new(),
        };
        for topology in definitions.topologies(choice) {
            refused.extend(declare(&self.to.clone().vhost(&topology.vhost), &topology).await?);
        }
        Ok(refused)
    }

    /// Messages that consumers hold at the source, by queue; `None` if it cannot be asked. Waits for old counts to go.
    async fn unacknowledged(&self, vhost: &str) -> Result<Option<BTreeMap<String, u64>>, Failure> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
            #[serde(default)]
            messages_unacknowledged: u64,
        }
        let Some(from) = &self.management_from else { return Ok(None) };
        let path = Path::of(&["queues", vhost]).query("columns", "name,messages_unacknowledged");
        let deadline = Instant::now() + UNACKNOWLEDGED_TIMEOUT;
        loop {
            let rows: Vec<Row> = from.get(&path).await?;
            if rows.iter().all(|row| row.messages_unacknowledged == 0) || Instant::now() >= deadline {
                return Ok(Some(
                    rows.into_iter().map(|row| (row.name, row.messages_unacknowledged)).collect(),
                ));
            }
            tokio::time::sleep(SAVE_INTERVAL).await;
        }
    }
}

fn management(flag: Option<&str>, beside: &str) -> Result<Option<Management>, Failure> {
    let address = match flag {
        Some(NONE) => return Ok(None),
        Some(text) => ManagementAddress::parse(text)?,
        None => ManagementAddress::beside(beside)?,
    };
    Ok(Some(Management::new(address, MANAGEMENT_TIMEOUT)?))
}

/// On stderr, what is not as it was at the source.
fn tell(report: &Report) {
    for what in &report.left_out {
        tracing::warn!("not migrated: {what}");
    }
    for what in &report.refused {
        tracing::error!("refused by the destination: {what}");
    }
}

async fn preview(
    brokers: &Brokers,
    definitions: &Definitions,
    choice: &Choice,
    mut report: Report,
    as_json: bool,
) -> Result<(), Failure> {
    tell(&report);
    let queues = queues(definitions, choice, &State::default());
    let outcomes: Vec<_> = queues.into_values().flatten().map(|queue| (queue, Outcome::Stopped)).collect();
    count(brokers, &outcomes, &mut report.queues).await?;
    report.queues.iter_mut().for_each(|queue| queue.problem = None);
    Ok(report.print(as_json)?)
}

/// The queues to move, by virtual host.
fn queues(
    definitions: &Definitions,
    choice: &Choice,
    state: &State,
) -> BTreeMap<String, Vec<Arc<QueueMove>>> {
    let mut queues = BTreeMap::new();
    for topology in definitions.topologies(choice) {
        let vhost = topology.vhost;
        let moves = topology.queues.into_iter().filter(|queue| !is_stream(&queue.arguments)).map(|queue| {
            let before = state.counts(&vhost, &queue.name);
            let (name, progress) = (queue.name, Progress::default());
            Arc::new(QueueMove { vhost: vhost.clone(), name, before, progress })
        });
        queues.insert(vhost.clone(), moves.collect());
    }
    queues
}

async fn move_messages(
    brokers: &Brokers,
    definitions: &Definitions,
    choice: &Choice,
    arguments: &Arguments,
) -> Result<Vec<(Arc<QueueMove>, Outcome)>, Failure> {
    let mut state = State::new(shown(&brokers.from), shown(&brokers.to));
    if let Some(file) = &arguments.state {
        state = state.load(file)?;
    }
    let queues = queues(definitions, choice, &state);
    let all: Vec<_> = queues.values().flatten().cloned().collect();
    let (stop, stopping) = watch::channel(false);
    let lanes: Vec<_> = queues
        .into_iter()
        .map(|(vhost, queues)| {
            let (source, destination) =
                (brokers.from.clone().vhost(&vhost), brokers.to.clone().vhost(&vhost));
            let (follows, patience) = (arguments.follow, arguments.patience);
            let lane = Lane { source, destination, queues, follows, patience };
            tokio::spawn(lane.run(stopping.clone()))
        })
        .collect();
    let moving = async {
        let mut outcomes = Vec::new();
        for lane in lanes {
            outcomes.extend(lane.await.map_err(|error| Failure::Other(error.into()))?);
        }
        Ok(outcomes)
    };
    let mut termination = Termination::catch()?;
    tokio::pin!(moving);
    loop {
        tokio::select! {
            outcomes = &mut moving => {
                save(arguments, &mut state, &all)?;
                return outcomes;
            }
            _ = termination.next() => drop(stop.send_replace(true)),
            () = tokio::time::sleep(SAVE_INTERVAL) => save(arguments, &mut state, &all)?,
        }
    }
}

fn save(arguments: &Arguments, state: &mut State, queues: &[Arc<QueueMove>]) -> Result<(), Failure> {
    let Some(file) = &arguments.state else { return Ok(()) };
    for queue in queues {
        state.set(&queue.vhost, &queue.name, queue.counts());
    }
    Ok(state.save(file)?)
}

/// The addresses, without passwords.
fn shown(options: &ConnectOptions) -> String {
    options.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Counts what is where. Answers whether nothing is left.
async fn count(
    brokers: &Brokers,
    outcomes: &[(Arc<QueueMove>, Outcome)],
    reports: &mut Vec<QueueReport>,
) -> Result<bool, Failure> {
    let mut is_complete = true;
    for queues in outcomes.chunk_by(|(a, _), (b, _)| a.vhost == b.vhost) {
        let vhost = &queues[0].0.vhost;
        let unacknowledged = brokers.unacknowledged(vhost).await?;
        let mut from = Asking::open(&brokers.from.clone().vhost(vhost)).await?;
        let mut to = Asking::open(&brokers.to.clone().vhost(vhost)).await.ok();
        for (queue, outcome) in queues {
            let mut report = QueueReport::new(queue, outcome);
            report.left = from.ready(&queue.name).await?;
            report.unacknowledged = unacknowledged.as_ref().and_then(|all| all.get(&queue.name).copied());
            if let Some(to) = &mut to {
                report.at_destination = to.ready(&queue.name).await?;
            }
            is_complete &= report.is_complete(outcome);
            reports.push(report);
        }
    }
    Ok(is_complete)
}

/// Asks a broker how long its queues are.
struct Asking {
    connection: Connection,
    channel: Channel,
}

impl Asking {
    async fn open(options: &ConnectOptions) -> Result<Self, Failure> {
        let connection = Connection::open(options).await?;
        let channel = connection.channel().await?;
        Ok(Self { connection, channel })
    }

    /// `None`: there is no such queue, or it may not be asked.
    async fn ready(&mut self, queue: &str) -> Result<Option<u64>, Failure> {
        match self.channel.declare_queue(&QueueDeclare::passive(queue)).await {
            Ok(declared) => Ok(Some(declared.messages.into())),
            Err(_) => {
                self.channel = self.connection.channel().await?;
                Ok(None)
            }
        }
    }
}
