//! What the program says about itself: on stderr, never on stdout, which belongs to the data.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Changes what is logged while the program runs.
pub(crate) struct LogFilter(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl LogFilter {
    /// Starts logging. `filter` is a level or a list of `target=level`, see [`is_filter`]; a second call in
    /// one process changes nothing.
    pub(crate) fn start(filter: &str) -> Self {
        let builder = tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(is_coloured(&io::stderr()))
            .with_env_filter(EnvFilter::new(filter))
            .with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_err() {
            tracing::debug!("logging was set up before");
        }
        Self(Box::new(move |filter| {
            if let Err(error) = handle.reload(filter) {
                tracing::warn!(%error, "cannot change what is logged");
            }
        }))
    }

    /// Logs by another filter from now on.
    pub(crate) fn change(&self, filter: &str) {
        (self.0)(EnvFilter::new(filter));
    }
}

/// Whether a text is a level or a list of `target=level`. Stricter than the library, for which a misspelt level
/// is the name of a target, and silence follows.
pub(crate) fn is_filter(text: &str) -> bool {
    let is_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_target, level)| level);
        !level.trim().is_empty() && level.trim().parse::<LevelFilter>().is_ok()
    };
    text.split(',').all(is_level) && text.parse::<EnvFilter>().is_ok()
}

/// Colour is for terminals, and for those who have not asked for none (<https://no-color.org>).
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_no_filter() {
        let check = |text, expected| assert_eq!(is_filter(text), expected, "{text:?}");
        check("info", true);
        check("off", true);
        check("warn,leveret_server=debug", true);
        check("loud", false);
        check("info,leveret_server=loud", false);
        check("", false);
        check("info,", false);
    }
}
