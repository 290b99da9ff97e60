//! Dynamic shovels: a parameter of component `shovel` is a shovel that runs in this process.
//!
//! ```text
//!   parameters ──changed──► reconcile: what is wanted, what runs? ──► start, stop
//!   shovel ends, all moved ──► its parameter is cleared
//! ```
//!
//! An end without a host is this broker, over a pipe in memory, on behalf of the user that set the parameter: every
//! operation is checked against what that user may at the moment.

mod definition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use leveret_admin::ShovelStatus;
use leveret_broker::authority::{Right, authorize};
use leveret_broker::parameters::{Component, Parameter};
use leveret_broker::users::User;
use leveret_server::Handle;
use leveret_shovel::{Ended, Shovel, Status, Supervised};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::end::End;
use definition::Definition;

/// What parameters of shovels are filed under.
const COMPONENT: &str = "shovel";
/// How long a shovel may take to confirm what is on its way when it is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// The shovels of this process.
pub(super) struct Shovels {
    broker: Handle,
    changed: Notify,
    running: Mutex<BTreeMap<Place, Running>>,
}

/// Virtual host and name.
type Place = (String, String);

struct Running {
    /// What it was started from.
    parameter: Arc<Parameter>,
    /// It is to be stopped and started again.
    is_stale: bool,
    shovel: Arc<Supervised>,
    about: serde_json::Map<String, serde_json::Value>,
    /// Clears the parameter when everything is moved.
    watch: JoinHandle<()>,
}

impl Shovels {
    /// Starts what the parameters want, now and whenever they change.
    pub(super) fn start(broker: Handle) -> Arc<Self> {
        let shovels = Arc::new(Self { broker, changed: Notify::new(), running: Mutex::default() });
        shovels.rules().add_component(Arc::new(Parameters(shovels.clone())));
        let reconciling = shovels.clone();
        tokio::spawn(async move {
            loop {
                reconciling.reconcile().await;
                reconciling.changed.notified().await;
            }
        });
        shovels
    }

    /// Stops all, so that nothing is on its way when the broker stops.
    pub(super) async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        let stopping: Vec<_> = all.into_values().map(|running| tokio::spawn(running.stop())).collect();
        for stopped in stopping {
            drop(stopped.await);
        }
    }

    fn rules(&self) -> &Arc<leveret_broker::Broker> {
        self.broker.rules()
    }

    async fn reconcile(self: &Arc<Self>) {
        let wanted: BTreeMap<Place, Arc<Parameter>> = self
            .rules()
            .parameters_of(COMPONENT)
            .into_iter()
            .map(|parameter| ((parameter.vhost.clone(), parameter.name.clone()), parameter))
            .collect();
        let outdated: Vec<Running> = {
            let mut running = self.running.lock();
            let is_outdated = |place: &Place, running: &Running| {
                running.is_stale || wanted.get(place).is_none_or(|parameter| *parameter != running.parameter)
            };
            let places: Vec<Place> = running
                .iter()
                .filter(|(place, running)| is_outdated(place, running))
                .map(|(place, _)| place.clone())
                .collect();
            places.iter().filter_map(|place| running.remove(place)).collect()
        };
        for running in outdated {
            running.stop().await;
        }
        for (place, parameter) in wanted {
            let mut running = self.running.lock();
            if !running.contains_key(&place)
                && let Some(started) = self.run(parameter)
            {
                running.insert(place, started);
            }
        }
    }

    /// `None`: this version does not understand what another one took.
    fn run(self: &Arc<Self>, parameter: Arc<Parameter>) -> Option<Running> {
        let Parameter { vhost, name, value, set_by, .. } = &*parameter;
        let definition = Definition::parse(vhost, name, value)
            .inspect_err(|reason| tracing::error!(vhost, name, reason, "shovel not started"))
            .ok()?;
        let Definition { transfer, source, destination, reconnect_delay, shown } = definition;
        let label = format!("Shovel {name}");
        let (source, destination) =
            (source.options(&self.broker, set_by, &label), destination.options(&self.broker, set_by, &label));
        let shovel = Arc::new(Shovel { transfer, source, destination, reconnect_delay, label }.start());
        let watch = tokio::spawn(clear_when_done(self.clone(), shovel.clone(), parameter.clone()));
        Some(Running { parameter, is_stale: false, shovel, about: shown, watch })
    }
}

impl leveret_admin::Shovels for Shovels {
    fn list(&self) -> Vec<ShovelStatus> {
        self.running.lock().iter().map(|((vhost, name), running)| running.status(vhost, name)).collect()
    }

    fn restart(&self, vhost: &str, name: &str) -> bool {
        let mut running = self.running.lock();
        let Some(found) = running.get_mut(&(vhost.to_owned(), name.to_owned())) else { return false };
        found.is_stale = true;
        self.changed.notify_one();
        true
    }
}

async fn clear_when_done(shovels: Arc<Shovels>, shovel: Arc<Supervised>, parameter: Arc<Parameter>) {
    if shovel.ended().await == Status::Ended(Ended::Done) {
        let Parameter { vhost, name, .. } = &*parameter;
        tracing::info!(vhost, name, "shovel has moved everything; its parameter is cleared");
        if let Err(error) = shovels.rules().clear_parameter(COMPONENT, vhost, name) {
            tracing::warn!(%error, vhost, name, "the parameter of a shovel could not be cleared");
        }
        shovels.broker.hurry();
    }
}

impl Running {
    async fn stop(self) {
        self.shovel.stop();
        if tokio::time::timeout(STOP_TIMEOUT, self.shovel.ended()).await.is_err() {
            tracing::warn!(name = self.parameter.name, "a shovel did not stop in time");
        }
        self.watch.abort();
    }

    fn status(&self, vhost: &str, name: &str) -> ShovelStatus {
        let (status, since) = self.shovel.status();
        let (state, reason) = match status {
            Status::Starting => ("starting", None),
            Status::Running | Status::Ended(_) => ("running", None),
            Status::Terminated(reason) => ("terminated", Some(reason)),
        };
        let since_s = since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        ShovelStatus {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            state,
            reason,
            since_s,
            moved: self.shovel.progress().moved(),
            about: self.about.clone(),
        }
    }
}

/// The component that the broker asks.
struct Parameters(Arc<Shovels>);

impl Component for Parameters {
    fn name(&self) -> &str {
        COMPONENT
    }

    fn check(&self, parameter: &Parameter, user: &User) -> Result<(), String> {
        let definition = Definition::parse(&parameter.vhost, &parameter.name, &parameter.value)?;
        for vhost in [&definition.source, &definition.destination].into_iter().filter_map(End::vhost_here) {
            if authorize(user, Right::Enter(vhost)).is_err() {
                return Err(format!("user \"{}\" may not connect to vhost \"{vhost}\"", user.name));
            }
        }
        Ok(())
    }

    fn changed(&self) {
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
