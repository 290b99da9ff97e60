//! The tutorial's RPC server: Fibonacci numbers from `rpc_queue`, one at a time.
//!
//!     cargo run -p leveret-examples --bin tutorial_server

use leveret::{Client, Context, Failure};
use leveret_examples::broker_url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    // It computes, so it has a thread to itself; a function that waits would be a `leveret::handler`.
    let fibonacci = leveret::blocking(|_: Context, n: i64| match u64::try_from(n) {
        Ok(n) => Ok(fib(n)),
        Err(_) => Err(Failure::invalid_argument(format!("there is no fib({n})"))),
    });
    let worker = client.serve("rpc_queue", fibonacci).plain_queue().concurrency(1).start().await?;
    println!(" [x] Awaiting RPC requests");
    Ok(worker.run_until_signal().await?)
}

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}
