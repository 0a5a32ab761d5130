//! A machine in the middle: it records what passes between a client and the broker, and can flip a byte
//! of it or send a part of it again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the middle does to the bytes that the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddling {
    /// It only listens.
    Record,
    /// It flips one bit in the last byte of the next piece.
    Flip,
    /// It sends the next piece twice.
    Resend,
}

/// A proxy for one connection at a time.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    meddling: watch::Sender<Meddling>,
    recorded: Arc<Mutex<Recorded>>,
    task: tokio::task::JoinHandle<()>,
}

/// All that passed, in each direction.
#[derive(Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_broker: Vec<u8>,
}

impl Recorded {
    /// Whether a text stands anywhere in what passed.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let found = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        found(&self.from_client) || found(&self.from_broker)
    }
}

impl Proxy {
    /// Listens on a free port and passes everything on to `broker`.
    pub(crate) async fn start(broker: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (meddling, orders) = watch::channel(Meddling::Record);
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let store = recorded.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(upstream) = TcpStream::connect(broker).await else { return };
                tokio::spawn(pass(client, upstream, orders.clone(), store.clone()));
            }
        });
        Ok(Self { address, meddling, recorded, task })
    }

    /// What is done from the next piece on.
    pub(crate) fn meddle(&self, meddling: Meddling) {
        self.meddling.send_replace(meddling);
    }

    /// What has passed so far.
    pub(crate) fn recorded(&self) -> Recorded {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    client: TcpStream,
    broker: TcpStream,
    orders: watch::Receiver<Meddling>,
    store: Arc<Mutex<Recorded>>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let up_store = store.clone();
    let up = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let Some(piece) = buffer.get_mut(..length) else { return };
            up_store.lock().unwrap_or_else(PoisonError::into_inner).from_client.extend_from_slice(piece);
            let order = *orders.borrow();
            if order == Meddling::Flip
                && let Some(last) = piece.last_mut()
            {
                *last ^= 1;
            }
            for _ in 0..=usize::from(order == Meddling::Resend) {
                if to_broker.write_all(piece).await.is_err() {
                    return;
                }
            }
        }
        let _ = to_broker.shutdown().await;
    };
    let down = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length @ 1..) = from_broker.read(&mut buffer).await {
            let Some(piece) = buffer.get(..length) else { return };
            store.lock().unwrap_or_else(PoisonError::into_inner).from_broker.extend_from_slice(piece);
            if to_client.write_all(piece).await.is_err() {
                return;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}
