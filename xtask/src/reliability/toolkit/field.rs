//! Where faults happen: a broker, and everybody who talks to it through a proxy of their own.
//!
//! ```text
//!   caller ────────── proxy ──┐
//!   worker "inside" ─ proxy ──┼── broker
//!   worker process ── proxy ──┘
//! ```

use anyhow::{Context, Result, anyhow};
use leveret::{Client, Worker};
use leveret_testkit::fault_proxy::{Direction, FaultProxy};
use leveret_testkit::random::Random;
use serde_json::Value;
use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::fault::{Fault, Whose};
use super::job::{Diary, FRAGILE, Job, WORK, serve};
use super::poison;
use super::process::{PROCESS, WorkerProcess, connect};
use super::records::Records;

/// What the worker in this process answers.
const INSIDE: &str = "inside";
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often something is looked at that has to happen soon.
const LOOK: Duration = Duration::from_millis(10);
/// From the last outcome to nothing in flight.
const REST_BOUND: Duration = Duration::from_secs(5);
/// A killed worker process is started again after this time, if the fault does not say otherwise.
const RESPAWN: Duration = Duration::from_millis(20);

pub(super) struct Field {
    broker: Broker,
    proxies: Proxies,
    pub(super) client: Client,
    serving: Client,
    worker: Worker,
    process: WorkerProcess,
    diary: Diary,
}

struct Proxies {
    caller: FaultProxy,
    worker: FaultProxy,
    process: FaultProxy,
}

impl Proxies {
    fn start(broker: SocketAddr) -> std::io::Result<Proxies> {
        let start = || FaultProxy::start(broker);
        Ok(Proxies { caller: start()?, worker: start()?, process: start()? })
    }

    fn of(&self, whose: Whose) -> Vec<&FaultProxy> {
        match whose {
            Whose::Caller => vec![&self.caller],
            Whose::Worker => vec![&self.worker],
            Whose::Process => vec![&self.process],
            Whose::Workers => vec![&self.worker, &self.process],
            Whose::All => vec![&self.caller, &self.worker, &self.process],
        }
    }

    async fn heal(&self) -> std::io::Result<()> {
        for proxy in self.of(Whose::All) {
            proxy.thaw();
            proxy.limit_bytes_per_s(None);
            for direction in [Direction::ToUpstream, Direction::ToClient] {
                proxy.delay(direction, Duration::ZERO, Duration::ZERO);
            }
            proxy.refuse(false).await?;
        }
        Ok(())
    }
}

impl Field {
    pub(super) async fn set_up(broker: Broker, records: Arc<Records>) -> Result<Field> {
        let proxies = Proxies::start(broker.address().context("the broker was just started")?)?;
        let diary: Diary = Arc::new(move |mark, id| records.noted(mark, id));
        let client = connect("campaign-caller", proxies.caller.address()).await?;
        let serving = connect("campaign-worker", proxies.worker.address()).await?;
        let worker = serve(&serving, WORK, INSIDE, diary.clone()).await?;
        let process = WorkerProcess::start(proxies.process.address(), diary.clone())?;
        let mut field = Field { broker, proxies, client, serving, worker, process, diary };
        field.control().await.context("before any fault")?;
        Ok(field)
    }

    /// Which connections the caller and the worker inside have: others than before, if one was lost.
    pub(super) async fn connections(&self) -> Result<[u64; 2]> {
        let id = async |client: &Client| {
            let connection = client.connection().await.map_err(|closed| anyhow!("{closed}"))?;
            anyhow::Ok(connection.local_id())
        };
        Ok([id(&self.client).await?, id(&self.serving).await?])
    }

    pub(super) fn broker_bytes(&self) -> Option<u64> {
        self.broker.resident_bytes()
    }

