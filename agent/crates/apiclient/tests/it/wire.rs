//! The network between client and server, which can fail.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of the connections that are there. New ones are always good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// They stay open and nothing passes, as when a router forgets them.
    Swallowed,
    /// They are reset.
    Cut,
}

pub struct Wire {
    pub address: SocketAddr,
    fate: Arc<watch::Sender<(u64, Fate)>>,
    accepting: JoinHandle<()>,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        Self::start(Some(server)).await
    }

    /// An HTTP proxy: goes where `CONNECT` says.
    pub async fn proxy() -> Self {
        Self::start(None).await
    }

    async fn start(server: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fate = Arc::new(watch::Sender::new((0, Fate::Good)));
        let sender = Arc::clone(&fate);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let mut fate = sender.subscribe();
                fate.mark_unchanged();
                connections.spawn(carry(client, server, fate));
            }
        });
        Self { address, fate, accepting }
    }

    /// Nothing passes any more on the connections that are there.
    pub fn swallow(&self) {
        self.set(Fate::Swallowed);
    }

    /// The connections that are there break.
    pub fn cut(&self) {
        self.set(Fate::Cut);
    }

    fn set(&self, fate: Fate) {
        self.fate.send_modify(|(count, now)| {
            *count += 1;
            *now = fate;
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: Option<SocketAddr>, mut fate: watch::Receiver<(u64, Fate)>) {
    let server = match server {
        Some(server) => server,
        None => connect_target(&mut client).await,
    };
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = fate.changed() => {
            let what = fate.borrow().1;
            match what {
                Fate::Swallowed => std::future::pending().await,
                Fate::Cut => drop(client.set_zero_linger()),
                Fate::Good => {}
            }
        }
    }
}

async fn connect_target(client: &mut TcpStream) -> SocketAddr {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await.unwrap());
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let request = String::from_utf8(request).unwrap();
    request.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().parse().unwrap()
}
