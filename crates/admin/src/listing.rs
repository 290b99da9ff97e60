//! Lists: filtered by name, sorted, cut to pages and to columns, by RabbitMQ's query parameters.
//!
//! `name` and `use_regex` filter; `sort` and `sort_reverse` order by a column, `a.b` one inside another; `page` and
//! `page_size` turn the list into an object with totals; `columns` keeps only those.

use std::cmp::Ordering;

use regex::bytes::RegexBuilder;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::error::ApiError;
use crate::request::Request;

const PAGE_SIZE_DEFAULT: usize = 100;
/// RabbitMQ's.
const PAGE_SIZE_MAX: usize = 500;
/// Octets that a compiled filter may take: a hostile one is refused, not run.
const REGEX_MAX_BYTES: usize = 1 << 20;

/// Answers a list as the request wants it.
///
/// # Errors
/// 400: a page that does not exist, or a parameter that makes no sense.
pub(crate) fn answer(request: &Request, items: Vec<Value>) -> Result<Answer, ApiError> {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let column = |item: &Value, column: &str| Cheap::Is(at(item, column).cloned().unwrap_or_default());
    lazy(request, items, name, column, |item| item)
}

/// What a column of something is, as far as that is known before its JSON is built.
pub(crate) enum Cheap {
    /// This; null where it has no such column.
    Is(Value),
    /// Only the whole JSON tells.
    Unknown,
}

/// The same for things whose JSON is only built where it is shown: `name` is what the filter looks at, `cheap` what they
/// are sorted by.
///
/// # Errors
/// 400: a page that does not exist, or a parameter that makes no sense.
pub(crate) fn lazy<T>(
    request: &Request,
    items: Vec<T>,
    name: impl Fn(&T) -> String,
    cheap: impl Fn(&T, &str) -> Cheap,
    build: impl Fn(T) -> Value,
) -> Result<Answer, ApiError> {
    let page = page(request)?;
    let total = items.len();
    let items = filter(request, items, name)?;
    let items = match sort(request, items, cheap) {
        Ok(items) => cut(items, page.as_ref())?.map(build),
        Err(items) => {
            let mut items: Vec<Value> = items.into_iter().map(build).collect();
            let column = request.query("sort").unwrap_or_default();
            items.sort_by(|a, b| compare(at(a, column), at(b, column)));
            if request.asks_for("sort_reverse") {
                items.reverse();
            }
            cut(items, page.as_ref())?
        }
    };
    let columns = columns(request);
    let filtered = items.filtered;
    let items: Vec<_> = items.items.into_iter().map(|item| keep(item, columns.as_deref())).collect();
    let Some(page) = page else { return Ok(Answer::json(&items)) };
    Ok(Answer::json(&json!({
        "filtered_count": filtered,
        "item_count": items.len(),
        "items": items,
        "page": page.number,
        "page_count": page.count(filtered),
        "page_size": page.size,
        "total_count": total,
    })))
}

/// What of a list is shown.
struct Cut<T> {
    items: Vec<T>,
    /// How many there were before the list was cut to a page.
    filtered: usize,
}

impl<T> Cut<T> {
    fn map<U>(self, build: impl Fn(T) -> U) -> Cut<U> {
        Cut { items: self.items.into_iter().map(build).collect(), filtered: self.filtered }
    }
}

fn cut<T>(items: Vec<T>, page: Option<&Page>) -> Result<Cut<T>, ApiError> {
    let filtered = items.len();
    let Some(page) = page else { return Ok(Cut { items, filtered }) };
    let count = page.count(filtered);
    if page.number > count {
        return Err(ApiError::bad_request(format!("page_out_of_range: page {} of {count}", page.number)));
    }
    let items = items.into_iter().skip((page.number - 1) * page.size).take(page.size).collect();
    Ok(Cut { items, filtered })
}

/// One object with the columns that the request wants.
pub(crate) fn one(request: &Request, item: Value) -> Answer {
    Answer::json(&keep(item, columns(request).as_deref()))
}

struct Page {
    number: usize,
    size: usize,
}

impl Page {
    /// How many there are; an empty list has one.
    fn count(&self, items: usize) -> usize {
        items.div_ceil(self.size).max(1)
    }
}

fn page(request: &Request) -> Result<Option<Page>, ApiError> {
    let number = |name: &str| match request.query(name) {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(ApiError::bad_request(format!("`{name}` must be a number above 0, not `{text}`"))),
        },
    };
    let (page, size) = (number("page")?, number("page_size")?.unwrap_or(PAGE_SIZE_DEFAULT));
    if size > PAGE_SIZE_MAX {
        return Err(ApiError::bad_request(format!("`page_size` is at most {PAGE_SIZE_MAX}")));
    }
    Ok(page.map(|number| Page { number, size }))
}

