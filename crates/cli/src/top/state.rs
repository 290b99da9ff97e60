//! What `leveret top` shows, and what keys do to it. No terminal here: tests press keys too.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use super::figures;
use super::poll::Sample;
use super::tabs::{Kind, Tab};
use crate::management::ManagementError;
use crate::table::at;

/// Rates that are remembered for the curves.
const HISTORY: usize = 120;
/// Rows that a page key moves.
const PAGE: usize = 10;

/// What a key means to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Go,
    Quit,
}

/// What is over the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Nothing,
    /// All about the selected row, from this line on.
    Details(u16),
    Help,
}

/// How a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    pub(super) descending: bool,
}

/// Everything the screen depends on.
pub(super) struct State {
    pub(super) coloured: bool,
    pub(super) tab: Tab,
    sorts: [Sort; Tab::ALL.len()],
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) overlay: Overlay,
    /// Of the rows that are shown, from 0.
    pub(super) selected: usize,
    pub(super) sample: Sample,
    /// Why the last look failed.
    pub(super) problem: Option<String>,
    /// Messages per second, the newest last.
    pub(super) published: VecDeque<u64>,
    pub(super) delivered: VecDeque<u64>,
}

impl State {
    /// Nothing yet.
    pub(super) fn new(coloured: bool) -> State {
        let by_ready = Sort { column: 3, descending: true };
        let by_name = Sort { column: 0, descending: false };
        State {
            coloured,
            tab: Tab::Queues,
            sorts: [by_ready, by_name, by_name],
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            overlay: Overlay::Nothing,
            selected: 0,
            sample: Sample::default(),
            problem: None,
            published: VecDeque::new(),
            delivered: VecDeque::new(),
        }
    }

    /// Takes what the last look has found; while everything is held still, nothing.
    pub(super) fn take(&mut self, sample: Result<Sample, ManagementError>) {
        if self.is_paused {
            return;
        }
        match sample {
            Err(error) => self.problem = Some(error.to_string()),
            Ok(sample) => {
                let (published, delivered) = figures::rates(&sample);
                remember(&mut self.published, published);
                remember(&mut self.delivered, delivered);
                self.sample = sample;
                self.problem = None;
                self.keep_selection_inside();
            }
        }
    }

    /// The rows of the list that are wanted, in order; `None` where the broker has no such list.
    pub(super) fn rows(&self) -> Option<Vec<&Value>> {
        let name = self.tab.columns()[0].path;
        let matches = |row: &&Value| {
            let wanted = self.filter.to_lowercase();
            at(row, name).as_str().is_some_and(|name| name.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<&Value> = self.tab.rows(&self.sample)?.iter().filter(matches).collect();
        let Sort { column, descending } = self.sort();
        let column = &self.tab.columns()[column];
        rows.sort_by(|a, b| {
            let (a_value, b_value) = (at(a, column.path), at(b, column.path));
            let order = match column.kind {
                Kind::Text => a_value.as_str().cmp(&b_value.as_str()),
                _ => a_value.as_f64().unwrap_or(0.0).total_cmp(&b_value.as_f64().unwrap_or(0.0)),
            };
            let order = if descending { order.reverse() } else { order };
            // Rows with the same value must not change places with every look.
            order.then_with(|| at(a, name).as_str().cmp(&at(b, name).as_str()))
        });
        Some(rows)
    }

    /// The row that is selected.
    pub(super) fn selection(&self) -> Option<Value> {
        Some((*self.rows()?.get(self.selected)?).clone())
    }

    /// How the list that is shown is sorted.
    pub(super) fn sort(&self) -> Sort {
        self.sorts[self.tab as usize]
    }

    /// Does what a key asks for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Go;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Action::Quit } else { Action::Go };
        }
        match (self.is_typing, self.overlay) {
            (true, _) => self.type_filter(key.code),
            (false, Overlay::Nothing) => return self.command(key.code),
            (false, overlay) => self.overlay = turn(overlay, key.code),
        }
        Action::Go
    }

    fn command(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Tab | KeyCode::Right => self.change_tab(1),
            KeyCode::BackTab | KeyCode::Left => self.change_tab(Tab::ALL.len() - 1),
            KeyCode::Char('>') => self.change_sort(1),
            KeyCode::Char('<') => self.change_sort(self.tab.columns().len() - 1),
            KeyCode::Char('r') => self.sorts[self.tab as usize].descending ^= true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ' | 'p') => self.is_paused ^= true,
            KeyCode::Char('?' | 'h') => self.overlay = Overlay::Help,
            KeyCode::Enter if self.selection().is_some() => self.overlay = Overlay::Details(0),
            KeyCode::Esc => self.filter.clear(),
            code => self.selected = moved(self.selected, code),
        }
        self.keep_selection_inside();
        Action::Go
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(character) => self.filter.push(character),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            _ => {}
        }
        self.keep_selection_inside();
    }

    fn change_tab(&mut self, steps: usize) {
        self.tab = Tab::ALL[(self.tab as usize + steps) % Tab::ALL.len()];
        self.selected = 0;
    }

    fn change_sort(&mut self, steps: usize) {
        let columns = self.tab.columns();
        let sort = &mut self.sorts[self.tab as usize];
        sort.column = (sort.column + steps) % columns.len();
        // Of numbers the largest are of interest, of names the first.
        sort.descending = columns[sort.column].kind != Kind::Text;
    }

    fn keep_selection_inside(&mut self) {
        let rows = self.rows().map_or(0, |rows| rows.len());
        self.selected = self.selected.min(rows.saturating_sub(1));
    }
}

