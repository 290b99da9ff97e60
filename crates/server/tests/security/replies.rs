//! Direct replies reach those who asked, and nobody else: an address that was forged, altered, kept for too long or
//! carried into another virtual host leads nowhere, and says so.

use std::time::{Duration, Instant};

use leveret_broker::users::Permissions;
use leveret_server::Broker;
use leveret_wire::method::{
    BasicConsume, BasicPublish, ChannelClose, ChannelOpen, ConfirmSelect, QueueDeclare,
};
use leveret_wire::{Method, Properties};
use tokio::io::DuplexStream;

use crate::support::{CHANNEL, Peer, plain};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const FORGERIES: usize = 5_000;
/// For all of them, on a busy machine and without optimisation: 2 ms each, or somebody searches.
const FORGERIES_MAX: Duration = Duration::from_secs(10);

/// A requester in `/` with its address, and whoever answers.
struct Stage {
    broker: Broker,
    requester: Peer<DuplexStream>,
    /// The consumer of `service`, in the same virtual host.
    service: Peer<DuplexStream>,
    address: String,
}

impl Stage {
    async fn set() -> Stage {
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        broker.rules().add_vhost("other").unwrap();
        broker.rules().users.set_permissions("guest", "other", Permissions::all()).unwrap();
        let mut service = peer(&broker, "/").await;
        service.declare("service").await;
        consume(&mut service, "service").await;
        let mut requester = peer(&broker, "/").await;
        let address = address_of(&mut requester, &mut service).await;
        Stage { broker, requester, service, address }
    }

    /// Answers from `vhost`: mandatory answers to these addresses come back, each, and nothing reaches anybody.
    async fn check_unroutable(&mut self, vhost: &str, addresses: &[String]) {
        let mut forger = peer(&self.broker, vhost).await;
        for address in addresses {
            let publish = BasicPublish { routing_key: address, mandatory: true, ..Default::default() };
            forger.publish_to(CHANNEL, publish, &Properties::default(), b"forged").await;
            let frame = forger.expect("basic.return").await;
            let Method::BasicReturn(returned) = frame.method() else { panic!("{frame:?}") };
            assert_eq!((returned.reply_code, returned.routing_key), (312, address.as_str()));
            forger.content().await;
            // Without `mandatory` it is confirmed and gone.
            forger.publish(address, b"forged").await;
        }
        forger.ask(CHANNEL, ConfirmSelect::default(), "confirm.select-ok").await;
    }

    /// The true answer comes first: nothing forged was before it.
    async fn check_still_reached(&mut self) {
        self.service.publish(&self.address, b"true").await;
        self.requester.expect("basic.deliver").await;
        assert_eq!(self.requester.content().await, b"true");
    }
}

async fn peer(broker: &Broker, vhost: &str) -> Peer<DuplexStream> {
    let mut peer = Peer::log_in(broker.connect_in_memory(), "PLAIN", &plain("guest", "guest")).await.unwrap();
    peer.enter(vhost, 0).await.unwrap();
    peer
}

async fn consume(peer: &mut Peer<DuplexStream>, queue: &str) {
    let consume = BasicConsume { queue, no_ack: true, ..Default::default() };
    peer.ask(CHANNEL, consume, "basic.consume-ok").await;
}

/// What the service is told to answer to.
async fn address_of(requester: &mut Peer<DuplexStream>, service: &mut Peer<DuplexStream>) -> String {
    consume(requester, REPLY_TO).await;
    let properties = Properties { reply_to: Some(REPLY_TO.into()), ..Default::default() };
    requester.publish_with(&properties, "service", b"ask").await;
    service.expect("basic.deliver").await;
    let header = service.frame().await.unwrap();
    let header = leveret_wire::parse_header(&header.payload).unwrap();
    let address = header.properties.to_properties().reply_to.unwrap();
    let address = String::from_utf8(address).unwrap();
    let body = service.frame().await.unwrap();
    assert_eq!(body.payload, b"ask");
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    address
}

