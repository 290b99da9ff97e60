//! Rabbits and warrens, the publisher: puts each argument into the sorting room as a letter for jason. Durable queue and
//! persistent letter: it survives a restart of the broker; and when the confirm is there, a power cut.
//!
//!     cargo run -p leveret-examples --bin sorting_room -- "dear jason" "write soon"

use leveret::Properties;
use leveret_client::{ConnectOptions, Connection, NotConfirmed, Publish};
use leveret_examples::broker_url;

const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::open(&ConnectOptions::parse(&broker_url())?).await?;
    let channel = connection.confirm_channel().await?;
    let properties = Properties {
        content_type: Some(b"text/plain".to_vec()),
        content_encoding: Some(b"utf-8".to_vec()),
        delivery_mode: Some(PERSISTENT),
        ..Properties::default()
    };
    for letter in std::env::args().skip(1) {
        let publish = Publish::new("sorting_room", "jason", letter.as_bytes());
        let confirm =
            channel.publish(&Publish { properties: &properties, mandatory: true, ..publish }).await?;
        match confirm.await {
            Ok(()) => println!("Safe: {letter}"),
            Err(NotConfirmed::Returned(_)) => println!("Nobody's: {letter}"),
            Err(error) => return Err(error.into()),
        }
    }
    connection.close().await;
    Ok(())
}
