//! The Tokio shell around the broker: sockets, TLS, timers, committer, embedding.
