//! SIGHUP: the configuration is read again, and what can change while the broker runs changes. All of it or, when
//! anything in it is wrong, nothing.

use leveret_server::Broker;

use super::certificate;
use super::http::Http;
use crate::config::Settings;
use crate::logging::Log;

/// The settings of a running broker.
pub(super) struct Reloadable {
    /// What it was started with: what cannot change stays so.
    started: Settings,
    current: Settings,
}

impl Reloadable {
    pub(super) fn new(settings: Settings) -> Reloadable {
        Reloadable { started: settings.clone(), current: settings }
    }

    /// Puts new settings in force, and says in the log which.
    ///
    /// # Errors
    /// A certificate cannot be used; nothing has changed.
    pub(super) fn reload(
        &mut self,
        new: Settings,
        broker: &Broker,
        http: &Http,
        log: &Log,
    ) -> anyhow::Result<()> {
        let mut config = new.broker.clone();
        config.tls = certificate::load(&new)?;
        let for_http = certificate::load_for_http(&new)?;
        let expires_at_s = certificate::expires_at_s(&new)?;
        log.set_levels(new.log.clone());
        log.set_format(new.log_format);
        broker.reconfigure(&config);
        if let Some(certificate) = for_http {
            http.change_certificate(certificate, expires_at_s);
            tracing::info!("certificate reloaded; new connections get it");
        }
        self.tell(&new);
        self.current = new;
        Ok(())
    }

    fn tell(&self, new: &Settings) {
        let now: Vec<_> = self.current.differences(new).filter(|key| key.changes_at_reload()).collect();
        let later: Vec<_> = self.started.differences(new).filter(|key| !key.changes_at_reload()).collect();
        tracing::info!(changed = names(&now), "configuration reloaded");
        if !later.is_empty() {
            tracing::warn!(keys = names(&later), "these take effect at the next start");
        }
    }
}

fn names(keys: &[&crate::config::Key]) -> String {
    keys.iter().map(|key| key.name()).collect::<Vec<_>>().join(", ")
}
