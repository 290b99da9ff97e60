//! What moves messages between this broker and others, as far as the API shows it.

use serde_json::{Map, Value};

/// The shovels of the process. They are set up by parameters of component `shovel`.
pub trait Shovels: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<ShovelStatus>;

    /// Starts one anew; `false` if there is none of that name.
    fn restart(&self, vhost: &str, name: &str) -> bool;
}

/// A shovel, and what it is doing.
#[derive(Clone, Debug)]
pub struct ShovelStatus {
    /// The virtual host of its parameter.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// `starting`, `running` or `terminated`.
    pub state: &'static str,
    /// Why it is terminated; no passwords.
    pub reason: Option<String>,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// Messages it has moved since it was started.
    pub moved: u64,
    /// Where it takes and gives, under RabbitMQ's names: `src_uri`, `dest_queue` and so on; no passwords.
    pub about: Map<String, Value>,
}
