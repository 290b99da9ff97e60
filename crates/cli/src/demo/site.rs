//! The site and the service: web sites order PDFs from a service. An order leaves only when the site's database
//! transaction commits: it is written to an outbox in that same transaction, and a relay publishes what is in there
//! until the broker confirms. The relay may die in between and publish twice, so every order has a `message-id`.
//!
//! ```text
//!   site ─commit─► outbox ─relay─► service.tasks ─service.my_template─► the service
//!   site ◄─ its queue ◄─the queue's name as key─ service.results ◄─────────┘
//! ```

use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use anyhow::{Context, Result};
use lapin::options::BasicAckOptions;
use lapin::{BasicProperties, ExchangeKind};
use leveret::content::{self, Format};
use leveret::dialect::Dialect;
use leveret::{Answer, Client, Failure, Payload, Request, ServeError, Worker};
use serde::{Deserialize, Serialize};

use super::crew;
use super::peer::{
    Inbox, Life, Outcome, Peer, answered_by, bind, consume, declare_exchange, declare_queue, publish,
};
use super::report::Report;
use super::stage::Stage;

const TASKS: &str = "service.tasks";
const RESULTS: &str = "service.results";
const TEMPLATE: &str = "service.my_template";

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let operator = Peer::connect(&stage.url()).await?;
    declare_topology(&operator).await?;
    let services = [crew::hire(stage.url(), serve).await?, crew::hire(stage.url(), serve).await?];
    let mut north = Site::open(stage, "site.north").await?;
    let mut south = Site::open(stage, "site.south").await?;

    drop(north.begin().order("n0", "Fiver")); // rolled back: the customer did not pay
    let sent = north.relay().await?;
    report.check("a transaction that is rolled back orders nothing", sent, 0);
    north.begin().order("n1", "Hazel").order("n2", "Bigwig").commit();
    south.begin().order("s1", "Blackberry").commit();
    let sent = (north.relay().await?, south.relay().await?);
    report.check("what was committed leaves, confirmed by the broker, and the outbox is empty", sent, (2, 1));

    let found = north.collect(2, report).await?;
    let expected = documents(&[("n1", "Hazel"), ("n2", "Bigwig")]);
    report.check("a site gets the PDFs that it ordered, in whichever of its processes", found, expected);
    let found = south.collect(1, report).await?;
    report.check("and the other site its own, and no others", found, documents(&[("s1", "Blackberry")]));

    south.begin().order("s2", "Silver").commit();
    let orders = south.outbox.clone();
    south.relay().await?;
    south.outbox = orders; // the relay died between the confirm and the database
    south.relay().await?;
    let found = south.collect(2, report).await?;
    report.check(
        "an order that was sent twice is recognised by its message-id",
        found,
        documents(&[("s2", "Silver")]),
    );
    north.close().await?;
    south.close().await?;
    for crew in services {
        crew.dismiss().await?;
    }
    operator.close().await
}

async fn declare_topology(operator: &Peer) -> Result<()> {
    let channel = &operator.channel;
    declare_exchange(channel, TASKS, ExchangeKind::Direct, Life::Durable).await?;
    declare_exchange(channel, RESULTS, ExchangeKind::Direct, Life::Durable).await?;
    declare_queue(channel, TEMPLATE, Life::Durable).await?;
    bind(channel, TEMPLATE, TASKS, TEMPLATE).await?;
    Ok(())
}

/// A web site: its database, reduced to the outbox, and two processes that wait for results.
struct Site {
    queue: &'static str,
    outbox: Vec<Order>,
    publisher: Peer,
    processes: Vec<Process>,
    /// When each order left.
    sent: BTreeMap<String, Instant>,
}

struct Process {
    peer: Peer,
    inbox: Inbox,
}

/// What the service is asked for, as MessagePack.
#[derive(Serialize, Deserialize)]
struct Document {
    template: String,
    name: String,
}

#[derive(Clone)]
struct Order {
    id: &'static str,
    name: &'static str,
}

