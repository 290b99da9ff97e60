//! Rabbits and warrens, the consumer: declares its box and the sorting room, and reads its letters.
//!
//!     cargo run -p leveret-examples --bin po_box -- 3       so many letters, then it ends

use leveret::FieldTable;
use leveret_client::{ConnectOptions, Connection, Consume, ExchangeDeclare, QueueDeclare};
use leveret_examples::broker_url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let letters: usize = std::env::args().nth(1).map_or(Ok(usize::MAX), |text| text.parse())?;
    // The virtual host is the path of the URL: queues and exchanges of other warrens do not exist here.
    let connection = Connection::open(&ConnectOptions::parse(&broker_url())?).await?;
    let channel = connection.channel().await?;
    channel.declare_queue(&QueueDeclare::durable("po_box")).await?;
    channel.declare_exchange(&ExchangeDeclare::durable("sorting_room", "direct")).await?;
    channel.bind_queue("po_box", "sorting_room", "jason", FieldTable::new()).await?;

    let mut received = 0;
    if let Some(letter) = channel.get("po_box", false).await? {
        println!("Got: {}", String::from_utf8_lossy(&letter.body));
        letter.ack();
        received += 1;
    }
    channel.prefetch(1).await?;
    let mut box_ = channel.consume(&Consume::queue("po_box")).await?;
    println!("waiting");
    while received < letters {
        let letter = box_.next().await.ok_or("the box was taken away")?;
        println!("Received: {}", String::from_utf8_lossy(&letter.body));
        letter.ack();
        received += 1;
    }
    connection.close().await;
    Ok(())
}
