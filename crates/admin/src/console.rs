//! The web console: files that are part of the binary. They talk to the API of the same origin and to nobody else.
//!
//! Nothing in them is secret, so nobody has to log in to get them; what they show, the API gives to who may see it.

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};

/// No inline script, no inline style, no other host, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/",
        access: Access::Open,
        about: "The web console",
        handler: |_, _| file("index.html"),
    },
    Route {
        method: Method::GET,
        path: "/console/{file}",
        access: Access::Open,
        about: "A file of the web console",
        handler: |_, request| file(request.param("file")),
    },
    Route {
        method: Method::GET,
        path: "/console/{folder}/{file}",
        access: Access::Open,
        about: "A file of the web console",
        handler: nested,
    },
];

fn nested(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    file(&format!("{}/{}", request.param("folder"), request.param("file")))
}

fn file(name: &str) -> Result<Answer, ApiError> {
    let (_, octets) = FILES.iter().find(|(known, _)| *known == name).ok_or_else(ApiError::not_found)?;
    let answer = Answer::octets(content_type(name), *octets);
    let header = HeaderValue::from_static;
    Ok(answer
        .with_header(CONTENT_SECURITY_POLICY, header(POLICY))
        .with_header(X_FRAME_OPTIONS, header("DENY"))
        .with_header(REFERRER_POLICY, header("no-referrer")))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Its name below `console/`, and what is in it.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../console/", $name)))),*]
    };
}

const FILES: &[File] = files![
    "icon.svg",
    "index.html",
    "lib/api.js",
    "lib/chart.js",
    "lib/dialog.js",
    "lib/dom.js",
    "lib/format.js",
    "lib/table.js",
    "lib/view.js",
    "main.js",
    "pages/channels.js",
    "pages/choose.js",
    "pages/connections.js",
    "pages/dead_letters.js",
    "pages/definitions.js",
    "pages/exchange.js",
    "pages/exchanges.js",
    "pages/index.js",
    "pages/limits.js",
    "pages/login.js",
    "pages/logs.js",
    "pages/messages.js",
    "pages/overview.js",
    "pages/policies.js",
    "pages/publish.js",
    "pages/queue.js",
    "pages/queues.js",
    "pages/service.js",
    "pages/services.js",
    "pages/shovels.js",
    "pages/topology.js",
    "pages/user.js",
    "pages/users.js",
    "pages/vhosts.js",
    "style.css",
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console")
    }

    fn names(folder: &Path, prefix: &str, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => names(&entry.path(), &format!("{name}/"), into),
                false => into.push(name),
            }
        }
    }

    #[test]
    fn every_file_is_in_the_binary() {
        let mut there = Vec::new();
        names(&folder(), "", &mut there);
        there.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), there);
    }

    /// What would turn text into markup or code.
    #[test]
    fn no_script_makes_markup_of_text() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "setHTML",
            "eval(",
            "new Function",
            "srcdoc",
            "javascript:",
            "document.cookie",
        ];
        for (name, octets) in FILES {
            let text = std::str::from_utf8(octets).unwrap();
            for word in forbidden {
                assert!(!text.contains(word), "{name}: {word}");
            }
            assert!(!text.contains(" style=") && !text.contains("<script>"), "{name}: inline");
        }
    }

    #[test]
    fn a_path_that_is_no_file_is_none() {
        for name in ["", "../Cargo.toml", "missing.js", "pages/../main.js"] {
            assert!(file(name).is_err(), "{name}");
        }
    }
}