/// An open transaction; dropped without a commit it never happened.
struct Transaction<'a> {
    site: &'a mut Site,
    orders: Vec<Order>,
}

impl Transaction<'_> {
    fn order(mut self, id: &'static str, name: &'static str) -> Self {
        self.orders.push(Order { id, name });
        self
    }

    fn commit(self) {
        self.site.outbox.extend(self.orders);
    }
}

impl Site {
    async fn open(stage: &Stage, queue: &'static str) -> Result<Self> {
        let publisher = Peer::connect(&stage.url()).await?;
        declare_queue(&publisher.channel, queue, Life::Durable).await?;
        bind(&publisher.channel, queue, RESULTS, queue).await?;
        let mut processes = Vec::new();
        for _ in 0..2 {
            let peer = Peer::connect(&stage.url()).await?;
            let inbox = consume(&peer.channel, queue, Some(1)).await?;
            processes.push(Process { peer, inbox });
        }
        Ok(Self { queue, outbox: Vec::new(), publisher, processes, sent: BTreeMap::new() })
    }

    fn begin(&mut self) -> Transaction<'_> {
        Transaction { site: self, orders: Vec::new() }
    }

    /// Publishes what is in the outbox; an order leaves it when the broker has confirmed. Returns how many did.
    async fn relay(&mut self) -> Result<usize> {
        let mut sent = 0;
        for order in mem::take(&mut self.outbox) {
            let request = Document { template: "my_template".to_owned(), name: order.name.to_owned() };
            let body = content::encode(Format::MessagePack, &request)?.body;
            self.sent.insert(order.id.to_owned(), Instant::now());
            let properties = BasicProperties::default()
                .with_content_type("application/msgpack".into())
                .with_delivery_mode(2)
                .with_message_id(order.id.into())
                .with_reply_to(format!("{RESULTS}/{}", self.queue).into());
            match publish(&self.publisher.channel, (TASKS, TEMPLATE), properties, &body).await? {
                Outcome::Queued => sent += 1,
                Outcome::Unroutable | Outcome::Nacked => self.outbox.push(order),
            }
        }
        Ok(sent)
    }

    /// Waits for so many results in all processes; returns the documents by order.
    async fn collect(&mut self, count: usize, report: &mut Report) -> Result<BTreeMap<String, Vec<u8>>> {
        let [one, other] = &mut self.processes[..] else { anyhow::bail!("a site has two processes") };
        let mut documents = BTreeMap::new();
        for _ in 0..count {
            let result = tokio::select! {
                result = one.inbox.next() => result?,
                result = other.inbox.next() => result?,
            };
            let id = result.properties.correlation_id().as_ref().context("a result of no order")?.to_string();
            result.ack(BasicAckOptions::default()).await?;
            let by = answered_by(&result).context("a result without a signature")?;
            let sent = self.sent.get(&id).context("a result of somebody else's order")?;
            report.answered(TASKS, &by, sent.elapsed());
            documents.insert(id, result.data);
        }
        Ok(documents)
    }

    async fn close(self) -> Result<()> {
        for process in self.processes {
            process.peer.close().await?;
        }
        self.publisher.close().await
    }
}

/// The service: an order in, a document out, to the exchange and key in its `reply_to`.
async fn serve(client: Client) -> Result<Vec<Worker>, ServeError> {
    let render = leveret::raw(|request: Request| async move {
        let order = content::decode::<Document>(&request.payload);
        let order = order.map_err(|error| Failure::invalid_argument(error.to_string()))?;
        Ok(Answer::One(Payload::new("application/pdf", pdf(&order.name))))
    });
    let serve = client.serve(TEMPLATE, render).dialects(&[Dialect::Spring]).concurrency(1);
    Ok(vec![serve.start().await?])
}

fn documents(orders: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    orders.iter().map(|(id, name)| ((*id).to_owned(), pdf(name))).collect()
}

/// The head of a PDF file, with the name in it: binary, as PDFs are.
fn pdf(name: &str) -> Vec<u8> {
    let mut document = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    document.extend_from_slice(format!("% for {name}\n%%EOF\n").as_bytes());
    document
}
