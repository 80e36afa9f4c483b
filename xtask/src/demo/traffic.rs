//! Requests and what came back.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The page is one line; a longer answer is not ours.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Answers, counted by their text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    counts: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Answers {
    /// Adds one request's outcome.
    pub fn add(&mut self, outcome: Result<String>) {
        match outcome {
            Ok(text) => *self.counts.entry(text).or_default() += 1,
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// An error unless this many requests were answered, all of them by the page's text and
    /// every server had its part.
    pub fn expect(&self, requests: usize, page: &str, servers: usize) -> Result<String> {
        if let Some(failure) = self.failures.first() {
            bail!("{} of {requests} requests failed, the first: {failure}", self.failures.len());
        }
        if let Some(stranger) = self.counts.keys().find(|text| !text.starts_with(page)) {
            bail!("an answer reads {stranger:?}, not {page:?}");
        }
        let answered: usize = self.counts.values().sum();
        let spread: Vec<String> = self.counts.iter().map(|(text, count)| format!("{count} × {text:?}")).collect();
        let spread = spread.join(", ");
        if answered != requests {
            bail!("{answered} of {requests} requests were answered: {spread}");
        }
        if self.counts.len() != servers {
            bail!("{} of {servers} servers answered: {spread}", self.counts.len());
        }
        Ok(format!("{answered} of {requests} answered: {spread}"))
    }
}

/// Gets `/` with HTTP/1.0 and gives the body.
pub fn get(server: SocketAddr) -> Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&server, REQUEST_TIMEOUT).with_context(|| format!("connect to {server}"))?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).context("set a timeout")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").with_context(|| format!("ask {server}"))?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("read the answer of {server}"))?;
    body(&answer).map(str::to_owned)
}

fn body(answer: &str) -> Result<&str> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its headers")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the answer is {status:?}");
    }
    Ok(body.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_must_be_complete_and_come_from_every_server() {
        let mut answers = Answers::default();
        for text in ["ahoy from web-1", "ahoy from web-2", "ahoy from web-1"] {
            answers.add(Ok(text.to_owned()));
        }
        let told = answers.expect(3, "ahoy from ", 2).expect("all is well");
        assert_eq!(told, r#"3 of 3 answered: 2 × "ahoy from web-1", 1 × "ahoy from web-2""#);
        assert!(answers.expect(4, "ahoy from ", 2).is_err(), "one is missing");
        assert!(answers.expect(3, "ahoy from ", 3).is_err(), "a server is missing");
        assert!(answers.expect(3, "hello", 2).is_err(), "another page");
        answers.add(Err(anyhow::anyhow!("refused")));
        assert!(answers.expect(3, "ahoy from ", 2).is_err(), "one failed");
    }

    #[test]
    fn only_200_is_an_answer() {
        assert_eq!(body("HTTP/1.0 200 OK\r\nA: b\r\n\r\nahoy\n").expect("a page"), "ahoy");
        assert!(body("HTTP/1.0 404 Not Found\r\n\r\nno").is_err());
        assert!(body("").is_err());
    }
}
