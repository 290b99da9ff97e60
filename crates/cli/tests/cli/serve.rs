use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::{Server, check, leveret, run};

/// The names below a directory and the octets behind them, sorted.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .flat_map(|path| match path.is_dir() {
            true => contents(&path),
            false => vec![(path.display().to_string(), fs::read(&path).unwrap())],
        })
        .collect();
    found.sort();
    found
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_line_per_listener_and_a_clean_end() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&directory.path().join("data"), &["--listen", "localhost:0"]);
        for _ in 0..2 {
            let line = server.line();
            let port = line.strip_prefix("amqp://127.0.0.1:").and_then(|port| port.parse::<u16>().ok());
            assert!(port.is_some_and(|port| port > 0), "{line}");
        }
        server.signal(signal);
        let (code, stderr) = server.wait();
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("serve: ready"), "{stderr}");
    }
}

#[test]
fn what_is_wrong_with_flags_and_files_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let file = directory.path().join("leveret.toml");
    fs::write(&file, "heartbeat_s = 5\n\nheartbeet_s = 5\n").unwrap();
    let missing = directory.path().join("missing.toml");
    let serve = |more: &[&str], words: &str| {
        let start = ["serve", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        check(&[&start[..], more].concat(), 2, words);
        assert!(!data.exists(), "nothing was opened");
    };
    serve(&["--nonsense"], "--nonsense");
    serve(&["--config", text(&file)], "leveret.toml:3: unknown key \"heartbeet_s\"; allowed: data_dir, ");
    serve(&["--config", text(&missing)], "missing.toml: No such file");
    serve(
        &["--set", "frame_max_bytes=1"],
        "frame_max_bytes cannot be \"1\"; allowed: 4096 to 16777216 octets",
    );
    serve(&["--listen", "nowhere"], "listen cannot be \"127.0.0.1:0, nowhere\"; allowed: HOST:PORT");
    serve(&["--log", "loud"], "log cannot be \"loud\"");
    serve(&["--tls-cert", "x"], "TLS also needs tls_key");

    let mut command = leveret(&["serve", "--data-dir", text(&data)]);
    command.env("LEVERET_HEARTBEET_S", "5");
    let ended = run(command, b"");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("LEVERET_HEARTBEET_S: unknown key"), "{}", ended.stderr);
}

#[test]
fn a_directory_that_is_not_ours_to_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut first = Server::start(&data, &[]);
    first.line();
    let serve = |path: &Path, words: &str| {
        let flags = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", text(path)];
        let ended = check(&flags, 1, words);
        assert!(ended.stderr.contains(text(path)) && ended.stdout.is_empty(), "{ended:?}");
    };
    serve(&data, "in use");
    first.signal("TERM");
    assert_eq!(first.wait().0, Some(0), "the one that uses it does not mind");

    let serve = |path: &Path, words: &str| {
        let before = contents(path);
        serve(path, words);
        assert!(contents(path) == before, "{words}: something was changed");
    };

    let foreign = directory.path().join("holiday");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("beach.jpg"), "sand").unwrap();
    serve(&foreign, "beach.jpg");

    let mut format = fs::read(data.join("FORMAT")).unwrap();
    format[8] = 99; // the version, see docs/format.md
    fs::write(data.join("FORMAT"), format).unwrap();
    serve(&data, "format 99");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = std::net::TcpListener::bind(taken).unwrap();
    let (data, address) = (directory.path().join("data"), held.local_addr().unwrap().to_string());
    check(&["serve", "--data-dir", text(&data), "--http", "127.0.0.1:0", "--listen", &address], 1, &address);
}

#[test]
fn a_reload_takes_the_new_certificate_and_names_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let write_certificate = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    write_certificate();
    let file = directory.path().join("leveret.toml");
    fs::write(&file, "heartbeat_s = 10\nresident_bytes = 10\n").unwrap();
    let flags = ["--listen-tls", "127.0.0.1:0", "--tls-cert", text(&chain), "--tls-key", text(&key)];
    let flags = [&flags[..], &["--config", text(&file)]].concat();
    let mut server = Server::start(&directory.path().join("data"), &flags);
    assert!(server.line().starts_with("amqp://"));
    let tls = server.line();
    let address = tls.strip_prefix("amqps://").unwrap_or_else(|| panic!("{tls}")).to_owned();
    let first = tls_certificate(&address);
    write_certificate();
    fs::write(&file, "heartbeat_s = 20\nresident_bytes = 20\nlog_format = \"json\"\n").unwrap();
    assert_eq!(tls_certificate(&address), first, "not before it is asked for");
    server.signal("HUP");
    while tls_certificate(&address) == first {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.signal("TERM");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("certificate reloaded"), "{stderr}");
    assert!(stderr.contains("\"changed\":\"log_format, heartbeat_s\""), "{stderr}");
    assert!(stderr.contains("next start") && stderr.contains("\"keys\":\"resident_bytes\""), "{stderr}");
}

#[test]
fn a_reload_changes_everything_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    fs::write(&file, "connections_max = 100\n").unwrap();
    let mut server = Server::start(&directory.path().join("data"), &["--config", text(&file)]);
    let address = server.line().replace("amqp://", "");
    // The protocol header is answered, unless there are too many connections.
    let is_answered = || {
        let mut socket = std::net::TcpStream::connect(&address).unwrap();
        socket.write_all(b"AMQP\0\0\x09\x01").unwrap();
        socket.read(&mut [0; 8]).is_ok_and(|count| count > 0)
    };
    assert!(is_answered());
    let held = std::net::TcpStream::connect(&address).unwrap();
    fs::write(&file, "connections_max = 1\nheartbeat_s = 'soon'\n").unwrap();
    server.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_answered(), "half of a wrong file was taken");
    fs::write(&file, "connections_max = 1\n").unwrap();
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_answered() {
        assert!(Instant::now() < deadline, "the new limit is not in force");
    }
    drop(held);
    server.signal("TERM");
    let (_, stderr) = server.wait();
    assert!(
        stderr.contains("nothing reloaded") && stderr.contains("leveret.toml:2: heartbeat_s"),
        "{stderr}"
    );
}

/// The certificate that a listener shows, whatever it is worth.
fn tls_certificate(address: &str) -> Vec<u8> {
    let trust = trust_anything::client_config();
    let mut session = rustls::ClientConnection::new(trust, "localhost".try_into().unwrap()).unwrap();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    session.complete_io(&mut socket).unwrap();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// A TLS client that looks at nothing: only what the server shows matters here.
mod trust_anything {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Anything;

    pub(super) fn client_config() -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        Arc::new(config)
    }

    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
