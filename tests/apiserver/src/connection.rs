//! Connections: TLS, and a door that can be shut.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use crate::auth::{User, user_of};
use crate::cluster::Core;
use crate::{controllers, http};

/// Where requests come in.
pub(crate) struct Door {
    pub(crate) core: Arc<Core>,
    pub(crate) opened: watch::Receiver<Option<Arc<TcpListener>>>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// The serving configuration: its own certificate, optional client certificates, ALPN.
pub(crate) fn tls(core: &Core, address: SocketAddr) -> Arc<ServerConfig> {
    let mut names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    names.push(address.ip().to_string());
    names.extend(core.options.names.iter().cloned());
    let (certificate, key) = core.authority.serving(names).expect("a serving certificate");
    let mut roots = RootCertStore::empty();
    roots.add(core.authority.der()).expect("the authority is a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .expect("client certificates of the own authority");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring does TLS 1.2 and 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .expect("the certificate fits its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Serves until the other end of the door is dropped.
pub(crate) async fn serve(mut door: Door) {
    let upkeep = tokio::spawn(controllers::run(Arc::clone(&door.core)));
    loop {
        let listener = door.opened.borrow_and_update().clone();
        let opened = door.opened.clone();
        let accepting = async {
            let Some(listener) = listener else { return std::future::pending().await };
            // A listener that was shut down meanwhile fails here or at its accept.
            let again = listener.try_clone().and_then(tokio::net::TcpListener::from_std);
            let Ok(listener) = again else { return std::future::pending().await };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shared = (Arc::clone(&door.core), opened.clone());
                        drop(tokio::spawn(connection(shared, door.tls.clone(), stream)));
                    }
                    Err(_) => return std::future::pending().await,
                }
            }
        };
        tokio::select! {
            changed = door.opened.changed() => if changed.is_err() { break },
            () = accepting => {}
        }
    }
    door.core.faults.close_connections();
    upkeep.abort();
}

/// The server, and whether it is open.
type Shared = (Arc<Core>, watch::Receiver<Option<Arc<TcpListener>>>);

async fn connection((core, opened): Shared, tls: Option<Arc<ServerConfig>>, stream: TcpStream) {
    let mut closings = core.faults.closings();
    // Accepted just before a stop that it has not heard of.
    if opened.borrow().is_none() {
        return;
    }
    let _ = stream.set_nodelay(true);
    let stream = Gated { stream, core: Arc::clone(&core) };
    let cut = Arc::new(Notify::new());
    let talk = async {
        match tls {
            Some(config) => {
                // Who speaks no TLS, or another certificate, is gone; the client knows why.
                let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                let certificates = stream.get_ref().1.peer_certificates();
                let user = certificates.and_then(|chain| chain.first()).and_then(user_of);
                talk_http(&core, TokioIo::new(stream), user, &cut).await;
            }
            None => talk_http(&core, TokioIo::new(stream), None, &cut).await,
        }
    };
    tokio::select! {
        () = talk => {}
        _ = closings.changed() => {}
        () = cut.notified() => {}
    }
}

async fn talk_http<I>(core: &Arc<Core>, io: I, user: Option<User>, cut: &Arc<Notify>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service =
        hyper::service::service_fn(|request| http::answer(Arc::clone(core), user.clone(), Arc::clone(cut), request));
    // An error here is the client's going away, or a fault's doing.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
}

/// A stream that stands still while the server is frozen.
struct Gated {
    stream: TcpStream,
    core: Arc<Core>,
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.core.faults.holds_back(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.core.faults.holds_back(cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
