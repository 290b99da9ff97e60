//! Text into scenarios.

use std::fmt;
use std::time::Duration;

use super::term::{Part, Term};
use super::{Action, MessageTerm, Place, Scenario, Step, order};
use crate::raw_client::spec;

/// What is wrong with a scenario file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ParseError {}

/// Reads the scenarios of one file; `file` becomes the first half of their ids.
pub fn parse(file: &str, text: &str) -> Result<Vec<Scenario>, ParseError> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut joins_previous = false;
    for (index, raw) in text.lines().enumerate() {
        let (line, text) = (index + 1, raw.trim());
        let at_line = |problem: String| ParseError { line, problem };
        if text.is_empty() || text.starts_with('#') {
            joins_previous = false;
            continue;
        }
        if let Some(name) = text.strip_prefix("scenario ") {
            scenarios.push(Scenario { id: format!("{file}/{}", name.trim()), steps: Vec::new() });
            continue;
        }
        let scenario = scenarios.last_mut().ok_or_else(|| at_line("a step before any scenario".into()))?;
        let (is_unordered, step) = match text.strip_prefix("| ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let action = parse_step(step).map_err(at_line)?;
        match (&mut scenario.steps.last_mut().map(|step| &mut step.action), action) {
            (Some(Action::Expect(group)), Action::Expect(more)) if is_unordered && joins_previous => {
                group.extend(more)
            }
            (_, action) => scenario.steps.push(Step { line, text: text.to_owned(), action }),
        }
        joins_previous = is_unordered;
    }
    Ok(scenarios)
}

fn parse_step(text: &str) -> Result<Action, String> {
    let (head, rest) = split_word(text);
    if head == "wait" {
        return Ok(Action::Wait(parse_duration(rest)?));
    }
    if let Some(order) = order::parse(head, rest) {
        return Ok(Action::Order(order?, None));
    }
    if head == "refused" {
        return parse_refused(rest);
    }
    match head.chars().last() {
        Some('>') => parse_send(parse_place(&head[..head.len() - 1])?, rest),
        Some(':') => Ok(Action::Ask(parse_place(&head[..head.len() - 1])?, parse_message(rest)?)),
        Some('<') => parse_expect(parse_place(&head[..head.len() - 1])?, rest),
        Some('!') => parse_error(parse_place(&head[..head.len() - 1])?, rest),
        Some('~') => {
            let (ask, answer) = rest.split_once(" => ").ok_or("a poll needs `=>`")?;
            Ok(Action::Poll(
                parse_place(&head[..head.len() - 1])?,
                parse_message(ask)?,
                parse_message(answer)?,
            ))
        }
        _ => parse_verb(parse_place(head)?, rest),
    }
}

fn parse_refused(text: &str) -> Result<Action, String> {
    let mut lexer = Lexer::new(text);
    let refusal = lexer.word_term()?;
    let (head, rest) = split_word(lexer.rest);
    let order = order::parse(head, rest).ok_or("nothing an operator does")?;
    Ok(Action::Order(order?, Some(refusal)))
}

fn parse_place(text: &str) -> Result<Place, String> {
    let (connection, channel) = match text.split_once('.') {
        Some(parts) => parts,
        None if text.starts_with(|first: char| first.is_ascii_digit()) => ("a", text),
        None => (text, "0"),
    };
    if connection.is_empty() || !connection.chars().all(|letter| letter.is_ascii_lowercase()) {
        return Err(format!("'{text}' names no connection"));
    }
    let channel = channel.parse().map_err(|_| format!("'{channel}' is no channel"))?;
    Ok(Place { connection: connection.to_owned(), channel })
}

fn parse_verb(place: Place, text: &str) -> Result<Action, String> {
    let (verb, rest) = split_word(text);
    match verb {
        "connect" => Ok(Action::Connect(place, Lexer::new(rest).arguments()?.named)),
        "socket" => Ok(Action::Socket(place)),
        "close" => Ok(Action::Close(place)),
        "disconnect" => Ok(Action::Disconnect(place)),
        "acked" => {
            let (first, last) = rest.split_once("..").ok_or("acked needs FIRST..LAST")?;
            let number = |text: &str| text.trim().parse().map_err(|_| format!("'{text}' is no number"));
            Ok(Action::ExpectAcked { place, first: number(first)?, last: number(last)? })
        }
        _ => Err(format!("'{verb}' is nothing a client does")),
    }
}

