//! One process of a site. An order and its request to the service are one database transaction: rolled back, nothing
//! leaves; committed, the relay carries it to the broker, whatever crashes in between. Answers come to a queue of this
//! process, beside whatever else it does. A title that begins with `!` is an order that fails half way.
//!
//!     cargo run -p leveret-examples --bin website -- shop.1 shop.db "Invoice 1" "!Invoice 2" "Invoice 3"

use std::error::Error;

use leveret::content::{Format, encode};
use leveret::outbox::{Message, Relay, sqlite};
use leveret::{Client, FieldTable};
use leveret_client::{Consume, Consumer, ExchangeDeclare, QueueDeclare};
use leveret_examples::{Task, broker_url};
use rusqlite::Connection;

const ORDERS: &str = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, title TEXT, pdf BLOB)";
const DELIVERED: &str = "UPDATE orders SET pdf = ?1 WHERE id = ?2 AND pdf IS NULL";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(queue), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("website QUEUE DATABASE TITLE…".into());
    };
    let client = Client::connect(&broker_url()).await?;
    let mut results = results(&client, &queue).await?;
    let mut database = Connection::open(&path)?;
    sqlite::create_table(&database)?;
    database.execute_batch(ORDERS)?;
    let relay = Relay::sqlite(&path, &client).start();
    let mut waiting = 0;
    for title in arguments {
        waiting += usize::from(order(&mut database, &queue, &title)?);
    }
    while waiting > 0 {
        let result = results.next().await.ok_or("the queue of results is gone")?;
        let properties = result.properties().to_properties();
        let order = String::from_utf8(properties.correlation_id.unwrap_or_default())?;
        waiting -= database.execute(DELIVERED, (&result.body[..], &order))?; // 0 if it came again
        result.ack();
        println!("order {order}: a PDF of {} octets", result.body.len());
    }
    relay.drain().await;
    client.close().await;
    Ok(())
}

/// Returns whether it was committed.
fn order(database: &mut Connection, queue: &str, title: &str) -> Result<bool, Box<dyn Error>> {
    let transaction = database.transaction()?;
    transaction.execute("INSERT INTO orders (title) VALUES (?1)", [title])?;
    let id = transaction.last_insert_rowid().to_string();
    let request = encode(Format::MessagePack, &Task { title: title.to_owned() })?;
    let message = Message::new("service.tasks", "service.my_template", request);
    sqlite::enqueue(&transaction, &message.reply_to(format!("service.results/{queue}"), id))?;
    if title.starts_with('!') {
        return Ok(false); // dropped, so rolled back: nobody ever ordered this
    }
    transaction.commit()?;
    Ok(true)
}

async fn results(client: &Client, queue: &str) -> Result<Consumer, Box<dyn Error>> {
    let channel = client.connection().await?.channel().await?;
    for exchange in ["service.tasks", "service.results"] {
        channel.declare_exchange(&ExchangeDeclare::durable(exchange, "direct")).await?;
    }
    channel.declare_queue(&QueueDeclare::exclusive(queue)).await?;
    channel.bind_queue(queue, "service.results", queue, FieldTable::new()).await?;
    Ok(channel.consume(&Consume::queue(queue)).await?)
}
