//! A connection to any AMQP 0-9-1 broker, for the commands that are clients.

use std::time::Duration;

use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties};
use leveret_server::Broker;
use leveret_wire::AmqpUri;

use crate::failure::{Failure, words_of};

const EMBEDDED_URL: &str = "embedded:";
/// From the first packet to `connection.open-ok`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_SUCCESS: u16 = 200;

/// Which broker to talk to.
#[derive(clap::Args)]
pub(crate) struct BrokerUrl {
    /// The broker: amqp://USER:PASSWORD@HOST:PORT/VHOST, or `embedded:` for one inside, in memory
    #[arg(
        long,
        value_name = "URL",
        env = "LEVERET_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    url: String,
}

/// A connection with one channel.
pub(crate) struct Client {
    /// The channel.
    pub(crate) channel: Channel,
    connection: Connection,
    embedded: Option<Broker>,
}

impl BrokerUrl {
    /// Connects. `name` is what the broker's operator sees.
    ///
    /// # Errors
    /// [`Failure::Usage`] for what is no address, else [`Failure::Connection`]; never with the password in it.
    pub(crate) async fn connect(&self, name: &str) -> Result<Client, Failure> {
        if self.url == EMBEDDED_URL {
            let broker = Broker::builder().in_memory().any_port().start().await;
            let broker = broker.map_err(|error| Failure::Other(error.into()))?;
            let address = parse(&broker.url())?;
            return connect(address, name, Some(broker)).await;
        }
        connect(parse(&self.url)?, name, None).await
    }
}

impl Client {
    /// Says goodbye; everything sent before has been handled by the broker then.
    ///
    /// # Errors
    /// The connection is gone already.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.connection.close(REPLY_SUCCESS, ShortString::from("OK")).await?;
        if let Some(broker) = self.embedded {
            broker.stop().await.map_err(|error| Failure::Other(error.into()))?;
        }
        Ok(())
    }
}

fn parse(url: &str) -> Result<AmqpUri, Failure> {
    let address = AmqpUri::parse(url).map_err(|error| Failure::Usage(format!("--url: {error}")))?;
    if address.tls {
        return Err(Failure::Usage("--url: this version speaks TLS as a broker, not yet as a client".into()));
    }
    Ok(address)
}

async fn connect(address: AmqpUri, name: &str, embedded: Option<Broker>) -> Result<Client, Failure> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let uri = lapin_uri(&address)?;
    let attempt = async {
        let connection = Connection::connect_uri(uri, properties).await?;
        let channel = connection.create_channel().await?;
        Ok(Client { channel, connection, embedded })
    };
    let failed = |why: String| Failure::Connection(format!("cannot connect to {address}: {why}"));
    match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(connected) => connected.map_err(|error| failed(words_of(&error))),
        Err(_) => Err(failed(format!("no answer for {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

fn lapin_uri(address: &AmqpUri) -> Result<AMQPUri, Failure> {
    let password = String::from_utf8(address.password.expose().to_vec());
    let password = password.map_err(|_| Failure::Usage("--url: the password is not UTF-8".to_owned()))?;
    let heartbeat = match address.parameter("heartbeat") {
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::Usage("--url: heartbeat is a number of seconds, at most 65535".to_owned())
        })?),
        None => None,
    };
    Ok(AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: address.user.clone(), password },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: address.vhost.clone(),
        query: AMQPQueryString { heartbeat, ..AMQPQueryString::default() },
    })
}

/// A name or a routing key for AMQP.
///
/// # Errors
/// It has more than 255 octets.
pub(crate) fn short(what: &str, text: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(text).map_err(|_| Failure::Usage(format!("{what} has more than 255 octets")))
}
