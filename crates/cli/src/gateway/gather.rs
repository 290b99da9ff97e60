//! `POST /gather/{exchange}/{key}`: one question to everybody who listens; their answers as one JSON array.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use leveret::{Gathered, Reply};
use serde_json::{Value, json};

use super::ask::{Circumstances, is_short, names};
use super::problem::Problem;
use super::query::Query;
use super::routes::Gateway;
use super::{body, json_response};
use crate::answer_json::{error_as_json, reply_as_json};

pub(super) async fn answer(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut names = names(&mut parts).await?.into_iter();
    let (exchange, key) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let query = Query::parse(parts.uri.query(), &["count", "silence", "method"])?;
    let (count, silence) = (query.count("count")?, query.time("silence")?);
    gateway.may_ask(&exchange, &key)?;
    let circumstances = Circumstances::read(&parts.headers, gateway.patience)?;
    let _permit = gateway.admit()?;
    let body = body::read(&parts.headers, body, gateway.body_max_bytes).await?;
    let payload = circumstances.payload(body);
    let mut gather =
        gateway.client.gather_raw::<Reply>(&exchange, &key, payload).timeout(circumstances.timeout);
    if let Some(count) = count {
        gather = gather.count(count);
    }
    if let Some(silence) = silence {
        gather = gather.silence(silence);
    }
    if let Some(method) = query.text("method") {
        is_short("method", method)?;
        gather = gather.method(method);
    }
    for (name, value) in circumstances.headers {
        gather = gather.header(name, value);
    }
    let answers: Value = gather.await?.iter().map(to_json).collect();
    Ok(json_response(&answers))
}

fn to_json(gathered: &Gathered<Reply>) -> Value {
    let mut told = match &gathered.answer {
        Ok(reply) => reply_as_json(reply, gathered.after),
        Err(error) => error_as_json(error, gathered.after),
    };
    told["from"] = json!(gathered.from);
    told
}
