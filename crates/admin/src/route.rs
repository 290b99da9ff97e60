//! What there is: the table of all routes. A path that is not in it does not exist.

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::{Request, decode_segment};
use crate::surface::Surface;

/// What is done to a path. `HEAD` is `GET` without the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::upper_case_acronyms)] // as they are written
pub enum Method {
    /// Look.
    GET,
    /// Make it so.
    PUT,
    /// Do it.
    POST,
    /// Take it away.
    DELETE,
}

impl Method {
    /// As it is written in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::GET => "GET",
            Self::PUT => "PUT",
            Self::POST => "POST",
            Self::DELETE => "DELETE",
        }
    }

    fn parse(name: &str) -> Option<Method> {
        match name {
            "GET" | "HEAD" => Some(Self::GET),
            "PUT" => Some(Self::PUT),
            "POST" => Some(Self::POST),
            "DELETE" => Some(Self::DELETE),
            _ => None,
        }
    }
}

/// Runs on a thread that may block. What it logged is awaited before its answer leaves.
pub(crate) type Handler = fn(&Context, &Request) -> Result<Answer, ApiError>;

/// A method of a path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What is done.
    pub method: Method,
    /// `{…}` is one percent-encoded name.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    /// What it is for, in a sentence: for the OpenAPI document.
    pub about: &'static str,
    pub(crate) handler: Handler,
}

/// All routes.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    crate::api::ROUTES.iter().copied().flatten()
}

/// Where a request leads.
pub(crate) enum Found {
    /// To a handler, with the names of its path.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// The path exists, with these methods, and was not asked for one of them.
    WrongMethod(String),
    /// What would have a name that cannot be one: no percent-encoded UTF-8, or longer than 255 octets.
    BadName,
    /// Nowhere.
    Nothing,
}

/// Finds the route of a request on a surface. Where several fit, the one with the most literal segments counts.
pub(crate) fn find(surface: Surface, method: &str, path: &str) -> Found {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let here = routes().filter(|route| surface.access(route).is_some());
    let fitting: Vec<_> = here.filter(|route| fits(route.path, &segments)).collect();
    let Some(most) = fitting.iter().map(|route| literals(route.path)).max() else { return Found::Nothing };
    let fitting: Vec<_> = fitting.into_iter().filter(|route| literals(route.path) == most).collect();
    let asked = Method::parse(method);
    match fitting.iter().find(|route| Some(route.method) == asked) {
        Some(route) => match params(route.path, &segments) {
            Some(params) => Found::Route(route, params),
            // What cannot exist is not found, but it cannot be made either.
            None if route.method == Method::PUT => Found::BadName,
            None => Found::Nothing,
        },
        None => Found::WrongMethod(allowed(&fitting)),
    }
}

fn fits(path: &'static str, segments: &[&str]) -> bool {
    let parts = path.trim_end_matches('/').split('/');
    parts.clone().count() == segments.len()
        && parts.zip(segments).all(|(part, segment)| name(part).is_some() || part == *segment)
}

fn name(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

fn literals(path: &'static str) -> usize {
    path.split('/').filter(|part| name(part).is_none()).count()
}

fn params(path: &'static str, segments: &[&str]) -> Option<Vec<(&'static str, String)>> {
    let parts = path.trim_end_matches('/').split('/').zip(segments);
    parts
        .filter_map(|(part, segment)| Some((name(part)?, segment)))
        .map(|(name, segment)| Some((name, decode_segment(segment)?)))
        .collect()
}

fn allowed(routes: &[&Route]) -> String {
    let mut names: Vec<_> = routes.iter().map(|route| route.method.name()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_route_is_there_once() {
        let mut seen = HashSet::new();
        for route in routes() {
            assert!(seen.insert((route.method, route.path)), "{route:?}");
            assert!(route.path.starts_with('/') && !route.about.is_empty(), "{route:?}");
        }
    }

    #[test]
    fn a_path_leads_to_its_route() {
        let check = |method: &str, path: &str, expected: &str| {
            let found = match find(Surface::Whole, method, path) {
                Found::Route(route, params) => format!("{} {params:?}", route.path),
                Found::WrongMethod(methods) => methods,
                Found::BadName => "bad name".to_owned(),
                Found::Nothing => "nothing".to_owned(),
            };
            assert_eq!(found, expected, "{method} {path}");
        };
        check("GET", "/api/whoami", "/api/whoami []");
        check("HEAD", "/api/whoami/", "/api/whoami []");
        check("PUT", "/api/whoami", "GET, HEAD, OPTIONS");
        check("BREW", "/api/whoami", "GET, HEAD, OPTIONS");
        check("GET", "/api/whoami/x", "nothing");
        check("GET", "/api//whoami", "nothing");
        check("GET", "/api/vhosts/%2F", "/api/vhosts/{vhost} [(\"vhost\", \"/\")]");
        check("GET", "/api/vhosts/%zz", "nothing");
        check("PUT", "/api/vhosts/%zz", "bad name");
        let elsewhere = find(Surface::Metrics, "PUT", "/api/vhosts/x");
        assert!(matches!(elsewhere, Found::Nothing), "what is not on a surface does not exist");
    }
}
