//! The management HTTP API of a broker, ours or RabbitMQ's, from the outside.
//!
//! ```text
//!   Path ─▶ Management ── one connection, kept ──▶ /api/…
//!             │  JSON out, JSON in                    │
//!             └── ManagementError ◀── 401, 404, 400 with the broker's reason, or nobody there
//! ```

mod address;
mod error;
mod flags;
mod link;
mod path;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

pub(crate) use address::ManagementAddress;
pub(crate) use error::ManagementError;
pub(crate) use flags::ManagementFlags;
use link::Link;
pub(crate) use path::Path;

/// A client of one management API. Requests go one after the other over one connection, which is opened when it is
/// needed and kept.
pub(crate) struct Management {
    address: ManagementAddress,
    /// Marked sensitive: no log shows it.
    authorization: HeaderValue,
    timeout: Duration,
    link: Link,
}

/// What a PUT has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// 201: it was not there before.
    Created,
    /// 204: it was there, and is now as it was sent.
    Replaced,
}

impl Management {
    /// A client that gives each request this time, from connecting to the end of the answer. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ManagementError::Address`]: the credentials or the files for TLS cannot be used.
    pub(crate) fn new(address: ManagementAddress, timeout: Duration) -> Result<Self, ManagementError> {
        let mut authorization = HeaderValue::from_str(&address.authorization())
            .map_err(|_| ManagementError::Address("these credentials fit no header".to_owned()))?;
        authorization.set_sensitive(true);
        let link = Link::new(&address)?;
        Ok(Self { address, authorization, timeout, link })
    }

    /// Whom this client asks, and as which user.
    pub(crate) fn address(&self) -> &ManagementAddress {
        &self.address
    }

    /// What is at a path, as [`Value`] or as a type that reads the fields it needs.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &Path) -> Result<T, ManagementError> {
        let (_, body) = self.ask(Method::GET, path, None).await?;
        parse(path, &body)
    }

    /// As [`get`](Self::get); `None` where the broker says 404.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for [`ManagementError::NotFound`].
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, ManagementError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(ManagementError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes, or replaces, what is at a path.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn put(&self, path: &Path, body: &Value) -> Result<Put, ManagementError> {
        let (status, _) = self.ask(Method::PUT, path, Some(body)).await?;
        Ok(if status == 201 { Put::Created } else { Put::Replaced })
    }

    /// What a PUT would do, or has done, in the words of the answer's body.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn put_for_answer(&self, path: &Path, body: &Value) -> Result<Value, ManagementError> {
        let (_, answer) = self.ask(Method::PUT, path, Some(body)).await?;
        parse(path, &answer)
    }

    /// The same of a DELETE.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn delete_for_answer(&self, path: &Path) -> Result<Value, ManagementError> {
        let (_, answer) = self.ask(Method::DELETE, path, None).await?;
        parse(path, &answer)
    }

    /// Lets something happen. The answer is [`Value::Null`] if it has no body.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn post(&self, path: &Path, body: &Value) -> Result<Value, ManagementError> {
        let (_, answer) = self.ask(Method::POST, path, Some(body)).await?;
        if answer.is_empty() { Ok(Value::Null) } else { parse(path, &answer) }
    }

    /// Removes what is at a path.
    ///
    /// # Errors
    /// Any but [`ManagementError::Address`].
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), ManagementError> {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &Path,
        body: Option<&Value>,
    ) -> Result<(u16, Bytes), ManagementError> {
        let request = self.request(method, path, body)?;
        let answer = timeout(self.timeout, self.link.send(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)));
        let (status, body) = answer
            .map_err(|reason| ManagementError::Unreachable { address: self.address.to_string(), reason })?;
        match ManagementError::of_status(status, &body) {
            // RabbitMQ's words for everything that is not there.
            Some(ManagementError::NotFound { reason }) if reason == "Not Found" => {
                Err(ManagementError::NotFound { reason: path.without_query().to_owned() })
            }
            Some(error) => Err(error),
            None => Ok((status, body)),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &Path,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, ManagementError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.prefix))
            .header(HOST, self.address.authority())
            .header(AUTHORIZATION, self.authorization.clone())
            // RabbitMQ has 406 for whoever wants JSON from a path that only takes and gives none.
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("leveret/", env!("CARGO_PKG_VERSION")));
        let body = body.map(Value::to_string).unwrap_or_default();
        request.body(Full::from(body)).map_err(|error| ManagementError::Address(error.to_string()))
    }
}

fn parse<T: DeserializeOwned>(path: &Path, body: &[u8]) -> Result<T, ManagementError> {
    serde_json::from_slice(body)
        .map_err(|error| ManagementError::Unreadable { path: path.to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