    /// Does what the fault says, from its begin to its end; returns what a report should know.
    pub(super) async fn suffer(&mut self, fault: Fault, random: &mut Random) -> Result<String> {
        let proxies = &self.proxies;
        match fault {
            Fault::BrokerKilled { down } => {
                self.broker.kill()?;
                tokio::time::sleep(down).await;
                self.broker.start_again()?;
                let address = self.broker.address().context("the broker was just started")?;
                self.proxies.of(Whose::All).iter().for_each(|proxy| proxy.redirect(address));
            }
            Fault::Cut(whose) => proxies.of(whose).iter().for_each(|proxy| proxy.cut()),
            Fault::Flapping { whose, times } => {
                for _ in 0..times {
                    proxies.of(whose).iter().for_each(|proxy| proxy.cut());
                    tokio::time::sleep(Duration::from_millis(random.below(150))).await;
                }
            }
            Fault::HalfOpen { whose, time, dies } => {
                proxies.of(whose).iter().for_each(|proxy| proxy.freeze());
                tokio::time::sleep(time).await;
                if dies {
                    proxies.of(whose).iter().for_each(|proxy| proxy.cut());
                }
            }
            Fault::Delayed { whose, delay, jitter } => {
                for proxy in proxies.of(whose) {
                    proxy.delay(Direction::ToUpstream, delay, jitter);
                    proxy.delay(Direction::ToClient, delay, jitter);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Fault::Trickle { whose, bytes_per_s, time } => {
                proxies.of(whose).iter().for_each(|proxy| proxy.limit_bytes_per_s(Some(bytes_per_s)));
                tokio::time::sleep(time).await;
            }
            Fault::Refused { whose, time } => {
                for proxy in proxies.of(whose) {
                    proxy.refuse(true).await?;
                    proxy.cut();
                }
                tokio::time::sleep(time).await;
            }
            Fault::ProcessKilled { down } => self.restart_process(down).await?,
            Fault::Poison => return Ok(poison::send_some(&self.client, random).await),
            Fault::ReplyQueueDeleted => self.delete_reply_queue().await?,
            Fault::ServiceQueueDeleted => self.delete(WORK).await?,
            // These are in what is asked for.
            Fault::DeadlyRequest | Fault::Panics | Fault::Hangs | Fault::CancelStorm => {}
        }
        self.proxies.heal().await?;
        Ok(String::new())
    }

    async fn restart_process(&mut self, down: Duration) -> Result<()> {
        let address = self.proxies.process.address();
        let _its_end = self.process.kill();
        tokio::time::sleep(down).await;
        self.process = WorkerProcess::start(address, self.diary.clone())?;
        Ok(())
    }

    /// Starts the worker process again whenever it has ended by itself.
    pub(super) async fn keep_process_running(&mut self) -> Result<()> {
        loop {
            if !self.process.is_running() {
                self.restart_process(RESPAWN).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn delete_reply_queue(&self) -> Result<()> {
        let asked = self.client.call::<_, String>(WORK, &Job::ReplyQueue).timeout(CONTROL_TIMEOUT);
        let queue = asked.await.context("which reply queue?")?;
        self.delete(&queue).await
    }

    async fn delete(&self, queue: &str) -> Result<()> {
        let connection = self.client.connection().await.map_err(|closed| anyhow!("{closed}"))?;
        connection.channel().await?.delete_queue(queue).await?;
        Ok(())
    }

    /// Calls until both workers have answered: nobody is stuck. How long that took.
    pub(super) async fn control(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let mut missing = BTreeSet::from([(WORK, INSIDE), (WORK, PROCESS), (FRAGILE, PROCESS)]);
        let mut last = String::new();
        while let Some((service, _)) = missing.first().copied() {
            if begun.elapsed() > self.broker.recovery_bound() {
                return Err(anyhow!("no answer from {missing:?}; the last error: {last}"));
            }
            if !self.process.is_running() {
                self.restart_process(RESPAWN).await?;
            }
            let call = self.client.call::<_, String>(service, &Job::Quick).timeout(CONTROL_TIMEOUT);
            match call.await {
                Ok(who) => missing.retain(|found| *found != (service, who.as_str())),
                Err(error) => {
                    last = error.to_string();
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        Ok(begun.elapsed())
    }

    /// Waits until nothing is in flight any more.
    ///
    /// # Errors
    /// What still is.
    pub(super) async fn rest(&self) -> Result<()> {
        let until = Instant::now() + REST_BOUND;
        loop {
            let (calls, requests) = (self.client.in_flight(), self.worker.stats().in_flight);
            if calls == 0 && requests == 0 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(anyhow!(
                    "{calls} calls and {requests} requests of the worker inside are in flight"
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the worker process says it has in flight.
    pub(super) async fn process_in_flight(&self) -> Result<u64> {
        let asked = self.client.gather_raw::<Value>("rpc.ctl", "stats", leveret::Payload::bytes(""));
        let asked = asked.silence(Duration::from_millis(500)).timeout(CONTROL_TIMEOUT);
        let workers = asked.into_future().await?;
        let in_flight = |worker: &Value| worker["endpoints"][0]["data"]["in_flight"].as_u64().unwrap_or(0);
        let told: Vec<_> = workers.iter().filter_map(|worker| worker.answer.as_ref().ok()).collect();
        // Two services of the process, one inside.
        anyhow::ensure!(told.len() == 3, "{} of 3 workers answer to discovery", told.len());
        Ok(told.into_iter().map(in_flight).sum())
    }
}
