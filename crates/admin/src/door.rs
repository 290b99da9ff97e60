//! The way of a request to its handler, and of the answer back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response, request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::authority::{Right, authorize};
use leveret_broker::users::User;
use leveret_wire::Secret;
use leveret_wire::sasl::Credentials;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::host::Host;
use crate::http::{Peer, body};
use crate::request::{Request, decode_query};
use crate::route::{Found, Method, Route, find};
use crate::surface::Surface;

/// RabbitMQ's default for the bodies of requests; definitions are the large ones.
pub(crate) const BODY_MAX_BYTES: usize = 20_000_000;
/// A script that sends this does not want its browser to ask for a password.
const REQUESTED_WITH: &str = "x-requested-with";

/// The way in of one kind of listener.
#[derive(Clone)]
struct Door {
    context: Arc<Context>,
    surface: Surface,
}

/// The routes as services, one for each surface; they share what is remembered of counters.
pub fn routers<const COUNT: usize>(host: Arc<dyn Host>, surfaces: [Surface; COUNT]) -> [Router; COUNT] {
    let context = Arc::new(Context::new(host));
    let door = |surface| Door { context: context.clone(), surface };
    surfaces.map(|surface| Router::new().fallback(serve).with_state(door(surface)))
}

async fn serve(
    State(door): State<Door>,
    Extension(Peer(peer)): Extension<Peer>,
    request: axum::extract::Request,
) -> Response<Body> {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let answer = match respond(door, peer, &head, body).await {
        Ok(answer) => answer,
        Err(error) => challenge(&head.headers, &error, error.clone().into_answer()),
    };
    // The query may hold what is nobody's business.
    let (method, path, status) = (&head.method, without_password(head.uri.path()), answer.status.as_u16());
    tracing::debug!(target: "leveret::http", %method, path, status, %peer, after = ?began.elapsed(), "request");
    finished(answer.into_response(head.method != axum::http::Method::HEAD))
}

/// The one path that has a password in it is not logged whole.
fn without_password(path: &str) -> &str {
    const BEFORE: &str = "/api/auth/hash_password/";
    if path.starts_with(BEFORE) { BEFORE } else { path }
}

async fn respond(
    Door { context, surface }: Door,
    peer: IpAddr,
    head: &request::Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let (route, params) = match find(surface, head.method.as_str(), head.uri.path()) {
        Found::Route(route, params) => (route, params),
        Found::WrongMethod(methods) if head.method == axum::http::Method::OPTIONS => {
            return Ok(Answer::no_content().with_allow(&methods));
        }
        Found::WrongMethod(methods) => {
            return Ok(ApiError::wrong_method().into_answer().with_allow(&methods));
        }
        Found::BadName => {
            return Err(ApiError::bad_request("a name in the path is not UTF-8, or longer than 255 octets"));
        }
        Found::Nothing => return Err(ApiError::not_found()),
    };
    refuse_other_sites(route.method, &head.headers)?;
    let access = surface.access(route).ok_or_else(ApiError::not_found)?;
    let user = match access {
        Access::Open => None,
        _ => Some(login(&context, &head.headers, peer).await?),
    };
    let query = decode_query(head.uri.query().unwrap_or_default());
    let headers = head.headers.clone();
    let mut request = Request { params, query, headers, body: Default::default(), user, peer };
    // Before the body: who may not use a route need not send one.
    access.check(&request).map_err(|refused| known_missing(&context, &request).unwrap_or(refused))?;
    request.body = body::read(&head.headers, body, BODY_MAX_BYTES).await?;
    run(context, route, request).await
}

/// Whoever may see everything is told that a virtual host does not exist; others, that they may not enter it.
fn known_missing(context: &Context, request: &Request) -> Option<ApiError> {
    let vhost = request.param_if("vhost")?;
    authorize(&*request.caller().ok()?, Right::Monitoring).ok()?;
    context.broker().vhost(vhost).is_none().then(ApiError::not_found)
}

async fn run(context: Arc<Context>, route: &'static Route, request: Request) -> Result<Answer, ApiError> {
    let handling = context.clone();
    let answer = handled(move || (route.handler)(&handling, &request)).await?;
    context.durable().await;
    Ok(answer)
}

/// What a panic says is for the log: it may tell of what else the handler had in hand.
async fn handled<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let ran = tokio::task::spawn_blocking(work).await;
    ran.map_err(|_| ApiError::internal("the handler failed"))?
}

/// A page of another site may send what a form can send, with the password that the browser remembers.
fn refuse_other_sites(method: Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    match method == Method::GET || (authority.is_some() && authority == own) {
        true => Ok(()),
        false => Err(ApiError::forbidden("a page of another site may not change anything here")),
    }
}

async fn login(context: &Context, headers: &HeaderMap, peer: IpAddr) -> Result<Arc<User>, ApiError> {
    let refused = || ApiError::not_authorised("Login failed");
    let credentials = basic(headers).ok_or_else(refused)?;
    context.host.login(credentials, peer).await.map_err(|_| refused())
}

/// RFC 7617. The scheme's name has no case.
fn basic(headers: &HeaderMap) -> Option<Credentials> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.as_bytes().split_first_chunk::<6>()?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = Secret::new(STANDARD.decode(encoded.trim_ascii()).ok()?);
    let colon = decoded.expose().iter().position(|&octet| octet == b':')?;
    let (user, password) = decoded.expose().split_at(colon);
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some(Credentials { user, password: Secret::new(&password[1..]) })
}

/// 401 says how to log in, but not to scripts: their browser would ask its user.
fn challenge(headers: &HeaderMap, error: &ApiError, answer: Answer) -> Answer {
    if error.status != axum::http::StatusCode::UNAUTHORIZED || headers.contains_key(REQUESTED_WITH) {
        return answer;
    }
    answer.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Leveret Management\""))
}

/// What every answer says to browsers and caches, unless its handler said otherwise.
fn finished(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::process::Command;

    use super::*;

    const MARK: &str = "canary7f3a";
    /// Set in the process that is to panic.
    const PANICS: &str = "LEVERET_TEST_PANICS";

    /// A request with a secret in every place where one can be.
    fn request_of_secrets() -> Request {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, axum::http::header::COOKIE] {
            headers.insert(name, HeaderValue::from_static(MARK));
        }
        Request {
            params: vec![("password", MARK.to_owned())],
            query: vec![("password".to_owned(), MARK.to_owned())],
            headers,
            body: MARK.into(),
            user: None,
            peer: Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn panic_with(request: Request) -> ApiError {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let work = move || Err::<(), _>(request).map_err(|request| panic!("{request:?}"));
        runtime.block_on(handled(work)).unwrap_err()
    }

    #[test]
    fn a_handler_that_panics_says_nothing_of_its_request() {
        if std::env::var_os(PANICS).is_some() {
            println!("{:?}", panic_with(request_of_secrets()));
            return;
        }
        let name = "door::tests::a_handler_that_panics_says_nothing_of_its_request";
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args([name, "--exact", "--nocapture"]).env(PANICS, "1").env("RUST_BACKTRACE", "full");
        let output = test.output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(said[1].contains("panicked at") && said[1].contains("Request"), "{said:?}");
        assert!(said[0].contains("the handler failed"), "{said:?}");
        assert!(!said.concat().contains(MARK), "{said:?}");
    }

    #[test]
    fn the_answer_of_a_handler_that_panics_does_not_quote_the_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(handled(|| -> Result<(), ApiError> { panic!("{MARK}") })).unwrap_err();
        assert_eq!(error, ApiError::internal("the handler failed"));
    }
}
