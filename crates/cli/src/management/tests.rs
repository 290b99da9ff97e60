//! Against a server that says what it is told to.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers each request with the next text, all over one connection or each over its own; returns what was asked.
async fn server(answers: Vec<String>, hangs_up: bool) -> (Management, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:secret@{}/mq", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        let mut answers = answers.into_iter();
        while answers.len() > 0 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut octets = vec![0; 65_536]; // a request of these tests is one piece
            loop {
                let count = stream.read(&mut octets).await.unwrap();
                if count == 0 {
                    break;
                }
                let Some(answer) = answers.next() else { break };
                asked.push(String::from_utf8(octets[..count].to_vec()).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
                if hangs_up {
                    break;
                }
            }
        }
        asked
    });
    let address = ManagementAddress::parse(&url).unwrap();
    (Management::new(address, Duration::from_secs(5)).unwrap(), asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn requests_share_a_connection() {
    let answers =
        vec![answer("200 OK", r#"{"messages":3}"#), answer("201 Created", ""), answer("204 No Content", "")];
    let (management, asked) = server(answers, false).await;
    let path = Path::of(&["queues", "/", "q"]);
    assert_eq!(management.get::<Value>(&path).await.unwrap()["messages"], 3);
    assert_eq!(management.put(&path, &json!({"durable": true})).await.unwrap(), Put::Created);
    management.delete(&path).await.unwrap();
    drop(management);
    let asked = asked.await.unwrap();
    assert!(asked[0].starts_with("GET /mq/api/queues/%2f/q HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Basic bWU6c2VjcmV0\r\n"), "{}", asked[0]);
    assert!(asked[1].ends_with("\r\n\r\n{\"durable\":true}"), "{}", asked[1]);
    assert!(asked[2].starts_with("DELETE "), "{}", asked[2]);
}

#[tokio::test]
async fn a_server_that_hangs_up_after_each_answer_is_called_again() {
    let answers = vec![answer("200 OK", "1"), answer("200 OK", "2"), answer("200 OK", "3")];
    let (management, asked) = server(answers, true).await;
    let path = Path::of(&["overview"]);
    for expected in 1..=3 {
        assert_eq!(management.get::<u32>(&path).await.unwrap(), expected);
    }
    drop(management);
    assert_eq!(asked.await.unwrap().len(), 3);
}

#[tokio::test]
async fn errors_say_whose_they_are() {
    let reason = r#"{"error":"x","reason":"words"}"#;
    let answers = ["401 Unauthorized", "404 Not Found", "400 Bad Request", "503 Service Unavailable"];
    let mut answers: Vec<String> = answers.iter().map(|status| answer(status, reason)).collect();
    answers.push(answer("200 OK", "<html>"));
    let (management, _asked) = server(answers, false).await;
    let path = Path::of(&["x"]);
    let words = "words".to_owned();
    let expected = [
        ManagementError::Unauthorized { reason: words.clone() },
        ManagementError::NotFound { reason: words.clone() },
        ManagementError::Refused { status: 400, reason: words.clone() },
        ManagementError::Failed { status: 503, reason: words },
    ];
    for expected in expected {
        assert_eq!(management.get::<Value>(&path).await.unwrap_err(), expected);
    }
    let error = management.get::<Value>(&path).await.unwrap_err();
    assert!(matches!(error, ManagementError::Unreadable { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_found_to_be_missing() {
    let (management, _asked) = server(vec![answer("404 Not Found", ""), answer("200 OK", "7")], false).await;
    let path = Path::of(&["x"]);
    assert_eq!(management.find::<u32>(&path).await.unwrap(), None);
    assert_eq!(management.find::<u32>(&path).await.unwrap(), Some(7));
}

#[tokio::test]
async fn nobody_there_is_said_without_the_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:canary@{}", listener.local_addr().unwrap());
    drop(listener);
    let management =
        Management::new(ManagementAddress::parse(&url).unwrap(), Duration::from_secs(5)).unwrap();
    let error = management.get::<Value>(&Path::of(&["overview"])).await.unwrap_err();
    assert!(matches!(error, ManagementError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let management =
        Management::new(ManagementAddress::parse(&url).unwrap(), Duration::from_millis(50)).unwrap();
    let error = management.get::<Value>(&Path::of(&["overview"])).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 50ms"), "{error}");
}

/// The server proves that it is the host of the address, to those who trust its certificate.
#[tokio::test]
async fn https_is_spoken_to_whom_the_address_trusts() {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let acceptor = TlsAcceptor::from(leveret_server::load_tls(&chain, &key, provider).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut octets = [0; 4_096];
            while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {
                stream.write_all(answer("200 OK", "7").as_bytes()).await.unwrap();
            }
        }
    });
    let trusted = format!("https://localhost:{port}?cacertfile={}", chain.display());
    let other_name = format!("https://127.0.0.1:{port}?cacertfile={}", chain.display());
    for (url, expected) in [(trusted, Ok(7)), (other_name, Err("TLS: "))] {
        let management =
            Management::new(ManagementAddress::parse(&url).unwrap(), Duration::from_secs(5)).unwrap();
        match (management.get::<u32>(&Path::of(&["x"])).await, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (got, expected) => panic!("{url}: {got:?}, expected {expected:?}"),
        }
    }
}
