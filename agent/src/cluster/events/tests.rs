//! Over real sockets: a server that answers by script and keeps what it takes.

use super::*;
use orlop_apiclient::Settings;
use orlop_events::Regarding;
use orlop_model::EventKind;
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Everything here takes milliseconds; this is for a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Takes it.
    Takes,
    /// Answers with this status and reason, and a cause.
    Refuses(u16, &'static str, &'static str),
    /// Takes it, and breaks the connection before it says so.
    TakesAndBreaks,
    /// Breaks the connection.
    Breaks,
}

/// What was asked: method and path, content type, body.
type Asked = (String, String, Value);

struct Server {
    address: String,
    asked: UnboundedReceiver<Asked>,
}

impl Server {
    async fn start(script: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = unbounded_channel();
        tokio::spawn(serve(listener, script.iter().copied().collect(), tell));
        Self { address, asked }
    }

    async fn next(&mut self) -> Asked {
        tokio::time::timeout(PATIENCE, self.asked.recv()).await.expect("a request in time").expect("the server lives")
    }
}

/// One connection after the other: there is only one client, and it asks one thing at a time.
async fn serve(listener: TcpListener, mut script: VecDeque<Does>, tell: UnboundedSender<Asked>) {
    let mut stored = json!({});
    while let Ok((connection, _)) = listener.accept().await {
        let mut connection = BufReader::new(connection);
        while let Some(asked) = read(&mut connection).await {
            let does = script.pop_front().unwrap_or(Does::Takes);
            let body = asked.2.clone();
            let create = asked.0.starts_with("POST");
            tell.send(asked).unwrap();
            if matches!(does, Does::Takes | Does::TakesAndBreaks) {
                if create {
                    stored = body;
                    // As Go writes what is not set.
                    (stored["eventTime"], stored["metadata"]["creationTimestamp"]) = (json!(null), json!(null));
                } else {
                    let fields = stored.as_object_mut().unwrap();
                    fields.extend(body.as_object().unwrap().clone());
                }
            }
            let (code, answer) = match does {
                Does::Takes => (if create { 201 } else { 200 }, stored.clone()),
                Does::Refuses(code, reason, cause) => {
                    let details = json!({"causes": [{"reason": cause}]});
                    (code, json!({"kind": "Status", "code": code, "reason": reason, "details": details}))
                }
                Does::Breaks | Does::TakesAndBreaks => break,
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {code} -\r\ncontent-length: {}\r\n\r\n", answer.len());
            connection.write_all((head + &answer).as_bytes()).await.unwrap();
        }
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        lines.iter().find_map(of).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    connection.read_exact(&mut body).await.ok()?;
    let label = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    Some((label, header("content-type"), serde_json::from_slice(&body).unwrap()))
}

fn happened(message: &str) -> Occurrence {
    Occurrence {
        regarding: Regarding::pod("shop", "web", "u1").container(orlop_model::ContainerRole::Main, "c"),
        kind: EventKind::Normal,
        reason: "Pulled".to_owned(),
        message: message.to_owned(),
    }
}

fn limits() -> EventLimits {
    EventLimits { pause: Duration::from_millis(2), ..EventLimits::default() }
}

fn client(server: &Server) -> Client {
    Client::new(Settings::new(server.address.clone())).unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come to be"));
}

/// Sends the messages to a server that follows the script; gives what it was asked, each as the
/// method and the count in the body, and what was counted.
async fn check(script: &[Does], messages: &[&str], want: &str, counted: Counters) {
    let mut server = Server::start(script).await;
    let sender = EventWriter::start(client(&server), "n1", limits());
    messages.iter().for_each(|message| sender.send(happened(message)));
    let taken = u64::try_from(messages.len()).unwrap();
    let want: Vec<_> = want.split_whitespace().collect();
    let mut asked = Vec::new();
    for _ in &want {
        let (label, _, body) = server.next().await;
        asked.push(format!("{}:{}", label.split(' ').next().unwrap(), body["count"]));
    }
    assert_eq!(asked, want, "{script:?}");
    until("everything counted", || sender.counters().correlator.taken == taken).await;
    assert_eq!(sender.counters().correlator, Counters { taken, ..counted }, "{script:?}");
    assert!(server.asked.try_recv().is_err(), "{script:?}: one request more");
}

#[tokio::test]
async fn events_are_created_and_then_counted() {
    let mut server = Server::start(&[]).await;
    let sender = EventWriter::start(client(&server), "n1", limits());
    sender.send(happened("there"));
    sender.send(happened("there"));
    let (label, content_type, event) = server.next().await;
    assert_eq!((label.as_str(), content_type.as_str()), ("POST /api/v1/namespaces/shop/events", "application/json"));
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web."), "{name}");
    let involved = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1",
        "fieldPath": "spec.containers{c}"});
    assert_eq!(event["involvedObject"], involved);
    assert_eq!(event["source"], json!({"component": "kubelet", "host": "n1"}));
    assert_eq!(
        json!([
            event["reportingComponent"],
            event["reportingInstance"],
            event["type"],
            event["reason"],
            event["count"]
        ]),
        json!(["kubelet", "n1", "Normal", "Pulled", 1])
    );
    let (label, content_type, patch) = server.next().await;
    assert_eq!(label, format!("PATCH /api/v1/namespaces/shop/events/{name}"));
    assert_eq!(content_type, "application/strategic-merge-patch+json");
    assert_eq!(patch, json!({"count": 2, "lastTimestamp": patch["lastTimestamp"], "message": "there"}));
    until("both written", || sender.counters().correlator.patched == 1).await;
}

