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
    let total = items.len();
    let mut items = filter(request, items)?;
    sort(request, &mut items);
    let columns = columns(request);
    let cut =
        |items: Vec<Value>| items.into_iter().map(|item| keep(item, columns.as_deref())).collect::<Vec<_>>();
    let Some(page) = page(request)? else { return Ok(Answer::json(&cut(items))) };
    let filtered = items.len();
    let page_count = filtered.div_ceil(page.size).max(1);
    if page.number > page_count {
        let reason = format!("page_out_of_range: page {} of {page_count}", page.number);
        return Err(ApiError::bad_request(reason));
    }
    let items: Vec<_> = items.into_iter().skip((page.number - 1) * page.size).take(page.size).collect();
    Ok(Answer::json(&json!({
        "filtered_count": filtered,
        "item_count": items.len(),
        "items": cut(items),
        "page": page.number,
        "page_count": page_count,
        "page_size": page.size,
        "total_count": total,
    })))
}

/// One object with the columns that the request wants.
pub(crate) fn one(request: &Request, item: Value) -> Answer {
    Answer::json(&keep(item, columns(request).as_deref()))
}

struct Page {
    number: usize,
    size: usize,
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

fn filter(request: &Request, items: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let Some(wanted) = request.query("name").filter(|name| !name.is_empty()) else { return Ok(items) };
    let name = |item: &Value| item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
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

fn sort(request: &Request, items: &mut [Value]) {
    let Some(column) = request.query("sort").filter(|column| !column.is_empty()) else { return };
    items.sort_by(|a, b| compare(at(a, column), at(b, column)));
    if request.asks_for("sort_reverse") {
        items.reverse();
    }
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
