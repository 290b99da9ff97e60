//! The tutorial's RPC client: calls whoever serves `rpc_queue`, in whatever language.
//!
//!     cargo run -p leveret-examples --bin tutorial_client -- 30 7 -1

use std::time::Duration;

use leveret::{CallError, Client};
use leveret_examples::broker_url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    for argument in std::env::args().skip(1) {
        let n: i64 = argument.parse()?;
        println!(" [x] Requesting fib({n})");
        match client.call::<_, u64>("rpc_queue", &n).timeout(Duration::from_secs(10)).await {
            Ok(number) => println!(" [.] Got {number}"),
            // The server's own word, even if it is a Python script.
            Err(CallError::Remote(failure)) => println!(" [!] {}: {}", failure.code, failure.message),
            // Nobody serves, too late, connection lost: the error says which.
            Err(error) => return Err(error.into()),
        }
    }
    client.close().await;
    Ok(())
}
