//! Areas: the names that people use for what logs, instead of the paths of modules.
//!
//! ```text
//!   leveret_server::session::dispatch ──longest path that it begins with──▶ channel
//! ```

/// A part of the program whose level can be set by a short name.
pub(crate) struct Area {
    /// In `log`, in `/api/log-levels` and in every line.
    pub(crate) name: &'static str,
    /// What it tells.
    pub(crate) about: &'static str,
    /// Paths of modules; the longest that fits decides.
    pub(super) paths: &'static [&'static str],
}

/// All of them, as `docs/features/logging.md` lists them.
pub(crate) const AREAS: &[Area] = &[
    Area { name: "serve", about: "start, stop, reload", paths: &["leveret"] },
    Area {
        name: "connection",
        about: "clients that come, go, or are turned away; TLS",
        paths: &["leveret_server"],
    },
    Area { name: "channel", about: "what clients were refused", paths: &["leveret_server::session"] },
    Area {
        name: "auth",
        about: "logins",
        paths: &["leveret_server::logins", "leveret_broker::users", "leveret_broker::ops::login"],
    },
    Area { name: "queue", about: "queues, expiry, dead letters, policies", paths: &["leveret_broker"] },
    Area {
        name: "store",
        about: "the disk, recovery, damage",
        paths: &[
            "leveret_store",
            "leveret_broker::broker",
            "leveret_broker::recover",
            "leveret_broker::settling",
            "leveret_server::committer",
            "leveret_server::embed",
        ],
    },
    Area { name: "alarm", about: "low memory, low disk", paths: &["leveret_server::alarms"] },
    Area {
        name: "http",
        about: "HTTP connections and requests",
        paths: &["leveret_admin", "leveret::http", "leveret::gateway", "hyper", "hyper_util"],
    },
    Area { name: "shovel", about: "messages moved between brokers", paths: &["leveret_shovel"] },
    Area {
        name: "client",
        about: "connections that this program makes",
        paths: &["leveret_client", "lapin"],
    },
];

/// The name of the area of a module, or of the crate when it is somebody else's.
pub(super) fn area_of(target: &str) -> &str {
    let paths = AREAS.iter().flat_map(|area| area.paths.iter().map(move |path| (*path, area.name)));
    let fitting = paths.filter(|(path, _)| is_inside(target, path));
    let longest = fitting.max_by_key(|(path, _)| path.len());
    longest.map_or_else(|| target.split("::").next().unwrap_or(target), |(_, name)| name)
}

fn is_inside(target: &str, path: &str) -> bool {
    target.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_decides() {
        let check = |target, expected| assert_eq!(area_of(target), expected, "{target}");
        check("leveret_server::drive::tcp", "connection");
        check("leveret_server::session::running", "channel");
        check("leveret_server::session", "channel");
        check("leveret_server::sessions", "connection");
        check("leveret_broker::ops::queue", "queue");
        check("leveret_broker::recover", "store");
        check("leveret_store::log", "store");
        check("leveret::serve::reload", "serve");
        check("leveret::http", "http");
        check("lapin::channel", "client");
        check("rustls::conn", "rustls");
    }

    #[test]
    fn the_page_lists_every_area() {
        let page = include_str!("../../../../docs/features/logging.md");
        for Area { name, about, .. } in AREAS {
            assert!(page.contains(&format!("| `{name}` | {about} |")), "docs/features/logging.md: {name}");
        }
    }
}
