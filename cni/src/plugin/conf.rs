//! The network configuration on standard input.

use super::answer::{Answer, Dns};
use super::call::{ip_of, is_name};
use super::failure::{Code, Failure};
use super::version::Version;
use crate::AddressPool;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where leases are kept when the configuration says nothing: gone after a reboot, as the containers are.
const DATA_DIR: &str = "/run/orlop-cni";
/// Bytes: RFC 791 and RFC 8200 have every link carry that much, and no packet is larger than the last.
const MTU_MIN: u32 = 68;
const MTU_MIN_V6: u32 = 1280;
const MTU_MAX: u32 = 65_535;
/// Keys of ours, and of the specification, that mean something here or are the runtime's business.
const KNOWN: [&str; 18] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "capabilities",
    "prevResult",
    "runtimeConfig",
    "args",
    "dns",
    "ipMasq",
    "ipam",
    "podCIDRs",
    "mtu",
    "dataDir",
    "routes",
];

/// The document, read as far as every command needs it.
#[derive(Debug)]
pub(crate) struct Document {
    pub version: Version,
    /// The network's name.
    pub network: String,
    /// Where this network's leases are.
    pub folder: PathBuf,
    keys: Map<String, Value>,
}

/// What of it is about the network itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Ranges to give addresses out from.
    pub ranges: Vec<IpNet>,
    /// Bytes; of the default route's link when it is not given.
    pub mtu: Option<u32>,
    /// Where the container's routes lead; default routes when it is not given.
    pub routes: Option<Vec<IpNet>>,
    pub dns: Dns,
}

/// What the runtime asks for this one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub ips: Vec<IpAddr>,
    pub mac: Option<[u8; 6]>,
}