fn remember(history: &mut VecDeque<u64>, rate: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    // Below one a second is still something.
    history.push_back(rate.ceil() as u64);
}

fn moved(selected: usize, code: KeyCode) -> usize {
    match code {
        KeyCode::Down | KeyCode::Char('j') => selected.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => selected.saturating_sub(1),
        KeyCode::PageDown => selected.saturating_add(PAGE),
        KeyCode::PageUp => selected.saturating_sub(PAGE),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => usize::MAX,
        _ => selected,
    }
}

fn turn(overlay: Overlay, code: KeyCode) -> Overlay {
    let Overlay::Details(line) = overlay else { return Overlay::Nothing };
    let line = usize::from(line);
    match code {
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => Overlay::Nothing,
        code => Overlay::Details(moved(line, code).min(1_000) as u16),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A broker with three queues and a connection, and no services.
    pub(crate) fn sample() -> Sample {
        let queue = |name: &str, ready: u64, rate: f64| {
            json!({"name": name, "vhost": "/", "state": "running", "messages_ready": ready,
                "messages_unacknowledged": 1, "consumers": 2,
                "message_stats": {"publish_details": {"rate": rate}}})
        };
        Sample {
            overview: json!({"product_name": "RabbitMQ", "product_version": "3.10.8", "node": "rabbit@a",
                "object_totals": {"connections": 1, "channels": 2, "consumers": 6, "queues": 3, "exchanges": 7},
                "queue_totals": {"messages_ready": 123_521, "messages_unacknowledged": 3},
                "message_stats": {"publish_details": {"rate": 12.5}, "deliver_get_details": {"rate": 3.0}}}),
            nodes: vec![json!({"name": "rabbit@a", "uptime": 11_520_000, "mem_used": 104_857_600,
                "mem_limit": 2_147_483_648_u64, "disk_free": 50_000_000_000_u64, "mem_alarm": false})],
            queues: vec![
                queue("invoices", 21, 0.5),
                queue("weather.ohio", 123_456, 12.0),
                queue("Mails", 44, 0.0),
            ],
            connections: vec![
                json!({"name": "127.0.0.1:5000 -> 127.0.0.1:5672", "user": "guest", "state": "running",
                "user_provided_name": "site\x1b[31m", "channels": 2, "recv_oct_details": {"rate": 2048.0}}),
            ],
            services: None,
        }
    }

    fn state() -> State {
        let mut state = State::new(false);
        state.take(Ok(sample()));
        state
    }

    fn press(state: &mut State, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                character => KeyCode::Char(character),
            };
            assert_eq!(state.key(KeyEvent::new(code, KeyModifiers::NONE)), Action::Go);
        }
    }

    fn names(state: &State) -> Vec<&str> {
        state.rows().unwrap().iter().filter_map(|row| row["name"].as_str()).collect()
    }

    #[test]
    fn a_list_is_sorted_by_any_column() {
        let check = |keys, expected: [&str; 3]| {
            let mut state = state();
            press(&mut state, keys);
            assert_eq!(names(&state), expected, "{keys}");
        };
        check("", ["weather.ohio", "Mails", "invoices"]);
        check("r", ["invoices", "Mails", "weather.ohio"]);
        check(">", ["Mails", "invoices", "weather.ohio"]);
        check(">>>", ["weather.ohio", "invoices", "Mails"]);
        check("<<<", ["Mails", "invoices", "weather.ohio"]);
    }

    #[test]
    fn a_filter_is_typed() {
        let mut state = state();
        press(&mut state, "j/MA");
        assert_eq!((names(&state), state.selected), (vec!["Mails"], 0));
        press(&mut state, "\n");
        assert!(!state.is_typing);
        press(&mut state, "\x1b");
        assert_eq!(names(&state).len(), 3);
    }

    #[test]
    fn a_held_screen_takes_nothing() {
        let mut state = state();
        press(&mut state, " ");
        state.take(Ok(Sample::default()));
        assert_eq!(names(&state).len(), 3);
        press(&mut state, " ");
        state.take(Ok(Sample::default()));
        assert!(names(&state).is_empty() && state.selection().is_none());
    }

    #[test]
    fn a_failed_look_keeps_what_was_seen() {
        let mut state = state();
        state.take(Err(ManagementError::Unauthorized { reason: "gone".to_owned() }));
        assert_eq!((names(&state).len(), state.problem.as_deref()), (3, Some("not authorized: gone")));
        state.take(Ok(sample()));
        assert_eq!(state.problem, None);
    }

    #[test]
    fn the_selection_stays_inside() {
        let mut state = state();
        press(&mut state, "jjjjjj");
        assert_eq!(state.selected, 2);
        press(&mut state, "G\n");
        assert_eq!(state.overlay, Overlay::Details(0));
        press(&mut state, "jj\x1b\t");
        assert_eq!((state.tab, state.selected, state.overlay), (Tab::Connections, 0, Overlay::Nothing));
        press(&mut state, "\t\n");
        assert_eq!((state.tab, state.overlay), (Tab::Services, Overlay::Nothing));
        assert_eq!(state.rows(), None);
    }

    #[test]
    fn history_is_bounded() {
        let mut state = State::new(false);
        for _ in 0..1_000 {
            state.take(Ok(sample()));
        }
        assert_eq!((state.published.len(), state.published.back()), (HISTORY, Some(&13)));
    }
}
