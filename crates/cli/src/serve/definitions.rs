//! A definitions file that is put in force at every start: what a container is set up with.

use std::path::Path;

use anyhow::Context;
use leveret_broker::Batch;
use leveret_server::Handle;

/// Puts the file in force: all of it, or none. What exists already and is said again is no error, what is not in the file
/// stays.
///
/// # Errors
/// It cannot be read, makes no sense, or says something other than what exists.
pub(super) fn load(file: &Path, broker: &Handle) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut batch = Batch::at_us(broker.now_us());
    let loaded = leveret_admin::definitions::load(broker.rules(), &text, &mut batch);
    broker.finish(&mut batch);
    loaded.with_context(|| file.display().to_string())?;
    tracing::info!(file = %file.display(), "definitions loaded");
    Ok(())
}
