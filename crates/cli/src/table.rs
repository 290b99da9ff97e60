//! JSON objects as rows: aligned columns for people, tabs for programs.
//!
//! A column is a path into the object, `message_stats.publish_details.rate`; where there is nothing, the cell is empty.

use serde_json::Value;

use crate::escape::{Place, escape, width};

/// Rows of cells below their titles.
#[derive(Debug)]
pub(crate) struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug)]
struct Cell {
    text: String,
    is_number: bool,
}

impl Table {
    /// The columns of these objects.
    pub(crate) fn of(objects: &[Value], columns: &[String], place: Place) -> Table {
        let row = |object: &Value| columns.iter().map(|column| Cell::of(at(object, column), place)).collect();
        Table {
            titles: columns.iter().map(|title| escape(title, place)).collect(),
            rows: objects.iter().map(row).collect(),
        }
    }

    /// For people: columns line up, numbers to the right. Titles are bold where there is colour.
    pub(crate) fn to_aligned(&self, has_titles: bool, coloured: bool) -> String {
        let widths: Vec<usize> =
            (0..self.titles.len()).map(|column| self.width(column, has_titles)).collect();
        let numeric: Vec<bool> = (0..self.titles.len()).map(|column| self.is_numeric(column)).collect();
        let line = |cells: Vec<&str>| {
            let cells = cells.iter().zip(&widths).zip(&numeric);
            let cells = cells.map(|((text, width), numeric)| align(text, *width, *numeric));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = String::new();
        if has_titles {
            let titles = line(self.titles.iter().map(String::as_str).collect());
            let (bold, plain) = if coloured { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            text += &format!("{bold}{titles}{plain}\n");
        }
        for row in &self.rows {
            text += &line(row.iter().map(|cell| cell.text.as_str()).collect());
            text.push('\n');
        }
        text
    }

    /// For programs: one line per row, tabs between the cells.
    pub(crate) fn to_tabs(&self, has_titles: bool) -> String {
        let titles = has_titles.then(|| self.titles.join("\t") + "\n");
        let rows = self.rows.iter().map(|row| {
            let cells: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            cells.join("\t") + "\n"
        });
        titles.into_iter().chain(rows).collect()
    }

    fn width(&self, column: usize, has_titles: bool) -> usize {
        let title = if has_titles { width(&self.titles[column]) } else { 0 };
        self.rows.iter().map(|row| width(&row[column].text)).fold(title, usize::max)
    }

    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().map(|row| &row[column]).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.is_number || cell.text.is_empty())
    }
}

impl Cell {
    fn of(value: &Value, place: Place) -> Cell {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => escape(text, place),
            // Tags, and the like: a list of words.
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let words: Vec<String> =
                    items.iter().filter_map(Value::as_str).map(|word| escape(word, place)).collect();
                words.join(",")
            }
            Value::Object(object) if object.is_empty() => String::new(),
            other => escape(&other.to_string(), place),
        };
        Cell { text, is_number: value.is_number() }
    }
}

/// What a path leads to; null where it leads nowhere.
pub(crate) fn at<'v>(object: &'v Value, path: &str) -> &'v Value {
    // A key with dots in it, such as that of an argument, comes before a path.
    match object.get(path) {
        Some(value) => value,
        None => path.split('.').fold(object, |value, key| &value[key]),
    }
}

fn align(text: &str, column_width: usize, to_the_right: bool) -> String {
    let gap = " ".repeat(column_width.saturating_sub(width(text)));
    if to_the_right { gap + text } else { text.to_owned() + &gap }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects() -> Vec<Value> {
        vec![
            json!({"name": "日本", "messages": 12_345, "tags": ["a", "b"], "arguments": {}}),
            json!({"name": "two\tthree\x1b[0m", "messages": 7, "tags": [],
                "arguments": {"x-max-length": 3}, "message_stats": {"publish_details": {"rate": 1.5}}}),
        ]
    }

    fn columns() -> Vec<String> {
        let names = ["name", "messages", "tags", "arguments", "message_stats.publish_details.rate"];
        names.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_line_up() {
        let table = Table::of(&objects(), &columns(), Place::Screen).to_aligned(true, false);
        let expected = "\
name                 messages  tags  arguments           message_stats.publish_details.rate
日本                    12345  a,b
two\\tthree\\u{1b}[0m         7        {\"x-max-length\":3}                                 1.5
";
        assert_eq!(table, expected);
    }

    #[test]
    fn cells_stand_between_tabs() {
        let table = Table::of(&objects(), &columns()[..3], Place::Cell);
        assert_eq!(
            table.to_tabs(true),
            "name\tmessages\ttags\n日本\t12345\ta,b\ntwo\\tthree\\u{1b}[0m\t7\t\n"
        );
        assert_eq!(table.to_tabs(false), "日本\t12345\ta,b\ntwo\\tthree\\u{1b}[0m\t7\t\n");
    }

    #[test]
    fn nothing_is_a_line_of_titles() {
        let table = Table::of(&[], &columns()[..2], Place::Screen);
        assert_eq!(table.to_aligned(true, true), "\x1b[1mname  messages\x1b[0m\n");
        assert_eq!(table.to_aligned(false, false), "");
    }

    #[test]
    fn a_key_may_have_dots_in_it() {
        let object = json!({"a.b": 1, "a": {"b": 2, "c": 3}});
        assert_eq!(
            (at(&object, "a.b"), at(&object, "a.c"), at(&object, "x.y")),
            (&json!(1), &json!(3), &Value::Null)
        );
    }
}