/// Every text that is one bit or one character away, or cut, or longer.
fn altered(address: &str) -> Vec<String> {
    let start = REPLY_TO.len() + 1;
    let mut altered: Vec<String> = (start..address.len()).map(|len| address[..len].to_owned()).collect();
    for (at, octet) in address.bytes().enumerate().skip(start) {
        for bit in 0..7 {
            let mut octets = address.as_bytes().to_vec();
            octets[at] = octet ^ (1 << bit);
            altered.extend(String::from_utf8(octets));
        }
    }
    let longer = ["=", "A", "AAAA", "\0", ".", " "].map(|more| format!("{address}{more}"));
    altered.extend(longer);
    altered.push(format!("{address}{}", "A".repeat(255 - address.len())));
    altered.push(address.to_uppercase());
    altered.push(address.replacen("amq", "AMQ", 1));
    altered
}

#[tokio::test]
async fn altered_addresses_reach_nobody() {
    let mut stage = Stage::set().await;
    let addresses = altered(&stage.address);
    assert!(addresses.len() > 200 && !addresses.contains(&stage.address));
    stage.check_unroutable("/", &addresses).await;
    stage.check_still_reached().await;
}

#[tokio::test]
async fn parts_of_two_addresses_make_no_third() {
    let mut stage = Stage::set().await;
    let mut neighbour = peer(&stage.broker, "/").await;
    let other = address_of(&mut neighbour, &mut stage.service).await;
    let start = REPLY_TO.len() + 1;
    let address = stage.address.clone();
    let spliced = (start + 1..address.len()).map(|at| format!("{}{}", &address[..at], &other[at..]));
    let spliced: Vec<String> = spliced.filter(|text| *text != address && *text != other).collect();
    stage.check_unroutable("/", &spliced).await;
    stage.check_still_reached().await;
    stage.service.publish(&other, b"for the neighbour").await;
    neighbour.expect("basic.deliver").await;
    assert_eq!(neighbour.content().await, b"for the neighbour");
}

#[tokio::test]
async fn addresses_lead_nowhere_in_another_virtual_host() {
    let mut stage = Stage::set().await;
    let address = stage.address.clone();
    stage.check_unroutable("other", std::slice::from_ref(&address)).await;
    let mut stranger = peer(&stage.broker, "other").await;
    let declare = QueueDeclare { queue: &address, passive: true, ..Default::default() };
    let frame = stranger.ask(CHANNEL, declare, "channel.close").await;
    let Method::ChannelClose(close) = frame.method() else { panic!("{frame:?}") };
    assert_eq!(close.reply_code, 404, "not even whether it is one");
    stage.check_still_reached().await;
}

#[tokio::test]
async fn addresses_of_another_broker_lead_nowhere() {
    let (mut stage, elsewhere) = (Stage::set().await, Stage::set().await);
    stage.check_unroutable("/", &[elsewhere.address]).await;
    stage.check_still_reached().await;
}

#[tokio::test]
async fn an_address_ends_with_its_channel() {
    let mut stage = Stage::set().await;
    let address = stage.address.clone();
    stage.requester.ask(CHANNEL, ChannelClose::default(), "channel.close-ok").await;
    stage.check_unroutable("/", std::slice::from_ref(&address)).await;
    stage.requester.ask(CHANNEL, ChannelOpen::default(), "channel.open-ok").await;
    stage.address = address_of(&mut stage.requester, &mut stage.service).await;
    stage.check_unroutable("/", &[address]).await;
    stage.check_still_reached().await;
}

#[tokio::test]
async fn thousands_of_forgeries_are_refused_without_a_search() {
    let mut stage = Stage::set().await;
    let forged: Vec<String> = (0..FORGERIES).map(|number| format!("{REPLY_TO}.{number:032}")).collect();
    let began = Instant::now();
    stage.check_unroutable("/", &forged).await;
    assert!(began.elapsed() < FORGERIES_MAX, "{:?}", began.elapsed());
    stage.check_still_reached().await;
}
