//! `leveret ctl parameters` and `leveret ctl global-parameters`.

use serde_json::{Value, json};

use super::arguments::json_or_text;
use super::output::Thing;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// Parameters of components, such as shovels and federation
#[derive(clap::Subcommand)]
pub(super) enum Parameters {
    /// List the parameters
    List {
        /// Only those of this component
        #[arg(long, value_name = "COMPONENT")]
        component: Option<String>,
    },
    /// Make a parameter, or change it
    Set {
        /// The component
        component: String,
        /// The name
        name: String,
        /// JSON; what is none is a text
        #[arg(value_parser = json_or_text)]
        value: Value,
    },
    /// Delete a parameter
    #[command(visible_alias = "delete")]
    Clear {
        /// The component
        component: String,
        /// The name
        name: String,
    },
}

/// Parameters of the whole broker
#[derive(clap::Subcommand)]
pub(super) enum GlobalParameters {
    /// List the global parameters
    List,
    /// Make a global parameter, or change it
    Set {
        /// The name
        name: String,
        /// JSON; what is none is a text
        #[arg(value_parser = json_or_text)]
        value: Value,
    },
    /// Delete a global parameter
    #[command(visible_alias = "delete")]
    Clear {
        /// The name
        name: String,
    },
}

impl Parameters {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { component } => {
                let path = match (component, &session.vhost) {
                    (Some(component), Some(vhost)) => Path::of(&["parameters", &component, vhost]),
                    (Some(component), None) => Path::of(&["parameters", &component]),
                    (None, _) => Path::of(&["parameters"]),
                };
                session.list(path, &["component", "vhost", "name", "value"]).await
            }
            Self::Set { component, name, value } => set(session, "parameter", &component, &name, value).await,
            Self::Clear { component, name } => clear(session, "parameter", &component, &name).await,
        }
    }
}

/// Sets a parameter of a component that has words of its own for it.
pub(super) async fn set(
    session: &Session,
    kind: &'static str,
    component: &str,
    name: &str,
    value: Value,
) -> Result<(), Failure> {
    let thing = Thing { kind, name, vhost: Some(session.vhost()) };
    session.put(&thing, &path(session, component, name), &json!({"value": value})).await
}

/// Takes such a parameter away.
pub(super) async fn clear(
    session: &Session,
    kind: &'static str,
    component: &str,
    name: &str,
) -> Result<(), Failure> {
    let thing = Thing { kind, name, vhost: Some(session.vhost()) };
    session.delete(&thing, &path(session, component, name)).await
}

fn path(session: &Session, component: &str, name: &str) -> Path {
    Path::of(&["parameters", component, session.vhost(), name])
}

impl GlobalParameters {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let path = |name: &str| Path::of(&["global-parameters", name]);
        match self {
            Self::List => session.list(Path::of(&["global-parameters"]), &["name", "value"]).await,
            Self::Set { name, value } => {
                let thing = Thing { kind: "global parameter", name: &name, vhost: None };
                session.put(&thing, &path(&name), &json!({"value": value})).await
            }
            Self::Clear { name } => {
                let thing = Thing { kind: "global parameter", name: &name, vhost: None };
                session.delete(&thing, &path(&name)).await
            }
        }
    }
}
