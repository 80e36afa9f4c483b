//! Carries out HTTP and TCP probes as the kubelet does: one connection each, no
//! proxy, TLS certificates not verified, redirects followed only on the same host.
//! When to probe and what a result means is decided in `orlop-pod`; exec probes go
//! through the pod's monitor.
#![forbid(unsafe_code)]

use orlop_model::HttpScheme;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use std::net::IpAddr;
use std::sync::Once;
use std::time::Duration;
use tokio::net::TcpStream;

/// Redirects followed, as Go's client does.
const REDIRECTS_MAX: usize = 10;

/// Why a probe did not succeed, in the kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// A status outside 200 to 399.
    #[error("HTTP probe failed with statuscode: {0}")]
    Status(u16),
    /// No answer at all.
    #[error("Get \"{url}\": {problem}")]
    Get {
        /// What was asked for.
        url: String,
        /// What happened.
        problem: String,
    },
    /// No connection.
    #[error("dial tcp {to}: {problem}")]
    Dial {
        /// Address and port.
        to: String,
        /// What happened.
        problem: String,
    },
    /// The probe itself makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// One GET.
#[derive(Debug, Clone)]
pub struct Get<'a> {
    /// http or https.
    pub scheme: HttpScheme,
    /// Name or address to connect to.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: &'a str,
    /// Headers; a `Host` replaces the one made of host and port.
    pub headers: &'a [(String, String)],
}

/// Succeeds on a status from 200 to 399.
///
/// # Errors
/// [`ProbeFailure`], worded as the kubelet words it.
pub async fn http(get: &Get<'_>, timeout: Duration) -> Result<(), ProbeFailure> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that one is installed, which is what we want.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let url = url(get);
    let failure = |problem: String| ProbeFailure::Get { url: url.clone(), problem };
    let client = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .pool_max_idle_per_host(0)
        .timeout(timeout)
        .redirect(same_host_only())
        .build()
        .map_err(|error| failure(chain(&error)))?;
    let request = client.get(&url).headers(headers(get.headers)?);
    let response = request.send().await.map_err(|error| {
        let waited = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        failure(if error.is_timeout() { waited.to_owned() } else { chain(&error) })
    })?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(ProbeFailure::Status(status)),
    }
}

/// Succeeds when the connection is accepted.
///
/// # Errors
/// [`ProbeFailure::Dial`].
pub async fn tcp(host: &str, port: u16, timeout: Duration) -> Result<(), ProbeFailure> {
    let problem = match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => format!("connect: {error}"),
        Err(_) => "i/o timeout".to_owned(),
    };
    Err(ProbeFailure::Dial { to: authority(host, port), problem })
}

/// A redirect to another host counts as an answer, because a probe must not be
/// talked into asking somebody else (kubernetes/kubernetes pkg/probe/http).
fn same_host_only() -> Policy {
    Policy::custom(|attempt| {
        let first = attempt.previous().first().and_then(|url| url.host_str().map(str::to_owned));
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("stopped after 10 redirects")
        } else if attempt.url().host_str().map(str::to_owned) == first {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

fn url(get: &Get<'_>) -> String {
    let scheme = match get.scheme {
        HttpScheme::Http => "http",
        HttpScheme::Https => "https",
    };
    let slash = if get.path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{}", authority(get.host, get.port), get.path)
}

fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{host}:{port}"),
    }
}

fn headers(wanted: &[(String, String)]) -> Result<HeaderMap, ProbeFailure> {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("kube-probe/1.36"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("connection", HeaderValue::from_static("close"));
    for (name, value) in wanted {
        let invalid = |what: &str| ProbeFailure::Invalid(format!("httpHeaders: {what} of {name:?} is not valid HTTP"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("the name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| invalid("the value"))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

/// The innermost cause says most: the URL is known and the layers between are ours.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PATIENT: Duration = Duration::from_secs(10);

    /// Answers one connection after the other; returns the port.
    async fn serve(answers: Vec<&'static str>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2048];
                let length = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
                assert!(text.contains("user-agent: kube-probe/"), "{text}");
                let answer = answer.replace("PORT", &port.to_string());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn get(port: u16, timeout: Duration) -> Result<(), ProbeFailure> {
        let get = Get { scheme: HttpScheme::Http, host: "127.0.0.1", port, path: "/healthz", headers: &[] };
        http(&get, timeout).await
    }

    #[tokio::test]
    async fn statuses() {
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 399 Odd\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", Err(ProbeFailure::Status(404))),
            ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", Err(ProbeFailure::Status(503))),
        ] {
            let port = serve(vec![answer]).await;
            assert_eq!(get(port, PATIENT).await, want);
        }
    }

    #[tokio::test]
    async fn redirects_stay_on_the_host() {
        let there = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PORT/other\r\ncontent-length: 0\r\n\r\n";
        let bad = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(get(serve(vec![there, bad]).await, PATIENT).await, Err(ProbeFailure::Status(500)));
        let elsewhere = "HTTP/1.1 302 Found\r\nlocation: http://203.0.113.1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(get(serve(vec![elsewhere]).await, PATIENT).await, Ok(()));
    }

    #[tokio::test]
    async fn refused_and_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = get(port, Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(silent.contains("Client.Timeout exceeded"), "{silent}");
        tcp("127.0.0.1", port, PATIENT).await.unwrap();
        drop(listener);
        let refused = get(port, PATIENT).await.unwrap_err().to_string();
        assert!(refused.starts_with("Get \"http://127.0.0.1:") && refused.contains("refused"), "{refused}");
        let refused = tcp("127.0.0.1", port, PATIENT).await.unwrap_err().to_string();
        assert!(refused.starts_with("dial tcp 127.0.0.1:") && refused.contains("refused"), "{refused}");
    }

    #[test]
    fn urls() {
        let get = |host, path| Get { scheme: HttpScheme::Https, host, port: 8443, path, headers: &[] };
        assert_eq!(url(&get("fd00::1", "x?y=1")), "https://[fd00::1]:8443/x?y=1");
        assert_eq!(url(&get("example", "/")), "https://example:8443/");
    }

    #[test]
    fn a_header_that_is_none_is_named() {
        let error = headers(&[("a b".to_owned(), "c".to_owned())]).unwrap_err();
        assert!(error.to_string().contains("\"a b\""));
    }
}