fn parse_send(place: Place, text: &str) -> Result<Action, String> {
    let (verb, rest) = split_word(text);
    match verb {
        "bytes" => Ok(Action::SendBytes(place, Lexer::new(rest).arguments()?.positional)),
        "body" => Ok(Action::SendFrame(place, 3, Lexer::new(rest).arguments()?.positional)),
        "frame" => {
            let (kind, payload) = split_word(rest);
            let kind = kind.parse().map_err(|_| format!("'{kind}' is no frame kind"))?;
            Ok(Action::SendFrame(place, kind, Lexer::new(payload).arguments()?.positional))
        }
        "header" => parse_header(place, rest),
        _ => Ok(Action::Send(place, parse_message(text)?)),
    }
}

fn parse_header(place: Place, text: &str) -> Result<Action, String> {
    let (class_id, rest) = split_word(text);
    let class_id = class_id.parse().map_err(|_| format!("'{class_id}' is no class"))?;
    let arguments = Lexer::new(rest).arguments()?;
    let mut body_size = 0;
    let mut properties = None;
    for (name, term) in arguments.named {
        match (name.as_str(), &term) {
            ("size", Term::Word { parts, .. }) => match parts.as_slice() {
                [Part::Bytes(digits)] => {
                    let digits = String::from_utf8_lossy(digits);
                    body_size = digits.parse().map_err(|_| format!("'{digits}' is no size"))?;
                }
                _ => return Err("size is a number".into()),
            },
            ("props", _) => properties = Some(term),
            _ => return Err(format!("a header has no '{name}'")),
        }
    }
    Ok(Action::SendHeader { place, class_id, body_size, properties })
}

fn parse_expect(place: Place, text: &str) -> Result<Action, String> {
    let (verb, rest) = split_word(text);
    match verb {
        "bytes" => Ok(Action::ExpectBytes(place, Lexer::new(rest).arguments()?.positional)),
        "closed" => Ok(Action::ExpectClosed(place)),
        "refused" => Ok(Action::ExpectRefused(place)),
        "nothing" => Ok(Action::ExpectNothing(place, parse_duration(rest)?)),
        "heartbeat" => Ok(Action::ExpectHeartbeat(place, parse_duration(rest)?)),
        _ => Ok(Action::Expect(vec![(place, parse_message(text)?)])),
    }
}

fn parse_error(place: Place, text: &str) -> Result<Action, String> {
    let (code, rest) = split_word(text);
    let (method, rest) = split_word(rest);
    let code = code.parse().map_err(|_| format!("'{code}' is no reply code"))?;
    let method = parse_blamed(method)?;
    match Lexer::new(rest).arguments()?.positional.as_slice() {
        [text] => Ok(Action::ExpectError { place, code, method, text: text.clone() }),
        _ => Err("an error has one text".into()),
    }
}

/// The ids of the method to blame: `-` for none, its name, or `CLASS/METHOD` for one that does not exist.
fn parse_blamed(text: &str) -> Result<(u16, u16), String> {
    if text == "-" {
        return Ok((0, 0));
    }
    if let Some(spec) = spec::method_named(text) {
        return Ok((spec.class_id, spec.method_id));
    }
    let ids =
        text.split_once('/').and_then(|(class, method)| Some((class.parse().ok()?, method.parse().ok()?)));
    ids.ok_or_else(|| format!("there is no method '{text}'"))
}

fn parse_message(text: &str) -> Result<MessageTerm, String> {
    let (name, rest) = split_word(text);
    let method = known_method(name)?;
    let spec = spec::method_named(method).ok_or("the method was just found")?;
    let arguments = Lexer::new(rest).arguments()?;
    let mut message =
        MessageTerm { method, fields: Vec::new(), properties: None, body: None, is_open: arguments.is_open };
    for (name, term) in arguments.named {
        match name.as_str() {
            "props" if spec.has_content => message.properties = Some(term),
            "body" if spec.has_content => message.body = Some(term),
            _ if spec.fields.iter().any(|(field, _)| *field == name) => message.fields.push((name, term)),
            _ => return Err(format!("{method} has no field '{name}'")),
        }
    }
    Ok(message)
}

