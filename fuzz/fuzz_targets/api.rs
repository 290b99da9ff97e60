//! Requests of an administrator to the HTTP API: `METHOD PATH\nBODY`, through the handlers, without a socket.
//!
//! Finds: panics in paths, queries and bodies; answers that blame us (5xx) for what was asked.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Uri};
use leveret_admin::http::Peer;
use leveret_admin::{
    FederationLinks, Host, Journal, LinkStatus, LoggedIn, NodeFacts, ShovelStatus, Shovels, Surface, routers,
};
use leveret_broker::{Batch, Broker, Limits};
use leveret_store::{MemDisk, Options};
use leveret_wire::sasl::Credentials;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower_service::Service;

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "OPTIONS"];
/// Waits for a service as long as it is told to.
const PATIENT_PATH: &str = "/call";
const NOW_US: u64 = 1_800_000_000_000_000;

/// A process without sockets, in which everybody is guest.
struct Desk(Arc<Broker>);

impl Desk {
    fn new() -> Desk {
        let opened = Broker::open(Arc::new(MemDisk::new()), Options::default(), Limits::default());
        Desk(opened.expect("a new disk can be opened").broker)
    }
}

impl Host for Desk {
    fn broker(&self) -> &Arc<Broker> {
        &self.0
    }

    fn finish(&self, batch: &mut Batch) {
        self.0.finish(batch);
        self.hurry();
    }

    fn hurry(&self) {
        self.0.store().commit().expect("memory is never full");
        self.0.committed();
    }

    fn login(&self, _: Credentials, _: IpAddr) -> LoggedIn<'_> {
        let guest = self.0.users.find("guest").or_else(|| self.0.users.list().into_iter().next());
        let refused = || leveret_broker::Refusal::access("nobody is left");
        Box::pin(std::future::ready(guest.ok_or_else(refused)))
    }

    fn node_name(&self) -> &str {
        "fuzz@localhost"
    }

    fn node(&self) -> NodeFacts {
        NodeFacts::default()
    }

    fn now_us(&self) -> u64 {
        NOW_US
    }

    fn readiness(&self) -> Result<(), String> {
        Ok(())
    }

    fn journal(&self) -> &dyn Journal {
        self
    }

    fn shovels(&self) -> &dyn Shovels {
        self
    }

    fn federation_links(&self) -> &dyn FederationLinks {
        self
    }
}

impl Journal for Desk {
    fn lines(&self, _: &str, _: u64, _: usize) -> Result<Vec<Value>, String> {
        Ok(Vec::new())
    }

    fn levels(&self) -> Value {
        Value::Null
    }

    fn change_levels(&self, _: &[(String, String)]) -> Result<(), String> {
        Ok(())
    }
}

impl Shovels for Desk {
    fn list(&self) -> Vec<ShovelStatus> {
        Vec::new()
    }

    fn restart(&self, _: &str, _: &str) -> bool {
        false
    }
}

impl FederationLinks for Desk {
    fn list(&self) -> Vec<LinkStatus> {
        Vec::new()
    }

    fn restart(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// What is asked for; `None`: no HTTP client could say it.
fn request(octets: &[u8]) -> Option<Request<Body>> {
    let (method, rest) = octets.split_first()?;
    let end = rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len());
    let uri: Uri = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    if !uri.path().starts_with('/') || uri.path().ends_with(PATIENT_PATH) {
        return None;
    }
    let body = rest.get(end + 1..).unwrap_or_default().to_vec();
    let method = METHODS[usize::from(*method) % METHODS.len()];
    let request = Request::builder().method(method).uri(uri).extension(Peer(Ipv4Addr::LOCALHOST.into()));
    let request = request.header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    request.header("content-type", "application/json").body(Body::from(body)).ok()
}

fuzz_target!(|octets: &[u8]| -> Corpus {
    let Some(request) = request(octets) else { return Corpus::Reject };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads");
    let host: Arc<dyn Host> = Arc::new(Desk::new());
    let [mut router] = routers(host, [Surface::Whole]);
    let answer = runtime.block_on(router.call(request)).expect("the router is infallible");
    assert!(answer.status().as_u16() < 500, "{}", answer.status());
    Corpus::Keep
});
