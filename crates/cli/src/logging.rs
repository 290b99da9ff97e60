//! What the program says about itself: on stderr, never on stdout, which belongs to the data.
//!
//! ```text
//!   event ─▶ levels (by area) ─▶ storm guard ─▶ line ─┬▶ stderr, as text or JSON
//!                                                     └▶ the ring of recent lines
//! ```

mod areas;
mod levels;
mod line;
mod recent;
mod storm;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub(crate) use areas::AREAS;
pub(crate) use levels::Levels;
pub(crate) use line::Line;
pub(crate) use recent::Numbered;
use recent::Recent;
use storm::StormGuard;

/// The log of this process; levels and format can change while it runs.
pub(crate) struct Log {
    sinks: Arc<Sinks>,
    levels: Mutex<Levels>,
    filter: reload::Handle<Targets, Registry>,
}

/// How lines look on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl LogFormat {
    /// All of them.
    pub(crate) const ALL: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

    /// As it is written in a configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }

    /// The format of that name.
    pub(crate) fn named(name: &str) -> Option<LogFormat> {
        LogFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl Log {
    /// Starts logging; panics are lines too. A second call in one process changes nothing.
    pub(crate) fn start(levels: Levels, format: LogFormat) -> Log {
        let sinks = Arc::new(Sinks::new(format));
        let (filter, handle) = reload::Layer::new(levels.targets());
        let layers = tracing_subscriber::registry().with(filter).with(ToSinks(sinks.clone()));
        if layers.try_init().is_err() {
            tracing::debug!("logging was set up before");
        }
        log_panics();
        Log { sinks, levels: Mutex::new(levels), filter: handle }
    }

    /// What is logged at present.
    pub(crate) fn levels(&self) -> Levels {
        self.levels.lock().clone()
    }

    /// Logs by other levels from now on.
    pub(crate) fn set_levels(&self, levels: Levels) {
        let mut current = self.levels.lock();
        match self.filter.reload(levels.targets()) {
            Ok(()) => *current = levels,
            Err(error) => tracing::warn!(%error, "cannot change what is logged"),
        }
    }

    /// Writes in another format from now on.
    pub(crate) fn set_format(&self, format: LogFormat) {
        self.sinks.json.store(format == LogFormat::Json, Ordering::Relaxed);
    }

    /// The newest `count` lines at least as serious as `level` with numbers above `after`, oldest first.
    pub(crate) fn recent(&self, level: Level, after: u64, count: usize) -> Vec<Numbered> {
        self.sinks.recent.lock().newest(level, after, count)
    }
}

/// A panic is a line like any other, unless nothing is logged.
fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match tracing::enabled!(Level::ERROR) {
        true => tracing::error!("{panic}"),
        false => default(panic),
    }));
}

/// Colour is for terminals, and for those who have not asked for none (<https://no-color.org>).
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where lines go.
struct Sinks {
    json: AtomicBool,
    coloured: bool,
    storms: Mutex<StormGuard<Identifier>>,
    recent: Mutex<Recent>,
}

impl Sinks {
    fn new(format: LogFormat) -> Sinks {
        Sinks {
            json: AtomicBool::new(format == LogFormat::Json),
            coloured: is_coloured(&io::stderr()),
            storms: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    fn take(&self, event: &Event<'_>) {
        let Some(left_out) = self.admit(event) else { return };
        let line = Line::of(event, left_out);
        let text = if self.json.load(Ordering::Relaxed) { line.json() } else { line.text(self.coloured) };
        // One lock for ring and stream: both have the same order.
        let mut recent = self.recent.lock();
        // Nobody is left to tell when stderr is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        recent.push(line);
    }

    /// Who asks for details gets all of them.
    fn admit(&self, event: &Event<'_>) -> Option<u64> {
        if *event.metadata().level() > Level::INFO {
            return Some(0);
        }
        self.storms.lock().admit(event.metadata().callsite(), Instant::now())
    }
}

struct ToSinks(Arc<Sinks>);

impl<S: Subscriber> Layer<S> for ToSinks {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.take(event);
    }
}
