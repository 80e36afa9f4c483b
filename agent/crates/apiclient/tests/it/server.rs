//! An HTTP/1.1 and HTTP/2 server that answers by script.

use crate::tls::ServerTls;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use orlop_apiclient::Settings;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// As a kube-apiserver has it.
const STREAMS_PER_CONNECTION: u32 = 100;

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method, path and query.
    pub label: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    pub http2: bool,
    /// Counts the connections.
    pub connection: usize,
    /// The certificate that the client showed, DER.
    pub certificate: Option<Vec<u8>>,
}

/// What it says.
pub enum Answer {
    /// Status, headers, body.
    Whole(u16, Vec<(&'static str, String)>, Bytes),
    /// 200 and a body that the test writes; an error breaks it off.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
    /// Nothing, ever.
    Silence,
    /// The connection breaks before an answer.
    Reset,
}

impl Answer {
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Whole(200, Vec::new(), Bytes::from(body.into()))
    }

    pub fn no(code: u16, body: impl Into<String>) -> Self {
        Self::Whole(code, Vec::new(), Bytes::from(body.into()))
    }

    /// A stream that says this and stays open as long as the sender lives.
    pub fn stream(pieces: &[String]) -> (Self, Stream) {
        let (sender, receiver) = mpsc::channel(64);
        for piece in pieces {
            sender.try_send(Ok(Bytes::from(piece.clone()))).unwrap();
        }
        (Self::Stream(receiver), Stream(sender))
    }

    /// A stream that says this and ends in order.
    pub fn ended(pieces: &[String]) -> Self {
        Self::stream(pieces).0
    }
}

/// Writes an answer's body bit by bit.
pub struct Stream(mpsc::Sender<io::Result<Bytes>>);

impl Stream {
    pub fn say(&self, text: impl Into<String>) {
        self.0.try_send(Ok(Bytes::from(text.into()))).unwrap();
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Breaks the body off.
    pub fn reset(self) {
        self.0.try_send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
}

/// The server; ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    tls: bool,
}

impl Server {
    /// Answers as the handler wants.
    pub async fn start(tls: Option<ServerTls>, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, handler)
    }

    fn on(
        listener: TcpListener,
        tls: Option<ServerTls>,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { handler: Box::new(handler), asked: Mutex::default() });
        let with_tls = tls.is_some();
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, accepting, tls: with_tls }
    }

    /// Answers one request after the other; each must contain the text. Silence after the last.
    pub async fn script(tls: Option<ServerTls>, script: Vec<(&'static str, Answer)>) -> Self {
        Self::start(tls, scripted(script)).await
    }

    /// The same at an address of the test's choice.
    pub fn script_on(listener: TcpListener, script: Vec<(&'static str, Answer)>) -> Self {
        Self::on(listener, None, scripted(script))
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    pub fn settings(&self) -> Settings {
        Settings::new(self.url())
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    pub async fn asked_times(&self, times: usize) -> Vec<Asked> {
        crate::soon(&format!("request {times}"), async {
            loop {
                let asked = self.asked();
                if asked.len() >= times {
                    return asked;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

fn scripted(script: Vec<(&'static str, Answer)>) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let script = Mutex::new(VecDeque::from(script));
    move |asked| match script.lock().unwrap().pop_front() {
        Some((wanted, answer)) if asked.label.contains(wanted) => answer,
        Some((wanted, _)) => {
            let problem = format!("test script: wanted {wanted}, was asked {}", asked.label);
            eprintln!("{problem}");
            Answer::no(418, problem)
        }
        None => Answer::Silence,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<ServerTls>, shared: Arc<Shared>) {
    // Aborted with us.
    let mut connections = JoinSet::new();
    let mut count = 0;
    while let Ok((stream, _)) = listener.accept().await {
        count += 1;
        let (tls, shared, connection) = (tls.clone(), Arc::clone(&shared), count);
        connections.spawn(async move {
            match tls {
                None => serve(stream, shared, connection, None).await,
                Some(tls) => {
                    let Ok(stream) = tls.acceptor().accept(stream).await else { return };
                    let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
                    serve(stream, shared, connection, certificate).await;
                }
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    connection: usize,
    certificate: Option<Vec<u8>>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_PER_CONNECTION);
    let service = service_fn(move |request| {
        let (shared, certificate) = (Arc::clone(&shared), certificate.clone());
        async move { answer(&shared, request, connection, certificate).await }
    });
    // A broken connection is what some tests are about.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn answer(
    shared: &Shared,
    request: hyper::Request<Incoming>,
    connection: usize,
    certificate: Option<Vec<u8>>,
) -> io::Result<hyper::Response<Body>> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let label = format!("{} {}{query}", request.method(), request.uri().path());
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let http2 = request.version() == hyper::Version::HTTP_2;
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let asked = Asked { label, headers, body, http2, connection, certificate };
    let answer = (shared.handler)(&asked);
    shared.asked.lock().unwrap().push(asked);
    let (code, headers, body): (_, _, Body) = match answer {
        Answer::Whole(code, headers, body) => (code, headers, whole(body)),
        Answer::Stream(pieces) => (200, Vec::new(), streamed(pieces)),
        Answer::Silence => std::future::pending().await,
        Answer::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    let mut response = hyper::Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).map_err(io::Error::other)
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|error: Infallible| match error {}).boxed_unsync()
}

fn streamed(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let stream = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    StreamBody::new(stream.map(|piece| piece.map(Frame::data))).boxed_unsync()
}
