//! How Services are served: single values, as flags and files write them.

use crate::duration;
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Port of the health check where an address has none.
pub(crate) const HEALTHZ_PORT: u16 = 10256;
/// The first port that a translated packet may be given: those below are the system's.
const SNAT_PORT_MIN: u16 = 1024;
/// Entries of a Maglev table: with fewer the shares of a handful of backends are visibly unequal.
const MAGLEV_MIN: u32 = 251;
/// One table of this size takes 8,192 elements of `SLOTS`.
const MAGLEV_MAX: u32 = 131_071;

/// What is wrong with a value, in words that follow it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// Where node ports answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// On every address of the node.
    #[default]
    All,
    /// `primary`: on the Node's own addresses.
    Primary,
    /// On addresses within these; a family that has none of them: on all of its addresses.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// What a list says: networks, or the one word `primary`.
    ///
    /// # Errors
    /// Names the element that is neither.
    pub fn parse<T: AsRef<str>>(list: &[T]) -> Result<Self, ValueError> {
        match list {
            [] => Ok(Self::All),
            [one] if one.as_ref().trim() == "primary" => Ok(Self::Primary),
            list if list.iter().any(|text| text.as_ref().trim() == "primary") => {
                Err(ValueError("cannot have both \"primary\" and networks".to_owned()))
            }
            list => {
                let networks = list.iter().map(|text| network(text.as_ref()).map_err(ValueError));
                networks.collect::<Result<_, _>>().map(Self::Within)
            }
        }
    }

    /// Whether node ports answer on an address of the node; `primary` says if it is one of the
    /// Node object's.
    #[must_use]
    pub fn serve(&self, address: IpAddr, primary: bool) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary,
            Self::Within(networks) => {
                let mut own = networks.iter().filter(|net| net.addr().is_ipv4() == address.is_ipv4()).peekable();
                own.peek().is_none() || own.any(|net| net.contains(&address))
            }
        }
    }

    /// Whether every address of a family serves them.
    #[must_use]
    pub fn is_all(&self, ipv4: bool) -> bool {
        match self {
            Self::All => true,
            Self::Primary => false,
            Self::Within(networks) => {
                let mut own = networks.iter().filter(|net| net.addr().is_ipv4() == ipv4).peekable();
                own.peek().is_none() || own.any(|net| net.prefix_len() == 0)
            }
        }
    }
}

impl<'de> Deserialize<'de> for NodePortAddresses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let list: Vec<String> = crate::text::list(from)?;
        Self::parse(&list).map_err(D::Error::custom)
    }
}

/// How a new connection's backend is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// At random.
    #[default]
    Random,
    /// By a hash of the connection into a Maglev table: every node chooses the same backend, and a
    /// backend that goes moves few connections but its own.
    Maglev,
}

/// How connections to a node port reach a backend on another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodePortMode {
    /// With this node's address as their source; replies come back through it.
    #[default]
    Snat,
    /// As they are; the other node answers the client directly.
    Dsr,
}

/// Where packets of NodePort connections to other nodes are sent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acceleration {
    /// After the kernel has made a socket buffer of them (tc).
    #[default]
    Disabled,
    /// In the device's driver (XDP); not every driver can.
    Native,
    /// In the driver where it can, else as when disabled.
    BestEffort,
    /// In the kernel's generic XDP: for trying, no faster than tc.
    Generic,
}

/// Source ports of translated connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnatPorts {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

impl Default for SnatPorts {
    /// Above the kernel's own (`net.ipv4.ip_local_port_range`, 32768-60999) and the node ports'.
    fn default() -> Self {
        Self { first: 61_000, last: 65_535 }
    }
}

/// Entries of a Maglev table: a prime, so that every step through it meets all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaglevTableSize(u32);

impl Default for MaglevTableSize {
    /// A hundred entries a backend for up to ten backends, as Maglev's paper advises (section 5.3).
    fn default() -> Self {
        Self(1_021)
    }
}

impl MaglevTableSize {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Where something listens; an empty text is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthzAddress(pub Option<SocketAddr>);

/// A time between two rounds of something; 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub SignedDuration);

impl FromStr for LoadBalancing {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "random" => Ok(Self::Random),
            "maglev" => Ok(Self::Maglev),
            _ => Err(ValueError("must be random or maglev".to_owned())),
        }
    }
}

