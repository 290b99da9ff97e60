//! `leveret top`: a broker on a terminal, live. It asks the management API of ours or of a RabbitMQ.
//!
//! ```text
//!   poller task ── Sample ──▶ ┌───────┐
//!   key thread  ── Event  ──▶ │ State │ ──▶ screen, after every change
//!   signals     ── the end ─▶ └───────┘
//! ```

mod figures;
mod poll;
mod screen;
mod state;
mod tabs;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::escape::Place;
use crate::failure::Failure;
use crate::logging::is_coloured;
use crate::management::{Management, ManagementError, ManagementFlags};
use crate::signals::Termination;
use crate::table::Table;
use crate::toolkit::duration;
use poll::Sample;
use state::{Action, State};
use tabs::Tab;

/// Keys are looked for so often, to notice that nobody wants them any more.
const KEY_PATIENCE: Duration = Duration::from_millis(200);
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Watch a broker, this one or a RabbitMQ: its queues, connections and services, live
///
/// Keys: tab changes the list, < and > the column to sort by, r turns the order around, / filters by name, space
/// holds everything still, enter shows all about one, q quits.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    management: ManagementFlags,
    /// The time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    interval: Duration,
    /// Look once and print it
    #[arg(long)]
    once: bool,
    /// Print JSON
    #[arg(long, requires = "once")]
    json: bool,
}

/// Shows the broker until a key or a signal ends it.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let management = arguments.management.client()?;
    if arguments.once {
        let sample = poll::sample(&management).await?;
        return Ok(print(&sample, arguments.json)?);
    }
    if arguments.interval < INTERVAL_MIN {
        return Err(Failure::Usage("--interval must be at least 100ms".to_owned()));
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage("stdout is no terminal; --once prints what there is".to_owned()));
    }
    // Whoever cannot be reached, or refuses, is an error like any other and no screen.
    let first = poll::sample(&management).await?;
    watch(management, first, arguments.interval).await
}

async fn watch(management: Management, first: Sample, interval: Duration) -> Result<(), Failure> {
    let mut termination = Termination::catch()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut state = State::new(is_coloured(&io::stdout()));
    state.take(Ok(first));
    let mut screen = Screen::open()?;
    let mut keys = keys();
    let mut samples = samples(management, interval);
    loop {
        screen.0.draw(|frame| screen::draw(frame, &mut state))?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) => if state.key(key) == Action::Quit { return Ok(()) },
                // The size has changed, for one thing: drawing is all that needs.
                Some(_) => {}
                None => return Ok(()),
            },
            Some(sample) = samples.recv() => state.take(sample),
            _signal = termination.next() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// The terminal, given back as it was however this ends, a panic included.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Screen> {
        ratatui::try_init().map(Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = ratatui::try_restore();
    }
}

/// What is typed, from a thread of its own: a terminal has no other way to be asked.
fn keys() -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_PATIENCE) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(event) => drop(sender.send(event)),
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Looks again and again, until nobody wants to know.
fn samples(management: Management, interval: Duration) -> mpsc::Receiver<Result<Sample, ManagementError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            sleep(interval).await;
            if sender.send(poll::sample(&management).await).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn print(sample: &Sample, as_json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if as_json {
        writeln!(stdout, "{}", sample.to_json())?;
        return stdout.flush();
    }
    writeln!(stdout, "{}", figures::headline(sample))?;
    writeln!(stdout, "{}", figures::totals(sample))?;
    for tab in Tab::ALL {
        let Some(rows) = tab.rows(sample) else { continue };
        let columns: Vec<String> = tab.columns().iter().map(|column| column.path.to_owned()).collect();
        writeln!(stdout)?;
        writeln!(stdout, "{}", tab.title())?;
        write!(stdout, "{}", Table::of(rows, &columns, Place::Screen).to_aligned(true, false))?;
    }
    stdout.flush()
}