fn known_method(name: &str) -> Result<&'static str, String> {
    spec::method_named(name)
        .map(|spec| spec.name.as_str())
        .ok_or_else(|| format!("there is no method '{name}'"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim().strip_suffix("ms").ok_or_else(|| format!("'{text}' is no duration in ms"))?;
    digits.parse().map(Duration::from_millis).map_err(|_| format!("'{text}' is no duration in ms"))
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// What follows the first words of a line.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) named: Vec<(String, Term)>,
    pub(super) positional: Vec<Term>,
    is_open: bool,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lexer { rest: text }
    }

    /// The next word, which is no field name.
    pub(super) fn word_term(&mut self) -> Result<Term, String> {
        self.skip_space();
        self.term()
    }

    pub(super) fn arguments(mut self) -> Result<Arguments, String> {
        let mut arguments = Arguments::default();
        loop {
            self.skip_space();
            if self.rest.is_empty() {
                return Ok(arguments);
            }
            if self.eat("...") {
                arguments.is_open = true;
            } else if let Some(name) = self.key() {
                arguments.named.push((name, self.value_or_true()?));
            } else {
                arguments.positional.push(self.term()?);
            }
        }
    }

    /// A field name: a word of letters and hyphens, followed by `=`, a space or the end.
    fn key(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .unwrap_or(self.rest.len());
        let follows = self.rest[end..].chars().next();
        let starts_as_name = self.rest.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_key = starts_as_name && matches!(follows, None | Some('=' | ' '));
        is_key.then(|| self.advance(end).to_owned())
    }

    fn value_or_true(&mut self) -> Result<Term, String> {
        if self.eat("=") { self.term() } else { Ok(word("true")) }
    }

    fn term(&mut self) -> Result<Term, String> {
        let first = self.rest.chars().next().ok_or("a value is missing")?;
        match first {
            '"' => self.quoted(),
            '{' => self.table(),
            '[' => self.array(),
            _ if self.rest.starts_with("hex(") => self.hex(),
            _ if self.rest[first.len_utf8()..].starts_with(':') && first.is_ascii_alphabetic() => {
                self.advance(2);
                Ok(Term::Typed(first as u8, Box::new(self.term()?)))
            }
            _ => self.bare(),
        }
    }

    fn bare(&mut self) -> Result<Term, String> {
        let end = self.rest.find([' ', ',', '}', ']']).unwrap_or(self.rest.len());
        let text = self.advance(end);
        Ok(Term::Word { parts: parse_parts(text)?, is_quoted: false })
    }

    fn quoted(&mut self) -> Result<Term, String> {
        let mut escaped = false;
        let end = self.rest[1..]
            .find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
            .ok_or("a string without an end")?;
        let parts = parse_parts(&self.rest[1..=end])?;
        self.advance(end + 2);
        let term = Term::Word { parts, is_quoted: true };
        if !self.eat("*") {
            return Ok(term);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let count = self.advance(end).parse().map_err(|_| "a string times what?")?;
        Ok(Term::Repeat(Box::new(term), count))
    }

    fn hex(&mut self) -> Result<Term, String> {
        let end = self.rest.find(')').ok_or("hex( without )")?;
        let digits: String = self.rest[4..end].split_whitespace().collect();
        let octets = (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16));
        let bytes = octets.collect::<Result<Vec<u8>, _>>().map_err(|error| error.to_string())?;
        self.advance(end + 1);
        Ok(Term::Word { parts: vec![Part::Bytes(bytes)], is_quoted: true })
    }

    fn table(&mut self) -> Result<Term, String> {
        self.advance(1);
        let (mut entries, mut is_open) = (Vec::new(), false);
        while !self.list_ends('}')? {
            if self.eat("...") {
                is_open = true;
                continue;
            }
            let end = self.rest.find(['=', ',', '}', ' ']).ok_or("a table without an end")?;
            let key = self.advance(end).to_owned();
            entries.push((key, self.value_or_true()?));
        }
        Ok(Term::Table { entries, is_open })
    }

    fn array(&mut self) -> Result<Term, String> {
        self.advance(1);
        let mut items = Vec::new();
        while !self.list_ends(']')? {
            items.push(self.term()?);
        }
        Ok(Term::Array(items))
    }

    fn list_ends(&mut self, end: char) -> Result<bool, String> {
        self.rest = self.rest.trim_start_matches([' ', ',']);
        match self.rest.chars().next() {
            None => Err(format!("'{end}' is missing")),
            Some(next) if next == end => {
                self.advance(1);
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn advance(&mut self, count: usize) -> &'a str {
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        head
    }
}

fn word(text: &str) -> Term {
    Term::Word { parts: vec![Part::Bytes(text.as_bytes().to_vec())], is_quoted: false }
}

/// Splits a word at its escapes, names, variables and stars.
fn parse_parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        let is_name = matches!(first, '%' | '$') && rest.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_name && first != '*' {
            let escape = if first == '\\' { parse_escape(rest)? } else { Escape::Literal(first) };
            rest = escape.push_to(&mut literal, rest);
            continue;
        }
        if !literal.is_empty() {
            parts.push(Part::Bytes(std::mem::take(&mut literal)));
        }
        if first == '*' {
            parts.push(Part::Star);
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        parts.push(if first == '%' { Part::Name(name) } else { Part::Variable(name) });
    }
    if !literal.is_empty() {
        parts.push(Part::Bytes(literal));
    }
    Ok(parts)
}

enum Escape {
    Literal(char),
    Octet(u8),
    Newline,
    Quoted(char),
}

impl Escape {
    fn push_to<'a>(self, out: &mut Vec<u8>, rest: &'a str) -> &'a str {
        match self {
            Escape::Literal(c) => {
                out.extend(c.to_string().as_bytes());
                rest
            }
            Escape::Octet(octet) => {
                out.push(octet);
                &rest[3..]
            }
            Escape::Newline => {
                out.push(b'\n');
                &rest[1..]
            }
            Escape::Quoted(c) => {
                out.extend(c.to_string().as_bytes());
                &rest[c.len_utf8()..]
            }
        }
    }
}

