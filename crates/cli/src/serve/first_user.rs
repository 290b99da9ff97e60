//! The first user of a broker that nobody can log in to yet: a container has no loopback peer to be `guest`.

use anyhow::{Context, bail};
use leveret_broker::Broker;
use leveret_broker::users::{PasswordHash, Permissions};

use crate::config::FirstUser;

const GUEST: &str = "guest";
const ADMINISTRATOR: &str = "administrator";

/// Adds the user as an administrator with all permissions in `/`, and takes `guest` away: as long as there is nobody else, so that
/// a start never undoes what an administrator did. What a crash left half done, the next start completes.
///
/// # Errors
/// The file with the password cannot be read, or the name is refused.
pub(super) fn ensure(first: &FirstUser, broker: &Broker) -> anyhow::Result<()> {
    let name = first.name.as_str();
    let others = broker.users.list();
    if others.iter().any(|user| user.name != GUEST && user.name != name) {
        return Ok(());
    }
    if broker.users.find(name).is_none() {
        let hash = PasswordHash::new(&password(first)?).map_err(|error| anyhow::anyhow!("{error}"))?;
        broker.users.add(name, hash, vec![ADMINISTRATOR.to_owned()])?;
        broker.users.set_permissions(name, "/", Permissions::all())?;
        keep(broker, name)?;
        tracing::info!(user = name, "the first user was added; guest goes");
    }
    if broker.users.delete(GUEST) {
        keep(broker, GUEST)?;
    }
    Ok(())
}

/// Without the end of the line, which editors add.
fn password(first: &FirstUser) -> anyhow::Result<Vec<u8>> {
    let mut password =
        std::fs::read(&first.pass_file).with_context(|| first.pass_file.display().to_string())?;
    while password.last().is_some_and(|octet| matches!(octet, b'\n' | b'\r')) {
        password.pop();
    }
    if password.is_empty() {
        bail!("{}: an empty password", first.pass_file.display());
    }
    Ok(password)
}

fn keep(broker: &Broker, name: &str) -> anyhow::Result<()> {
    broker.save_user(name).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}