fn filter<T>(request: &Request, items: Vec<T>, name: impl Fn(&T) -> String) -> Result<Vec<T>, ApiError> {
    let Some(wanted) = request.query("name").filter(|name| !name.is_empty()) else { return Ok(items) };
    if !request.asks_for("use_regex") {
        let wanted = wanted.to_lowercase();
        return Ok(items.into_iter().filter(|item| name(item).to_lowercase().contains(&wanted)).collect());
    }
    let regex =
        RegexBuilder::new(wanted).case_insensitive(true).unicode(false).size_limit(REGEX_MAX_BYTES).build();
    let regex =
        regex.map_err(|error| ApiError::bad_request(format!("`name` is no regular expression: {error}")))?;
    Ok(items.into_iter().filter(|item| regex.is_match(name(item).as_bytes())).collect())
}

/// Sorts by what is cheap; gives the items back as they were where it is not.
fn sort<T>(request: &Request, items: Vec<T>, cheap: impl Fn(&T, &str) -> Cheap) -> Result<Vec<T>, Vec<T>> {
    let Some(column) = request.query("sort").filter(|column| !column.is_empty()) else { return Ok(items) };
    let mut keys = Vec::with_capacity(items.len());
    for item in &items {
        match cheap(item, column) {
            Cheap::Is(key) => keys.push(key),
            Cheap::Unknown => return Err(items),
        }
    }
    let mut sorted: Vec<_> = keys.into_iter().zip(items).collect();
    sorted.sort_by(|(a, _), (b, _)| compare(Some(a), Some(b)));
    if request.asks_for("sort_reverse") {
        sorted.reverse();
    }
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// What is missing goes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            a.total_cmp(&b)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: Option<&Value>) -> u8 {
    match value {
        None | Some(Value::Null) => 0,
        Some(Value::Bool(_)) => 1,
        Some(Value::Number(_)) => 2,
        Some(Value::String(_)) => 3,
        Some(Value::Array(_)) => 4,
        Some(Value::Object(_)) => 5,
    }
}

fn at<'a>(item: &'a Value, column: &str) -> Option<&'a Value> {
    column.split('.').try_fold(item, |item, part| item.get(part))
}

fn columns(request: &Request) -> Option<Vec<&str>> {
    let columns = request.query("columns").filter(|columns| !columns.is_empty())?;
    Some(columns.split(',').collect())
}

fn keep(item: Value, columns: Option<&[&str]>) -> Value {
    let Some(columns) = columns else { return item };
    let mut kept = Map::new();
    for column in columns {
        if let Some(value) = at(&item, column) {
            put(&mut kept, column, value.clone());
        }
    }
    Value::Object(kept)
}

fn put(into: &mut Map<String, Value>, column: &str, value: Value) {
    match column.split_once('.') {
        None => drop(into.insert(column.to_owned(), value)),
        Some((outer, inner)) => {
            let nested = into.entry(outer.to_owned()).or_insert_with(|| json!({}));
            if let Value::Object(nested) = nested {
                put(nested, inner, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Bytes;

    use super::*;
    use crate::request::decode_query;

    fn check(query: &str, expected: Result<Value, &str>) {
        let request = Request {
            params: Vec::new(),
            query: decode_query(query),
            headers: Default::default(),
            body: Bytes::new(),
            user: None,
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        let items = vec![
            json!({"name": "b", "n": 2, "of": {"x": 1, "y": 2}}),
            json!({"name": "C", "n": 10}),
            json!({"name": "ab", "n": 1, "of": {"x": 3}}),
        ];
        let answer = answer(&request, items);
        let answer = answer.map(|answer| serde_json::from_slice::<Value>(&answer.body).unwrap());
        match expected {
            Ok(expected) => assert_eq!(answer.unwrap(), expected, "{query}"),
            Err(text) => assert!(answer.unwrap_err().reason.contains(text), "{query}"),
        }
    }

    #[test]
    fn lists_are_what_the_query_wants() {
        let named = |names: &[&str]| Ok(names.iter().map(|name| json!({ "name": name })).collect::<Value>());
        check("columns=name", named(&["b", "C", "ab"]));
        check("columns=name&sort=n", named(&["ab", "b", "C"]));
        check("columns=name&sort=n&sort_reverse=true", named(&["C", "b", "ab"]));
        check("columns=name&sort=of.x", named(&["C", "b", "ab"]));
        check("columns=name&name=B", named(&["b", "ab"]));
        check("columns=name&name=^b%24&use_regex=true", named(&["b"]));
        check("columns=of.y,n&name=^b&use_regex=true", Ok(json!([{"of": {"y": 2}, "n": 2}])));
        check("name=(&use_regex=true", Err("no regular expression"));
    }

    #[test]
    fn pages_have_totals() {
        let expected = json!({
            "filtered_count": 2, "item_count": 1, "items": [{"name": "ab"}],
            "page": 2, "page_count": 2, "page_size": 1, "total_count": 3,
        });
        check("columns=name&name=b&page=2&page_size=1", Ok(expected));
        check("page=3&page_size=2", Err("page_out_of_range"));
        check("page=0", Err("`page` must be a number"));
        check("page=1&page_size=501", Err("at most 500"));
        check("page=1&page_size=x", Err("`page_size` must be a number"));
    }
}
