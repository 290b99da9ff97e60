//! Where an end of a shovel or of a link is: this broker, or another one.

use std::sync::Arc;

use leveret_client::{ConnectOptions, Connecting, Connector, Transport};
use leveret_server::Handle;
use leveret_wire::AmqpUri;

/// A broker that messages come from or go to.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// This broker, in that virtual host, on behalf of whoever set the parameter.
    Here(String),
    /// Any broker.
    Elsewhere(Box<ConnectOptions>),
}

impl End {
    /// A URI without a host is this broker. Of several that are elsewhere any one is used. Answers what to show of them,
    /// too: no passwords.
    ///
    /// # Errors
    /// One is not readable. Its text is not shown: a password may be in it.
    pub(super) fn parse(uris: &[String]) -> Result<(Self, String), String> {
        let parsed: Result<Vec<_>, _> = uris.iter().map(|uri| AmqpUri::parse(uri)).collect();
        let parsed = parsed.map_err(|error| format!("not a valid URI: {error}"))?;
        if let (Some(here), Some(uri)) = (uris.iter().position(|uri| is_here(uri)), parsed.first()) {
            let vhost = parsed.get(here).unwrap_or(uri).vhost.clone();
            return Ok((Self::Here(vhost), "amqp://".to_owned()));
        }
        let options =
            ConnectOptions::parse(&uris.join(",")).map_err(|error| format!("not a valid URI: {error}"))?;
        let shown = parsed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Ok((Self::Elsewhere(Box::new(options)), shown))
    }

    /// The virtual host here that it needs.
    pub(super) fn vhost_here(&self) -> Option<&str> {
        match self {
            Self::Here(vhost) => Some(vhost),
            Self::Elsewhere(_) => None,
        }
    }

    /// How to connect to it. This broker checks every operation against what `user` may at the moment.
    pub(super) fn options(self, broker: &Handle, user: &str, label: &str) -> ConnectOptions {
        match self {
            Self::Elsewhere(options) => options.name(label),
            Self::Here(vhost) => {
                let here = Here { broker: broker.clone(), user: user.to_owned() };
                ConnectOptions::vouched(Arc::new(here)).vhost(&vhost).name(label)
            }
        }
    }
}

fn is_here(uri: &str) -> bool {
    uri.get(.."amqp://".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("amqp://"))
        && uri["amqp://".len()..].split(['/', '?', '#']).next().is_none_or(str::is_empty)
}

/// This broker, as a user of it.
struct Here {
    broker: Handle,
    user: String,
}

impl Connector for Here {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async { Ok(Box::new(self.broker.connect_as(&self.user)) as Box<dyn Transport>) })
    }
}
