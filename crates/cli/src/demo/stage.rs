//! The broker that the stories are played on.

use std::path::Path;

use anyhow::{Context, Result};
use leveret_broker::users::Permissions;
use leveret_server::Broker;
use tempfile::TempDir;

/// A broker on a free port, whose data goes away with it.
pub(super) struct Stage {
    broker: Broker,
    directory: TempDir,
}

impl Stage {
    /// Starts a broker in a new directory.
    pub(super) async fn build() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("leveret-demo-").tempdir()?;
        let broker = start(directory.path()).await?;
        Ok(Self { broker, directory })
    }

    /// Where clients connect to.
    pub(super) fn url(&self) -> String {
        self.broker.url()
    }

    /// Where clients connect to, in a virtual host.
    pub(super) fn url_of(&self, vhost: &str) -> String {
        format!("{}/{vhost}", self.broker.url().trim_end_matches("/%2f"))
    }

    /// Where the data is.
    pub(super) fn path(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// Adds a virtual host that guest may use.
    pub(super) fn add_vhost(&self, name: &str) -> Result<()> {
        let rules = self.broker.rules();
        rules.add_vhost(name)?;
        rules.users.set_permissions("guest", name, Permissions::all())?;
        Ok(rules.save_user("guest")?)
    }

    /// Stops the broker in order and starts another one on the same data.
    pub(super) async fn restart(self) -> Result<Self> {
        let Self { broker, directory } = self;
        broker.stop().await?;
        let broker = start(directory.path()).await?;
        Ok(Self { broker, directory })
    }

    /// Stops the broker and removes its data.
    pub(super) async fn clear(self) -> Result<()> {
        self.broker.stop().await?;
        self.directory.close().context("removing the data")
    }
}

async fn start(path: &Path) -> Result<Broker> {
    Ok(Broker::builder().data_dir(path).any_port().start().await?)
}
