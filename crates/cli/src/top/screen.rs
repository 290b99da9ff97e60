//! Draws the state on 80 columns and 24 lines, or more.
//!
//! ```text
//!   Leveret 0.1.0  node  up 3h12m  mem 100M/2.0G  disk 46.6G
//!   1 connections  2 channels  6 consumers  3 queues  123k ready  3 unacked
//!   in 12.5/s ▁▂▃▅▇             out 3/s ▁▁▂▂▃
//!   Queues  Connections  Services
//!   QUEUE            VHOST  STATE   READY▾ …
//!   …
//!   tab list  <> sort …                                (or the filter, or what is wrong)
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::figures::{alarms, cell, decimal, headline, rates, totals};
use super::state::{Overlay, State};
use super::tabs::{Column, Kind, Tab};
use crate::ctl::facts;
use crate::escape::{Place, escape};
use crate::table::at;

const HELP: &str = "\
tab, arrows   next list, or the one before
< >           sort by the column before or behind
r             turn the order around
/             filter by name; enter keeps it, esc drops it
space         hold everything still, or go on
enter         all about the selected row
up down       select; page up, page down, home, end too
q, ctrl-c     quit";

const HINTS: &str = "tab list  <> sort  / filter  space hold  enter details  ? help  q quit";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let [head, total, curves, tabs, list, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::styled(headline(&state.sample), bold()), head);
    frame.render_widget(total_line(state), total);
    draw_curves(frame, state, curves);
    frame.render_widget(tab_line(state), tabs);
    draw_list(frame, state, list);
    frame.render_widget(foot_line(state), foot);
    match state.overlay {
        Overlay::Nothing => {}
        Overlay::Help => draw_over(frame, list, "Keys", HELP, 0),
        Overlay::Details(line) => draw_details(frame, state, list, line),
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn alarming(state: &State) -> Style {
    if state.coloured { bold().fg(Color::Red) } else { bold().add_modifier(Modifier::REVERSED) }
}

fn total_line(state: &State) -> Line<'static> {
    match alarms(&state.sample) {
        Some(alarms) => Line::styled(alarms, alarming(state)),
        None => Line::raw(totals(&state.sample)),
    }
}

fn draw_curves(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let (published, delivered) = rates(&state.sample);
    let halves: [Rect; 2] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
    let sides = [("in", published, &state.published), ("out", delivered, &state.delivered)];
    for (half, (name, rate, history)) in halves.into_iter().zip(sides) {
        let label = format!("{name} {}/s ", decimal(rate));
        let [label_area, curve] =
            Layout::horizontal([Constraint::Length(14), Constraint::Fill(1)]).areas(half);
        frame.render_widget(Line::raw(label), label_area);
        let newest = history.iter().copied().skip(history.len().saturating_sub(curve.width.into()));
        frame.render_widget(Sparkline::default().data(newest), curve);
    }
}

fn tab_line(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for tab in Tab::ALL {
        let count = tab.rows(&state.sample).map_or_else(|| "-".to_owned(), |rows| rows.len().to_string());
        let style = if tab == state.tab { bold().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} {count} ", tab.title()), style));
        spans.push(Span::raw(" "));
    }
    if state.is_paused {
        spans.push(Span::styled(" HELD ", alarming(state)));
    }
    Line::from(spans)
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let Some(rows) = state.rows() else {
        let words = "This broker does not know of services: a RabbitMQ sees messages, not calls.";
        return frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
    };
    let columns = state.tab.columns();
    let widths = columns.iter().map(|column| match column.width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    let rows = rows.iter().map(|row| {
        Row::new(columns.iter().map(|column| aligned(cell(at(row, column.path), column.kind), column)))
    });
    let sort = state.sort();
    let titles = columns.iter().enumerate().map(|(index, column)| {
        let mark = match (index == sort.column, sort.descending) {
            (true, true) => "▾",
            (true, false) => "▴",
            (false, _) => "",
        };
        aligned(format!("{}{mark}", column.title), column)
    });
    let table = Table::new(rows, widths)
        .header(Row::new(titles).style(bold()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selection = TableState::new().with_selected(Some(state.selected));
    frame.render_stateful_widget(table, area, &mut selection);
}

fn aligned(text: String, column: &Column) -> Cell<'static> {
    let line = Line::raw(text);
    Cell::from(if column.kind == Kind::Text { line } else { line.right_aligned() })
}

fn foot_line(state: &State) -> Line<'static> {
    match (state.is_typing, &state.problem, state.filter.as_str()) {
        (true, ..) => Line::raw(format!("/{}_", escape(&state.filter, Place::Screen))),
        (false, Some(problem), _) => Line::styled(escape(problem, Place::Screen), alarming(state)),
        (false, None, "") => Line::styled(HINTS, Style::new().add_modifier(Modifier::DIM)),
        (false, None, filter) => {
            Line::raw(format!("only names with {}; esc shows all", escape(filter, Place::Screen)))
        }
    }
}

fn draw_details(frame: &mut Frame<'_>, state: &State, area: Rect, line: u16) {
    let Some(row) = state.selection() else { return };
    let name = escape(at(&row, state.tab.columns()[0].path).as_str().unwrap_or_default(), Place::Screen);
    draw_over(frame, area, &name, &facts(&row), line);
}

fn draw_over(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, line: u16) {
    let area = area.inner(Margin::new(2, 1));
    frame.render_widget(Clear, area);
    let last = text.lines().count().saturating_sub(usize::from(area.height).saturating_sub(2));
    let paragraph = Paragraph::new(text).block(Block::bordered().title(title.to_owned()));
    frame.render_widget(paragraph.scroll((line.min(last as u16), 0)), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::state::tests::sample;
    use super::*;

    fn screen(keys: &str) -> String {
        let mut state = State::new(false);
        state.take(Ok(sample()));
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                character => KeyCode::Char(character),
            };
            state.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
        terminal.draw(|frame| draw(frame, &mut state)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(80).map(|line| {
            let line: String = line.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned() + "\n"
        });
        lines.collect()
    }

    #[test]
    fn the_queues_fit_80_columns() {
        let expected = "\
RabbitMQ 3.10.8  rabbit@a  up 3h12m  mem 100M/2.00G  disk 46.6G
1 connections  2 channels  6 consumers  3 queues  124k ready  3 unacked
in 12.5/s     █                          out 3.00/s    █
 Queues 3   Connections 1   Services -
QUEUE                     VHOST  STATE     READY▾  UNACKED  CONS    IN/S   OUT/S
weather.ohio              /      running     123k        1     2    12.0
Mails                     /      running       44        1     2       0
invoices                  /      running       21        1     2    0.50



tab list  <> sort  / filter  space hold  enter details  ? help  q quit
";
        assert_eq!(screen(""), expected);
    }

    #[test]
    fn a_rabbitmq_has_no_services() {
        assert!(screen("\t\t").contains("This broker does not know of services"));
    }

    #[test]
    fn names_of_clients_are_not_executed() {
        let screen = screen("\t");
        assert!(screen.contains("site\\u{1b}[31m") && !screen.contains('\x1b'), "{screen}");
    }

    #[test]
    fn details_and_help_lie_over_the_list() {
        assert!(screen("\n").contains("message_stats.publish_details.rate  12"), "{}", screen("\n"));
        assert!(screen("?").contains("turn the order around"));
        assert!(screen("/mai").contains("/mai_"));
    }
}
