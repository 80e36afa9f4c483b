//! A registry that does what a test says.

use crate::content::Content;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path with its query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What a server answers.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent; then comes what `after` says.
    pub cut: Option<usize>,
    pub after: After,
}

/// What comes after a cut body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The connection is closed.
    Close,
    /// Nothing, for ever.
    Stall,
    /// A byte now and then.
    Trickle,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, after: After::Close }
    }
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
    pub fn cut(mut self, bytes: usize, after: After) -> Self {
        (self.cut, self.after) = (Some(bytes), after);
        self
    }
    /// An error as registries write it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::new(status, body.to_string()).header("content-type", "application/json")
    }
}

type Hook = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// Ends with its value.
pub struct Server {
    pub addr: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves content; `hook` may answer otherwise.
    pub async fn start(content: Content, hook: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::listen(content, hook, None).await
    }

    pub async fn plain(content: Content) -> Self {
        Self::start(content, |_| None).await
    }

    /// The same with TLS.
    pub async fn tls(content: Content, config: rustls::ServerConfig) -> Self {
        Self::listen(content, |_| None, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(
        content: Content,
        hook: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((content, Box::new(hook) as Box<Hook>, Arc::clone(&log)));
        let task = tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let (content, hook, log) = &*shared;
                    match tls {
                        None => serve(stream, content, hook, log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, content, hook, log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, log, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How many requests had this in their target.
    pub fn asked(&self, part: &str) -> usize {
        self.requests().iter().filter(|request| request.target.contains(part)).count()
    }
}

/// One request a connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    content: &Content,
    hook: &Hook,
    log: &Mutex<Vec<Request>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 65_536 => head.push(byte),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let request = Request { target, headers };
    log.lock().unwrap().push(request.clone());
    let reply = hook(&request).unwrap_or_else(|| answer(content, request.path()));
    // The client may have gone: that is its right.
    let _ = send(&mut stream, &reply).await;
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "transfer-encoding") {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await?;
    let sent = reply.cut.unwrap_or(reply.body.len());
    stream.write_all(&reply.body[..sent]).await?;
    stream.flush().await?;
    match reply.after {
        _ if reply.cut.is_none() => {}
        After::Close => {}
        After::Stall => std::future::pending().await,
        After::Trickle => {
            for byte in &reply.body[sent..] {
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
            }
        }
    }
    stream.shutdown().await
}

/// What an honest registry answers to a path.
fn answer(content: &Content, path: &str) -> Reply {
    let Some(path) = path.strip_prefix("/v2/") else { return Reply::new(404, "page not found") };
    if let Some((kind, bytes)) = content.manifests.get(path) {
        return Reply::new(200, bytes.clone()).header("content-type", kind.clone());
    }
    match path.rsplit_once("/blobs/").and_then(|(_, digest)| content.blobs.get(digest)) {
        Some(bytes) => Reply::new(200, bytes.clone()),
        None if path.contains("/blobs/") => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}
