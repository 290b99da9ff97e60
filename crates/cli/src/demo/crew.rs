//! The workers of a story, made with the toolkit. Each crew has a thread, a runtime and a connection of its own: nothing
//! is shared with those who ask but the broker, as if it were another process.

use std::thread;

use anyhow::{Context, Result};
use leveret::{Client, ServeError, Worker};
use tokio::sync::oneshot;

/// Workers that serve until they are dismissed or dropped.
pub(super) struct Crew {
    /// How each signs its answers.
    pub(super) names: Vec<String>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// Starts workers and waits until they take requests.
pub(super) async fn hire<F, Fut>(url: String, begin: F) -> Result<Crew>
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Vec<Worker>, ServeError>>,
{
    let (began, beginning) = oneshot::channel();
    let (stop, stopping) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name("crew".to_owned()).spawn(move || {
        runtime.block_on(async {
            match start(&url, begin).await {
                Ok((client, workers)) => {
                    let _ = began.send(Ok(workers.iter().map(name).collect()));
                    serve(client, workers, stopping).await;
                }
                Err(error) => drop(began.send(Err(error))),
            }
        });
    })?;
    let names = beginning.await.context("a crew ended before it began")??;
    Ok(Crew { names, stop, thread })
}

impl Crew {
    /// Lets the workers finish what they have begun.
    pub(super) async fn dismiss(self) -> Result<()> {
        let Self { stop, thread, .. } = self;
        drop(stop);
        let ended = tokio::task::spawn_blocking(move || thread.join().is_ok()).await?;
        anyhow::ensure!(ended, "a crew panicked");
        Ok(())
    }
}

async fn start<Fut>(url: &str, begin: impl FnOnce(Client) -> Fut) -> Result<(Client, Vec<Worker>)>
where
    Fut: Future<Output = Result<Vec<Worker>, ServeError>>,
{
    let client = Client::connect(url).await?;
    let workers = begin(client.clone()).await?;
    Ok((client, workers))
}

async fn serve(client: Client, workers: Vec<Worker>, stopping: oneshot::Receiver<()>) {
    // Nobody sends anything: the other end is dropped.
    let _ = stopping.await;
    for worker in workers {
        worker.drain().await;
    }
    client.close().await;
}

fn name(worker: &Worker) -> String {
    format!("{}/{}", worker.service(), worker.id())
}
