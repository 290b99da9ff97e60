//! `leveret ctl federation`: exchanges and queues that get messages from other brokers.

use serde_json::{Value, json};

use super::arguments::argument;
use super::parameters;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

const COMPONENT: &str = "federation-upstream";

/// Federation: upstream brokers, and the links to them
///
/// A policy with federation-upstream-set or federation-upstream says what is federated.
#[derive(clap::Subcommand)]
pub(super) enum Federation {
    /// List the links, with their state
    Links,
    /// List the upstreams
    List,
    /// Make an upstream, or change it
    Declare {
        /// The name
        name: String,
        /// The upstream broker
        #[arg(long, value_name = "URL")]
        uri: String,
        /// Another setting, such as prefetch-count=100; may be repeated
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = argument)]
        settings: Vec<(String, Value)>,
    },
    /// Delete an upstream
    Delete {
        /// The name
        name: String,
    },
}

impl Federation {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Links => {
                let columns = ["vhost", "upstream", "type", "exchange", "queue", "status", "error"];
                session.list(session.listing("federation-links"), &columns).await
            }
            Self::List => {
                let path = match &session.vhost {
                    Some(vhost) => Path::of(&["parameters", COMPONENT, vhost]),
                    None => Path::of(&["parameters", COMPONENT]),
                };
                session.list(path, &["vhost", "name", "value"]).await
            }
            Self::Declare { name, uri, settings } => {
                let mut value = json!({"uri": uri});
                for (key, setting) in settings {
                    value[key] = setting;
                }
                parameters::set(session, "upstream", COMPONENT, &name, value).await
            }
            Self::Delete { name } => parameters::clear(session, "upstream", COMPONENT, &name).await,
        }
    }
}