fn parse_escape(rest: &str) -> Result<Escape, String> {
    match rest.chars().next() {
        Some('x') => {
            let digits = rest.get(1..3).ok_or("\\x needs two digits")?;
            u8::from_str_radix(digits, 16).map(Escape::Octet).map_err(|error| error.to_string())
        }
        Some('n') => Ok(Escape::Newline),
        Some(other) => Ok(Escape::Quoted(other)),
        None => Err("a backslash at the end".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: &str) -> Action {
        parse_step(line).unwrap_or_else(|problem| panic!("{line}: {problem}"))
    }

    #[test]
    fn a_send_names_place_method_and_fields() {
        let Action::Send(place, message) =
            step("b.2> queue.declare queue=%q durable arguments={x-expires=l:5}")
        else {
            panic!("a send");
        };
        assert_eq!(place, Place { connection: "b".into(), channel: 2 });
        assert_eq!(message.method, "queue.declare");
        assert_eq!(message.fields[0].1, Term::Word { parts: vec![Part::Name("q".into())], is_quoted: false });
        assert_eq!(message.fields[1], ("durable".into(), word("true")));
        let expected = Term::Typed(b'l', Box::new(word("5")));
        assert_eq!(
            message.fields[2].1,
            Term::Table { entries: vec![("x-expires".into(), expected)], is_open: false }
        );
    }

    #[test]
    fn strings_have_escapes_names_and_stars() {
        let Action::ExpectError { code, text, .. } = step(r#"1! 404 queue.bind "a\x00'%q'\*$v *""#) else {
            panic!("an error");
        };
        assert_eq!(code, 404);
        let parts = vec![
            Part::Bytes(b"a\0'".to_vec()),
            Part::Name("q".into()),
            Part::Bytes(b"'*".to_vec()),
            Part::Variable("v".into()),
            Part::Bytes(b" ".to_vec()),
            Part::Star,
        ];
        assert_eq!(text, Term::Word { parts, is_quoted: true });
    }

    #[test]
    fn bars_join_neighbours() {
        let text =
            "scenario s\n| 1< basic.ack delivery-tag=1\n| 1< basic.ack delivery-tag=2\n1< basic.qos-ok\n";
        let steps = &parse("f", text).unwrap()[0].steps;
        assert_eq!(steps.len(), 2);
        assert!(matches!(&steps[0].action, Action::Expect(group) if group.len() == 2));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, problem) in [
            ("scenario s\n1> queue.declar", "there is no method 'queue.declar'"),
            ("scenario s\n1> queue.declare que=1", "queue.declare has no field 'que'"),
            ("scenario s\n1? x", "'1?' is no channel"),
        ] {
            let error = parse("f", text).unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (2, problem));
        }
    }
}