#[tokio::test]
async fn what_the_server_answers_decides() {
    use Does::{Breaks, Refuses, Takes, TakesAndBreaks};
    let counted = Counters::default();
    let not_found = Refuses(404, "NotFound", "");
    // Its hour on the server is over: again from the start, with the count.
    let both = Counters { created: 2, ..counted };
    check(&[Takes, not_found, Takes], &["a", "a"], "POST:1 PATCH:2 POST:2", both).await;
    let then_patched = Counters { created: 2, patched: 1, ..counted };
    check(&[Takes, not_found, Takes], &["a", "a", "a"], "POST:1 PATCH:2 POST:2 PATCH:3", then_patched).await;
    // Refused for good, and the next one goes out. It was never there, so it is created when it comes again.
    let refused = Counters { refused: 1, created: 1, ..counted };
    check(&[Refuses(403, "Forbidden", "")], &["a", "b"], "POST:1 POST:1", refused).await;
    check(&[Refuses(403, "Forbidden", ""), not_found], &["a", "a"], "POST:1 PATCH:2 POST:2", refused).await;
    check(&[not_found], &["a", "b"], "POST:1 POST:1", refused).await;
    let unwanted = Counters { unwanted: 1, created: 1, ..counted };
    check(&[Refuses(403, "Forbidden", NAMESPACE_TERMINATING)], &["a", "b"], "POST:1 POST:1", unwanted).await;
    check(&[Refuses(409, "AlreadyExists", "")], &["a", "b"], "POST:1 POST:1", unwanted).await;
    // Nobody there: tried again.
    let one = Counters { created: 1, ..counted };
    for away in [Breaks, Refuses(503, "", ""), Refuses(429, "", ""), Refuses(401, "", "")] {
        check(&[away, away, Takes], &["a"], "POST:1 POST:1 POST:1", one).await;
    }
    // The answer was lost: what is there already is not made twice, and what was patched may be again.
    let lost = Counters { unwanted: 1, ..counted };
    check(&[TakesAndBreaks, Refuses(409, "AlreadyExists", "")], &["a"], "POST:1 POST:1", lost).await;
    let patched = Counters { created: 1, patched: 1, ..counted };
    check(&[Takes, TakesAndBreaks, Takes], &["a", "a"], "POST:1 PATCH:2 PATCH:2", patched).await;
    check(&[Takes, not_found, TakesAndBreaks, Takes], &["a", "a"], "POST:1 PATCH:2 POST:2 PATCH:2", patched).await;
}

#[tokio::test]
async fn an_event_is_given_up_after_twelve_tries() {
    let away = [Does::Breaks; 12];
    let counted = Counters { unreachable: 1, created: 1, ..Counters::default() };
    check(&away, &["a", "b"], &"POST:1 ".repeat(13), counted).await;
}

#[tokio::test]
async fn whoever_sends_never_waits() {
    // Accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(Settings::new(format!("http://{}", silent.local_addr().unwrap()))).unwrap();
    let sender = EventWriter::start(client, "n1", EventLimits { queue_max: 3, ..limits() });
    // No await until all are sent: the task on this one thread has taken none.
    (0..10).for_each(|n| sender.send(happened(&n.to_string())));
    assert_eq!(sender.counters().queue_full, 7);
}
