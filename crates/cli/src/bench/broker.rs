//! The brokers to load: addresses, names for people, processes if they are known.

use std::path::PathBuf;

use leveret_bench::Target;
use leveret_bench::process::Process;
use leveret_client::{ConnectOptions, TlsFiles};
use leveret_wire::uri::AmqpUri;

use super::Flags;
use crate::escape::{Place, escape};
use crate::failure::Failure;

/// One of them.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) name: String,
    pub(super) target: Target,
    /// None if it is elsewhere and nobody told us: then there are no figures of CPU and memory.
    pub(super) process: Option<Process>,
}

/// `--url` and every `--vs`, in this order.
pub(super) fn all(flags: &Flags) -> Result<Vec<Broker>, Failure> {
    let urls: Vec<(&str, &String)> =
        std::iter::once(("--url", &flags.url)).chain(flags.vs.iter().map(|url| ("--vs", url))).collect();
    if flags.name.len() > urls.len() {
        return Err(Failure::Usage(format!("--name: {} names for {} brokers", flags.name.len(), urls.len())));
    }
    let mut brokers: Vec<Broker> = Vec::new();
    for (index, (flag, url)) in urls.iter().enumerate() {
        let target = target(flag, url)?;
        let name = flags.name.get(index).map(|name| escape(name, Place::Screen));
        let name = name.unwrap_or_else(|| target.address().to_string());
        if brokers.iter().any(|other| other.name == name) {
            return Err(Failure::Usage(format!(
                "two brokers are called {name}; give them names with --name"
            )));
        }
        let process = local_process(&target);
        brokers.push(Broker { name, target, process });
    }
    flags.pid.iter().try_for_each(|pid| set_process(&mut brokers, &urls, pid))?;
    Ok(brokers)
}

fn target(flag: &str, url: &str) -> Result<Target, Failure> {
    if url == "embedded:" {
        let why = "a broker in the process that loads it cannot be measured; start `leveret serve`";
        return Err(Failure::Usage(format!("{flag}: {why}")));
    }
    let target = match AmqpUri::parse(url) {
        Ok(uri) if uri.tls => secure_target(&uri, url),
        _ => Target::parse(url).map_err(Failure::from),
    };
    target.map_err(|failure| match failure {
        Failure::Usage(why) => Failure::Usage(format!("{flag}: {why}")),
        other => other,
    })
}

/// The parameters of the URL are those of all commands.
fn secure_target(uri: &AmqpUri, url: &str) -> Result<Target, Failure> {
    ConnectOptions::parse(url).map_err(|error| Failure::Usage(error.to_string()))?;
    if uri.parameter("auth_mechanism") == Some("external") {
        let why = "auth_mechanism=external: the load logs in by name and password only";
        return Err(Failure::Usage(why.to_owned()));
    }
    let file = |name| uri.parameter(name).map(PathBuf::from);
    let files =
        TlsFiles { authorities: file("cacertfile"), certificate: file("certfile"), key: file("keyfile") };
    let config = files.client_config().map_err(Failure::Usage)?;
    Ok(Target::parse_secure(url, config)?)
}

fn local_process(target: &Target) -> Option<Process> {
    let address = target.address();
    if address.ip().is_loopback() { Process::listening_on(address.port()) } else { None }
}

/// `N` is of the first broker, `NAME=N` of the one with this name or URL.
fn set_process(brokers: &mut [Broker], urls: &[(&str, &String)], text: &str) -> Result<(), Failure> {
    let (of, pid) = text.rsplit_once('=').map_or((None, text), |(of, pid)| (Some(of), pid));
    let wrong = |why: &str| Failure::Usage(format!("--pid {}: {why}", escape(pid, Place::Screen)));
    let pid: u32 = pid.parse().map_err(|_| wrong("not a process id"))?;
    let named = |index: usize| of.is_none_or(|of| brokers[index].name == of || urls[index].1 == of);
    let index = (0..brokers.len()).find(|index| named(*index)).ok_or_else(|| wrong("no such broker"))?;
    let process = Process(pid);
    process.resident_mib().map_err(|_| wrong("no such process on this machine"))?;
    brokers[index].process = Some(process);
    Ok(())
}
