//! The HTTP API of `leveret serve`: who is let in, and what is said to those who are not.

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

#[test]
fn the_api_wants_a_known_user() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    let check = |method: &str, path: &str, headers: &[(&str, &str)], expected: u16, words: &str| {
        let answer = http.ask(method, path, headers, b"");
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status, text.contains(words)), (expected, true), "{method} {path}: {text}");
    };
    let guest = ("Authorization", GUEST);
    check("GET", "/api/whoami", &[guest], 200, "administrator");
    check("GET", "/api/whoami", &[], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q")], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Basic Z3Vlc3Q6")], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Bearer x")], 401, "Login failed");
    check("GET", "/api/vhosts/%2F", &[guest], 200, "\"name\":\"/\"");
    check("GET", "/api/vhosts/missing", &[guest], 404, "Not Found");
    check("GET", "/api/nothing", &[guest], 404, "Not Found");
    check("PUT", "/api/whoami", &[guest], 405, "Method Not Allowed");
    check("OPTIONS", "/api/whoami", &[], 204, "");
}
