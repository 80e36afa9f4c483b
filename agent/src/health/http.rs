//! A small HTTP/1 server: one answer a request, no bodies read.

use super::answer::Answer;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Connections of one listener at once; more of them wait to be accepted.
const CONNECTIONS_MAX: usize = 128;
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// After a connection could not be accepted (no descriptors left) the next is tried so much later.
const PAUSE: Duration = Duration::from_millis(200);
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Which packets an unspecified address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// Those of its own family.
    Own,
    /// Both, as Go listens on `0.0.0.0` and `::`.
    Both,
}

/// Something that listens. It and its connections are closed when this is dropped.
#[derive(Debug)]
pub(super) struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a port in the network namespace of the calling thread.
///
/// # Errors
/// The address is not the node's, or the port is taken.
pub(super) fn bind(address: SocketAddr, families: Families) -> io::Result<TcpListener> {
    let both = families == Families::Both && address.ip().is_unspecified();
    if both && let Ok(listener) = open((Ipv6Addr::UNSPECIFIED, address.port()).into(), false) {
        return Ok(listener);
    }
    // Without IPv6 in the kernel there is only one family.
    let address = if both { (Ipv4Addr::UNSPECIFIED, address.port()).into() } else { address };
    open(address, true)
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &only_v6)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers every request by its path, until the result is dropped.
pub(super) fn serve(listener: TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Listening {
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(err = %error, "health check not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let answer = Arc::clone(&answer);
            connections.spawn(async move {
                let respond = service_fn(|request: Request<Incoming>| {
                    let response = response(answer(request.uri().path()));
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(IDLE).title_case_headers(true);
                // A client that goes away has its answer or wants none.
                let _ = server.serve_connection(TokioIo::new(stream), respond).await;
                drop(permit);
            });
        }
    });
    Listening(task.abort_handle())
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(weight) = answer.weight {
        headers.insert(WEIGHT, HeaderValue::from(weight));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn get(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn answers_until_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let listener = bind("127.0.0.1:0".parse().unwrap(), Families::Own).unwrap();
        let address = listener.local_addr().unwrap();
        let key = orlop_model::ServiceKey::new("a", "b").unwrap();
        let serving = serve(listener, move |path| super::super::answer::service(&key, path.len() as u32, true));
        let text = get(address, "/12").unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for header in [
            "Content-Type: application/json",
            "X-Content-Type-Options: nosniff",
            "X-Load-Balancing-Endpoint-Weight: 3",
            &format!("Content-Length: {}", body.len()),
        ] {
            assert!(head.to_lowercase().lines().any(|line| line == header.to_lowercase()), "{header} in {head}");
        }
        // An open connection does not keep the port.
        let _idle = TcpStream::connect(address).unwrap();
        drop(serving);
        let closed = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            bind(address, Families::Own).is_ok()
        });
        assert!(closed);
        drop(guard);
    }

    #[test]
    fn an_unspecified_address_is_for_one_family_or_both() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let both = bind("0.0.0.0:0".parse().unwrap(), Families::Both).unwrap();
        assert!(both.local_addr().unwrap().is_ipv6());
        let v4 = bind("0.0.0.0:0".parse().unwrap(), Families::Own).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = bind((Ipv6Addr::UNSPECIFIED, port).into(), Families::Own).unwrap();
        assert_eq!(v6.local_addr().unwrap().port(), port);
    }
}
