//! A plain connection to any AMQP 0-9-1 broker, for the commands that move messages.

use leveret_client::{ChannelError, Closed, ConnectError, ConnectOptions, Connection, NotConfirmed};
use leveret_server::Broker;

use crate::failure::Failure;
use crate::toolkit::BrokerUrl;

const EMBEDDED_URL: &str = "embedded:";

/// A connection, and the broker behind it if that is inside.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    embedded: Option<Broker>,
}

impl BrokerUrl {
    /// Connects without the toolkit's queues and exchanges. `name` is what the broker's operator sees.
    ///
    /// # Errors
    /// [`Failure::Usage`] for what is no address, else [`Failure::Connection`]; never with the password in it.
    pub(crate) async fn connect_plainly(&self, name: &str) -> Result<Client, Failure> {
        let embedded = match self.url.as_str() {
            EMBEDDED_URL => Some(start_embedded().await?),
            _ => None,
        };
        let url = embedded.as_ref().map_or_else(|| self.url.clone(), Broker::url);
        let connection = Connection::open(&ConnectOptions::parse(&url)?.name(name)).await?;
        Ok(Client { connection, embedded })
    }
}

async fn start_embedded() -> Result<Broker, Failure> {
    let started = Broker::builder().in_memory().any_port().start().await;
    started.map_err(|error| Failure::Other(error.into()))
}

impl Client {
    /// Says goodbye; everything sent before has been handled by the broker then.
    ///
    /// # Errors
    /// The broker inside cannot stop in order.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.connection.close().await;
        if let Some(broker) = self.embedded {
            broker.stop().await.map_err(|error| Failure::Other(error.into()))?;
        }
        Ok(())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Url { .. } => Self::Usage(format!("--url: {error}")),
            error => Self::Connection(error.to_string()),
        }
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed(closed) => closed.into(),
            error => Self::Usage(error.to_string()),
        }
    }
}

/// The exit code that fits the broker's reply code.
impl From<Closed> for Failure {
    fn from(closed: Closed) -> Self {
        match closed.code {
            404 | 313 => Self::NoRoute(closed.text.to_string()),
            403 | 311 | 506 | 530 => Self::Refused(closed.text.to_string()),
            0 | 320 => Self::Connection(closed.to_string()),
            _ => Self::Other(closed.into()),
        }
    }
}

impl From<NotConfirmed> for Failure {
    fn from(error: NotConfirmed) -> Self {
        match error {
            NotConfirmed::Refused => Self::Refused("the broker did not take the message".to_owned()),
            NotConfirmed::Returned(back) => {
                let (exchange, key) = (back.exchange.as_str(), back.routing_key.as_str());
                let whence = match exchange {
                    "" => format!("there is no queue {key:?}"),
                    _ => format!("exchange {exchange:?} has no queue for the routing key {key:?}"),
                };
                Self::NoRoute(format!("{}: {whence}", back.text))
            }
            NotConfirmed::Lost { closed, .. } => closed.into(),
        }
    }
}

/// A name or a routing key for AMQP.
///
/// # Errors
/// It has more than 255 octets.
pub(crate) fn short(what: &str, text: &str) -> Result<String, Failure> {
    match text.len() {
        0..=255 => Ok(text.to_owned()),
        _ => Err(Failure::Usage(format!("{what} has more than 255 octets"))),
    }
}

#[cfg(test)]
mod tests {
    use leveret_client::{By, Scope};

    use super::*;

    #[test]
    fn a_refusal_has_the_code_that_fits() {
        let check = |code: u16, expected: &str| {
            let closed = Closed { scope: Scope::Channel, by: By::Broker, code, text: "words".into() };
            let failure = format!("{:?}", Failure::from(closed));
            assert!(failure.starts_with(expected) && failure.contains("words"), "{code}: {failure}");
        };
        check(404, "NoRoute");
        check(313, "NoRoute");
        check(403, "Refused");
        check(311, "Refused");
        check(530, "Refused");
        check(320, "Connection");
        check(0, "Connection");
        check(406, "Other");
    }
}
