//! What the runtime asks for in the environment.

use super::failure::{Code, Failure};
use std::net::IpAddr;
use std::path::PathBuf;

/// The longest interface name: IFNAMSIZ without its terminator, in bytes.
const IFNAME_LEN_MAX: usize = 15;

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Put a container on the wire.
    Add,
    /// Take it off.
    Del,
    /// Is it as ADD left it?
    Check,
    /// Remove what belongs to no living container.
    Gc,
    /// Could ADD be served?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Command {
    const ALL: [(&'static str, Self); 6] = [
        ("ADD", Self::Add),
        ("DEL", Self::Del),
        ("CHECK", Self::Check),
        ("GC", Self::Gc),
        ("STATUS", Self::Status),
        ("VERSION", Self::Version),
    ];
}

/// Which container and which interface a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS` as it was given; a container that has ended has none.
    pub netns: Option<String>,
    /// Addresses of `CNI_ARGS`.
    pub ips: Vec<IpAddr>,
}

impl Target {
    /// The namespace's path.
    ///
    /// # Errors
    /// It was not given.
    pub(crate) fn netns(&self) -> Result<(&str, PathBuf), Failure> {
        let text = self.netns.as_deref().ok_or_else(|| missing("CNI_NETNS", "the path of a network namespace"))?;
        Ok((text, PathBuf::from(text)))
    }
}

fn invalid(variable: &str, value: &str, problem: &str) -> Failure {
    Failure::new(Code::InvalidEnvironment, format!("{variable}={value:?} {problem}"), "")
}

fn missing(variable: &str, what: &str) -> Failure {
    Failure::new(Code::InvalidEnvironment, format!("{variable} is not set; it must be {what}"), "")
}

/// Letters, digits, `_`, `.` and `-`, the first a letter or a digit: containers and networks.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric();
    text.bytes().next().is_some_and(plain) && text.bytes().all(|c| plain(c) || b"_.-".contains(&c))
}

/// Reads the command.
///
/// # Errors
/// It is missing or unknown.
pub(crate) fn command(env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Failure> {
    let known = Command::ALL.map(|(text, _)| text).join(", ");
    let text = env("CNI_COMMAND").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| missing("CNI_COMMAND", &format!("one of {known}")))?;
    let found = Command::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, command)| *command).ok_or_else(|| invalid("CNI_COMMAND", &text, &format!("is none of {known}")))
}

/// Reads container, interface, namespace and arguments; what is odd but harmless goes to `warn`.
///
/// # Errors
/// One is missing or not of its form.
pub(crate) fn target(env: &dyn Fn(&str) -> Option<String>, warn: &mut dyn FnMut(String)) -> Result<Target, Failure> {
    let given = |name: &str| env(name).filter(|text| !text.is_empty());
    let container = given("CNI_CONTAINERID").ok_or_else(|| missing("CNI_CONTAINERID", "the container's id"))?;
    if !is_name(&container) {
        let problem = "may hold only letters, digits, '_', '.' and '-', and starts with a letter or digit";
        return Err(invalid("CNI_CONTAINERID", &container, problem));
    }
    let ifname = given("CNI_IFNAME").ok_or_else(|| missing("CNI_IFNAME", "the interface's name"))?;
    if let Some(problem) = ifname_problem(&ifname) {
        return Err(invalid("CNI_IFNAME", &ifname, problem));
    }
    let ips = arguments(&given("CNI_ARGS").unwrap_or_default(), warn)?;
    Ok(Target { container, ifname, netns: given("CNI_NETNS"), ips })
}

/// What the kernel's `dev_valid_name` refuses.
fn ifname_problem(name: &str) -> Option<&'static str> {
    if name.len() > IFNAME_LEN_MAX {
        Some("is longer than 15 bytes")
    } else if name == "." || name == ".." {
        Some("is not a name")
    } else if name == "lo" {
        Some("is loopback's name")
    } else if name.chars().any(|c| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control()) {
        Some("holds '/', ':', '%' or white space")
    } else {
        None
    }
}

/// `KEY=VALUE;…`: `IP` is acted on, Kubernetes' own keys are for others.
fn arguments(text: &str, warn: &mut dyn FnMut(String)) -> Result<Vec<IpAddr>, Failure> {
    let mut ips = Vec::new();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(invalid("CNI_ARGS", text, &format!("holds {pair:?}, which is not KEY=VALUE")));
        };
        match key {
            "IP" => ips.push(ip_of(value).ok_or_else(|| invalid("CNI_ARGS", text, "holds an IP that is no address"))?),
            "IgnoreUnknown" => ignore_unknown = value == "1" || value.eq_ignore_ascii_case("true"),
            key if key.starts_with("K8S_") => {}
            key => unknown.push(key.to_owned()),
        }
    }
    if !ignore_unknown && !unknown.is_empty() {
        warn(format!("CNI_ARGS: nothing is done with {}", unknown.join(", ")));
    }
    Ok(ips)
}

/// `ADDRESS` or `ADDRESS/PREFIX`; the prefix has no meaning here, every address stands alone.
pub(crate) fn ip_of(text: &str) -> Option<IpAddr> {
    let (ip, prefix) = text.split_once('/').unwrap_or((text, "0"));
    prefix.parse::<u8>().ok()?;
    ip.parse().ok()
}