impl FromStr for NodePortMode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "snat" => Ok(Self::Snat),
            "dsr" => Ok(Self::Dsr),
            _ => Err(ValueError("must be snat or dsr".to_owned())),
        }
    }
}

impl FromStr for Acceleration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "disabled" => Ok(Self::Disabled),
            "native" => Ok(Self::Native),
            "best-effort" => Ok(Self::BestEffort),
            "generic" => Ok(Self::Generic),
            _ => Err(ValueError("must be disabled, native, best-effort or generic".to_owned())),
        }
    }
}

impl FromStr for SnatPorts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let port = |text: &str| text.trim().parse().ok().filter(|port| *port >= SNAT_PORT_MIN);
        let range = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        match range {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(ValueError(format!("must be FIRST-LAST, such as 61000-65535, from {SNAT_PORT_MIN} on"))),
        }
    }
}

impl FromStr for MaglevTableSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| ValueError("must be a whole number".to_owned())).and_then(Self::new)
    }
}

impl MaglevTableSize {
    /// A table of so many entries.
    ///
    /// # Errors
    /// The number is no prime, or too small or large; says which prime is next.
    pub fn new(size: u32) -> Result<Self, ValueError> {
        if !(MAGLEV_MIN..=MAGLEV_MAX).contains(&size) {
            return Err(ValueError(format!("must be a prime from {MAGLEV_MIN} to {MAGLEV_MAX}")));
        }
        match (size..=MAGLEV_MAX).find(|number| is_prime(*number)) {
            Some(prime) if prime == size => Ok(Self(size)),
            Some(next) => Err(ValueError(format!("must be a prime; the next is {next}"))),
            None => Err(ValueError(format!("must be a prime; the largest is {MAGLEV_MAX}"))),
        }
    }
}

impl FromStr for HealthzAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() { Ok(Self(None)) } else { listen(text, HEALTHZ_PORT).map(|address| Self(Some(address))) }
    }
}

impl FromStr for Interval {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let time = duration::parse(text).map_err(|_| ValueError("must be a duration such as 30s or 5m".to_owned()))?;
        let second = SignedDuration::from_secs(1);
        match time.is_zero() || time >= second {
            true => Ok(Self(time)),
            false => Err(ValueError("must be 0 (never) or at least 1s".to_owned())),
        }
    }
}

fn is_prime(number: u32) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

/// `ADDRESS:PORT`, or an address alone.
pub(crate) fn listen(text: &str, port: u16) -> Result<SocketAddr, ValueError> {
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    let address = text.parse().or_else(|_| alone());
    address.map_err(|_| ValueError(format!("{text:?} must be an address such as 0.0.0.0:{port}")))
}

/// A network, as its error wants to be read after the field's name.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    text.trim().parse().map_err(|_| format!("{text:?} must be a network such as 10.244.0.0/16"))
}

macro_rules! read_as_text {
    ($($name:ident),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(|problem| D::Error::custom(format!("{text:?} {problem}")))
            }
        }
    )+};
}

read_as_text!(LoadBalancing, NodePortMode, Acceleration, SnatPorts, Interval);

impl<'de> Deserialize<'de> for HealthzAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for MaglevTableSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let size = u32::deserialize(from)?;
        Self::new(size).map_err(|problem| D::Error::custom(format!("{size} {problem}")))
    }
}

/// `services` of OrlopConfiguration: every key is optional, an unknown one is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicesConfiguration {
    /// Where node ports answer.
    pub node_port_addresses: Option<NodePortAddresses>,
    /// How connections to node ports reach other nodes.
    pub node_port_mode: Option<NodePortMode>,
    /// Where their packets are sent on.
    pub node_port_acceleration: Option<Acceleration>,
    /// How a backend is chosen.
    pub load_balancing: Option<LoadBalancing>,
    /// Entries of each Maglev table.
    pub maglev_table_size: Option<MaglevTableSize>,
    /// Source ports of translated connections.
    pub snat_ports: Option<SnatPorts>,
    /// Where the health check of Services answers.
    pub healthz_bind_address: Option<HealthzAddress>,
    /// How often the tables are compared with what they should be.
    pub audit_interval: Option<Interval>,
}