#[derive(Deserialize)]
struct RouteKey {
    dst: IpNet,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidKey {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

fn invalid(message: impl Into<String>, details: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidConfig, message, details)
}

fn unsupported(key: &str, value: &Value, details: &str) -> Failure {
    Failure::new(Code::UnsupportedField, format!("{key} = {value} is not supported"), details)
}

/// The version alone: what errors are written in when nothing else can be read.
pub(crate) fn version_of(bytes: &[u8]) -> Option<String> {
    let keys: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    keys.get("cniVersion")?.as_str().map(str::to_owned)
}

impl Document {
    /// Reads version, name and folder.
    ///
    /// # Errors
    /// It is not JSON, or one of the three is wrong.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let details = "standard input must be one JSON object, the network configuration";
        let keys: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
            Failure::new(Code::Decoding, format!("the network configuration cannot be read: {error}"), details)
        })?;
        let mut document =
            Self { version: Version::V1_1_0, network: String::new(), folder: PathBuf::from(DATA_DIR), keys };
        // libcni takes a configuration without a version for one of the oldest.
        document.version =
            Version::parse(&document.key::<String>("cniVersion")?.unwrap_or_else(|| "0.1.0".to_owned()))?;
        let name: String = document.key("name")?.ok_or_else(|| invalid("the network has no name", "set \"name\""))?;
        if !is_name(&name) {
            let details = "it may hold only letters, digits, '_', '.' and '-', and starts with a letter or digit";
            return Err(invalid(format!("name {name:?} is no network name"), details));
        }
        if let Some(folder) = document.key::<PathBuf>("dataDir")? {
            if !folder.is_absolute() {
                return Err(invalid(format!("dataDir {} is not absolute", folder.display()), ""));
            }
            document.folder = folder;
        }
        document.folder.push(&name);
        document.network = name;
        Ok(document)
    }

    fn key<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|error| invalid(format!("{key}: {error}"), "")),
        }
    }

    /// Keys that nobody knows.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        let known = |key: &&str| KNOWN.contains(key) || key.starts_with("cni.dev/");
        self.keys.keys().map(String::as_str).filter(move |key| !known(key))
    }

    /// Fails for a command that this version does not have.
    ///
    /// # Errors
    /// As said.
    pub(crate) fn since(&self, version: Version, command: &str) -> Result<(), Failure> {
        if self.version >= version {
            return Ok(());
        }
        let details = format!("set cniVersion to {} or newer", version.text());
        let message = format!("cniVersion {} has no {command}", self.version.text());
        Err(Failure::new(Code::IncompatibleVersion, message, details))
    }

    /// The network's settings.
    ///
    /// # Errors
    /// Names the key that is wrong or asks for what we do not do.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        if let Some(ipam) = self.keys.get("ipam").filter(|value| !is_nothing(value)) {
            let details = "orlop-cni gives out addresses itself: leave ipam out and list the ranges in podCIDRs";
            return Err(unsupported("ipam", ipam, details));
        }
        if self.keys.get("ipMasq") == Some(&Value::Bool(true)) {
            let details = "orlop-cni writes no firewall rules: masquerade podCIDRs on this machine or route them to it";
            return Err(unsupported("ipMasq", &Value::Bool(true), details));
        }
        let ranges = self.ranges()?;
        let mtu = self.mtu(ranges.iter().any(|range| range.addr().is_ipv6()))?;
        Ok(Settings { mtu, routes: self.routes(&ranges)?, dns: self.key("dns")?.unwrap_or_default(), ranges })
    }

    fn ranges(&self) -> Result<Vec<IpNet>, Failure> {
        let ranges: Vec<IpNet> = self.key("podCIDRs")?.unwrap_or_default();
        if ranges.is_empty() {
            return Err(invalid("podCIDRs is missing or empty", "list this node's ranges: [\"10.1.0.0/24\"]"));
        }
        for (at, range) in ranges.iter().enumerate() {
            if range.trunc() != *range {
                let details = format!("write {}", range.trunc());
                return Err(invalid(format!("podCIDRs: {range} is an address in a range"), details));
            }
            if <AddressPool>::new(*range).capacity() == 0 {
                let details = "network, gateway and last address are never given out: use a larger range";
                return Err(invalid(format!("podCIDRs: {range} has no address to give out"), details));
            }
            if let Some(other) = ranges[..at].iter().find(|other| other.contains(range) || range.contains(*other)) {
                return Err(invalid(format!("podCIDRs: {other} and {range} overlap"), ""));
            }
        }
        Ok(ranges)
    }

    fn mtu(&self, v6: bool) -> Result<Option<u32>, Failure> {
        let mtu: Option<u32> = self.key("mtu")?.filter(|mtu| *mtu != 0);
        let min = if v6 { MTU_MIN_V6 } else { MTU_MIN };
        match mtu {
            Some(mtu) if !(min..=MTU_MAX).contains(&mtu) => {
                Err(invalid(format!("mtu {mtu} is not between {min} and {MTU_MAX}"), ""))
            }
            mtu => Ok(mtu),
        }
    }

    fn routes(&self, ranges: &[IpNet]) -> Result<Option<Vec<IpNet>>, Failure> {
        let Some(values) = self.key::<Vec<Value>>("routes")? else { return Ok(None) };
        let mut routes = Vec::new();
        for value in values {
            let RouteKey { dst, rest } = serde_json::from_value(value.clone())
                .map_err(|error| invalid(format!("routes: {value}: {error}"), "write {\"dst\": \"10.0.0.0/8\"}"))?;
            if !rest.is_empty() {
                let details = "the next hop is the node and the metric the kernel's: a route has only \"dst\"";
                return Err(unsupported("routes", &value, details));
            }
            if !ranges.iter().any(|range| range.addr().is_ipv4() == dst.addr().is_ipv4()) {
                return Err(invalid(format!("routes: {dst} is of a family that podCIDRs has no range of"), ""));
            }
            routes.push(dst.trunc());
        }
        Ok(Some(routes))
    }

    /// What the runtime asks for in `runtimeConfig` and `args`; `of_args` are CNI_ARGS' addresses.
    ///
    /// # Errors
    /// Names the first thing that is asked for and not done here.
    pub(crate) fn asked(&self, of_args: &[IpAddr]) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        let mut ips: Option<Vec<String>> = None;
        for (name, value) in self.key::<Map<String, Value>>("runtimeConfig")?.unwrap_or_default() {
            let key = format!("runtimeConfig.{name}");
            let wrong = |problem: &str| invalid(format!("{key} = {value} {problem}"), "");
            match name.as_str() {
                _ if is_nothing(&value) => {}
                "ips" => ips = Some(Vec::deserialize(&value).map_err(|_| wrong("is not a list of addresses"))?),
                "mac" => {
                    let mac = value.as_str().and_then(mac_of);
                    asked.mac = Some(mac.ok_or_else(|| wrong("is no unicast Ethernet address"))?);
                }
                "portMappings" => {
                    return Err(unsupported(&key, &value, "chain the portmap plugin and give it the capability"));
                }
                "bandwidth" => {
                    return Err(unsupported(&key, &value, "chain the bandwidth plugin and give it the capability"));
                }
                _ => return Err(unsupported(&key, &value, "remove it from this plugin's \"capabilities\"")),
            }
        }
        // CONVENTIONS.md: args are optional and go before CNI_ARGS; what is unknown in them is no error.
        let args: Option<Value> = self.key("args")?;
        let of_conf = args.as_ref().and_then(|args| args.pointer("/cni/ips")).filter(|value| !is_nothing(value));
        if let (None, Some(value)) = (&ips, of_conf) {
            let list = Vec::deserialize(value);
            ips = Some(list.map_err(|_| invalid(format!("args.cni.ips = {value} is not a list of addresses"), ""))?);
        }
        asked.ips = match ips {
            None => of_args.to_vec(),
            Some(texts) => texts
                .iter()
                .map(|text| ip_of(text).ok_or_else(|| invalid(format!("ips: {text:?} is no address"), "")))
                .collect::<Result<_, _>>()?,
        };
        for v4 in [true, false] {
            let of_family: Vec<&IpAddr> = asked.ips.iter().filter(|ip| ip.is_ipv4() == v4).collect();
            if let [first, second, ..] = of_family[..] {
                let details = "an interface gets one address a family";
                return Err(invalid(format!("ips: {first} and {second} are of one family"), details));
            }
        }
        Ok(asked)
    }

    /// The result of the plugins before this one, or of ADD.
    ///
    /// # Errors
    /// It is not a result.
    pub(crate) fn previous(&self) -> Result<Option<Answer>, Failure> {
        self.key("prevResult")
    }

    /// The attachments that live, container and interface; `None` when the runtime has not said.
    ///
    /// # Errors
    /// It is not a list of attachments.
    pub(crate) fn valid(&self) -> Result<Option<BTreeSet<(String, String)>>, Failure> {
        // The second is what the specification once said by mistake; libcni sends both.
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let Some(key) = keys.into_iter().find(|key| self.keys.contains_key(*key)) else { return Ok(None) };
        // Go writes an empty list as null.
        let list: Vec<ValidKey> = self.key(key)?.unwrap_or_default();
        Ok(Some(list.into_iter().map(|ValidKey { container, ifname }| (container, ifname)).collect()))
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// One or two digits; `from_str_radix` alone would take a sign, too.
fn hex_byte(text: &str) -> Option<u8> {
    let digits = text.len() <= 2 && text.bytes().all(|c| c.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// Six bytes in hexadecimal; not a group address, not all zero.
pub(crate) fn mac_of(text: &str) -> Option<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = text.split([':', '-']).map(|byte| hex_byte(byte).ok_or(())).collect();
    let mac: [u8; 6] = bytes.ok()?.try_into().ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_every_key_of_ours() {
        let readme = include_str!("../../README.md");
        let ours = KNOWN.iter().skip_while(|key| **key != "capabilities");
        for key in ours.filter(|key| !["capabilities", "prevResult"].contains(key)) {
            assert!(readme.contains(&format!("| `{key}`")), "cni/README.md lacks the key {key}");
        }
        assert!(readme.contains(DATA_DIR));
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(mac_of("02:11:22:33:44:aF"), Some([2, 0x11, 0x22, 0x33, 0x44, 0xaf]));
        assert_eq!(mac_of("02-11-22-33-44-55"), Some([2, 0x11, 0x22, 0x33, 0x44, 0x55]));
        for bad in [
            "",
            "02:11:22:33:44",
            "02:11:22:33:44:55:66",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:11:22:33:44:5g",
            "+2:11:22:33:44:55",
        ] {
            assert_eq!(mac_of(bad), None, "{bad}");
        }
    }
}
