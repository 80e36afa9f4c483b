//! A node and containers in namespaces of the test's own, and the plugin called as libcni calls it.

use orlop_cni::{Attachment, LinkNames};
use orlop_kernel::{Address, Netlink, Netns, Request};
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A range a family.
pub const BOTH: [&str; 2] = ["10.88.0.0/24", "fd00:88::/64"];
const WAIT: Duration = Duration::from_secs(5);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A node with the addresses 192.0.2.1 and 2001:db8::1, and a network called `pods`.
pub struct Node {
    pub netns: Netns,
    pub dir: tempfile::TempDir,
    conf: Map<String, Value>,
}

/// A container: an id and a namespace.
pub struct Container {
    pub id: String,
    pub netns: Netns,
}

/// What one call came to.
#[derive(Debug)]
pub struct Called {
    pub ok: bool,
    /// Standard output; null when there was none.
    pub json: Value,
    pub stderr: String,
}

impl Container {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), netns: Netns::create().unwrap() }
    }

    /// A path to the namespace; gone with the container.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())
    }

    pub fn links(&self) -> Vec<String> {
        names(&self.netns)
    }

    pub fn apply(&self, request: Request) {
        apply(&self.netns, request);
    }
}

pub fn apply(netns: &Netns, request: Request) {
    Netlink::open_in(netns).unwrap().apply(vec![request]).unwrap();
}

/// What an attachment's links are called.
pub fn names_of(container: &Container, ifname: &str) -> LinkNames {
    LinkNames::of_attachment(&Attachment {
        network: "pods".to_owned(),
        container: container.id.clone(),
        ifname: ifname.to_owned(),
    })
}

/// The links of a namespace, without loopback.
pub fn names(netns: &Netns) -> Vec<String> {
    let links = Netlink::open_in(netns).unwrap().links().unwrap();
    links.into_iter().filter(|link| !link.loopback).map(|link| link.name).collect()
}

impl Node {
    pub fn new(ranges: &[&str]) -> Self {
        let netns = Netns::create().unwrap();
        let mut netlink = Netlink::open_in(&netns).unwrap();
        let link = netlink.link("lo").unwrap().unwrap().index;
        let own = |text, prefix| Request::put_address(Address { link, ip: ip(text), prefix });
        let up = Request::set_link_up("lo", true);
        netlink.apply(vec![up, own("192.0.2.1", 32), own("2001:db8::1", 128)]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let Value::Object(conf) = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "orlop-cni", "podCIDRs": ranges, "dataDir": dir.path(),
        }) else {
            panic!("an object is an object")
        };
        Self { netns, dir, conf }
    }

    /// The configuration with `more` keys on top.
    pub fn conf(&self, more: &Value) -> Value {
        let mut conf = self.conf.clone();
        for (key, value) in more.as_object().into_iter().flatten() {
            conf.insert(key.clone(), value.clone());
        }
        Value::Object(conf)
    }

    /// Starts the plugin inside the node's namespace, with nothing but `env` in its environment.
    pub fn start(&self, env: &[(&str, &str)], stdin: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop-cni"));
        command.env_clear().envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.netns.run(move || command.spawn()).unwrap().unwrap();
        // A plugin that has failed already does not read.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child
    }

    pub fn run(&self, env: &[(&str, &str)], stdin: &str) -> Called {
        let output = self.start(env, stdin).wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect(&text) };
        Called { ok: output.status.success(), json, stderr: String::from_utf8(output.stderr).unwrap() }
    }

    /// A call about one interface of a container.
    pub fn call(&self, command: &str, container: &Container, ifname: &str, more: &Value) -> Called {
        self.run(&env_of(command, container, ifname, &container.path()), &self.conf(more).to_string())
    }

    /// A call about the network.
    pub fn ask(&self, command: &str, more: &Value) -> Called {
        self.run(&[("CNI_COMMAND", command), ("CNI_PATH", "/nowhere")], &self.conf(more).to_string())
    }

    /// ADD, which has to succeed, and its result.
    pub fn add(&self, container: &Container, ifname: &str) -> Value {
        self.call("ADD", container, ifname, &Value::Null).success()
    }

    pub fn add_with(&self, container: &Container, ifname: &str, more: Value) -> Value {
        self.call("ADD", container, ifname, &more).success()
    }

    pub fn del(&self, container: &Container, ifname: &str) {
        assert_eq!(self.call("DEL", container, ifname, &Value::Null).success(), Value::Null);
    }

    /// The leases as they are on disk: address to `CONTAINER/INTERFACE`.
    pub fn leases(&self) -> Vec<(String, String)> {
        let Ok(text) = std::fs::read_to_string(self.lease_file()) else { return Vec::new() };
        let record: Value = serde_json::from_str(&text).unwrap();
        let leases = record["leases"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        leases
            .map(|lease| {
                let holder = &lease["holder"];
                (text(&lease["ip"]), format!("{}/{}", text(&holder["container"]), text(&holder["ifname"])))
            })
            .collect()
    }

    pub fn lease_file(&self) -> std::path::PathBuf {
        self.dir.path().join("pods/leases.json")
    }

    /// Nothing is left of any attachment.
    pub fn expect_clean(&self) {
        assert_eq!(names(&self.netns), Vec::<String>::new());
        assert_eq!(self.leases(), []);
        let mut netlink = Netlink::open_in(&self.netns).unwrap();
        let own = netlink.link("lo").unwrap().unwrap().index;
        let routes: Vec<_> = netlink.routes().unwrap().into_iter().filter(|route| route.link != own).collect();
        assert_eq!(routes, [], "routes of the node");
    }
}

pub fn env_of<'a>(
    command: &'a str,
    container: &'a Container,
    ifname: &'a str,
    path: &'a str,
) -> [(&'a str, &'a str); 5] {
    [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", &container.id),
        ("CNI_IFNAME", ifname),
        ("CNI_NETNS", path),
        ("CNI_PATH", "/nowhere"),
    ]
}

impl Called {
    #[track_caller]
    pub fn success(self) -> Value {
        assert!(self.ok, "{self:?}");
        self.json
    }

    /// Fails with this code, and a message and details that hold all of `words`.
    #[track_caller]
    pub fn failure(&self, code: u32, words: &[&str]) {
        assert!(!self.ok, "{self:?}");
        assert_eq!(self.json["code"], code, "{self:?}");
        let text = format!("{}; {}", self.json["msg"].as_str().unwrap(), self.json["details"].as_str().unwrap_or(""));
        for word in words {
            assert!(text.contains(word), "{word:?} in {text:?}");
        }
    }
}

/// The result's addresses without prefixes.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// One connection from `from` to a listener at `to` in `server`; gives the client's address as the server sees it.
pub fn echo(from: &Netns, server: &Netns, to: &str) -> IpAddr {
    let listener = server.run(|| TcpListener::bind(SocketAddr::new(ip(to), 0))).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
        peer.ip()
    });
    let mut stream = from.run(|| TcpStream::connect_timeout(&at, WAIT)).unwrap().unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    answer.join().unwrap()
}
