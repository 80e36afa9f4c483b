//! EndpointSlices.

use super::{Invalid, InvalidItem, LABEL_SERVICE_NAME, RawMetadata, protocol};
use orlop_model::{Protocol, ServiceKey};
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

/// A piece of a slice's text: where it starts and how long it is; 0 is none. A
/// name has at most 253 characters, a longer piece (several hints) ends at a line's
/// end, and a slice's text is below 16 MiB because the API server takes no object of
/// more than 1.5 MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(u32);

const SPAN_LENGTH_BITS: u32 = 8;
/// Stands for "to the line's end".
const SPAN_LENGTH_LINE: usize = (1 << SPAN_LENGTH_BITS) - 1;

impl Span {
    fn new(start: usize, length: usize) -> Option<Self> {
        let start = u32::try_from(start).ok().filter(|start| *start < 1 << (32 - SPAN_LENGTH_BITS))?;
        Some(Self(start << SPAN_LENGTH_BITS | u32::try_from(length.min(SPAN_LENGTH_LINE)).ok()?))
    }

    fn of(self, text: &str) -> &str {
        let (start, length) = ((self.0 >> SPAN_LENGTH_BITS) as usize, self.0 as usize & SPAN_LENGTH_LINE);
        if length == SPAN_LENGTH_LINE {
            return text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        }
        text.get(start..start + length).unwrap_or("")
    }
}

/// `spec.addressType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// Version 4.
    IPv4,
    /// Version 6.
    IPv6,
    /// Names; such a slice has no endpoints here, as with kube-proxy.
    Fqdn,
}

/// Conditions of an endpoint as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointFlags(u8);

impl EndpointFlags {
    const READY: u8 = 1;
    const SERVING: u8 = 1 << 1;
    const TERMINATING: u8 = 1 << 2;

    /// From the three conditions.
    #[must_use]
    pub fn new(ready: bool, serving: bool, terminating: bool) -> Self {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        Self(bit(ready, Self::READY) | bit(serving, Self::SERVING) | bit(terminating, Self::TERMINATING))
    }
    /// Takes new connections.
    #[must_use]
    pub fn ready(self) -> bool {
        self.0 & Self::READY != 0
    }
    /// Would pass its readiness probe, terminating or not.
    #[must_use]
    pub fn serving(self) -> bool {
        self.0 & Self::SERVING != 0
    }
    /// Is being deleted.
    #[must_use]
    pub fn terminating(self) -> bool {
        self.0 & Self::TERMINATING != 0
    }
}

/// One endpoint; its names are in the slice's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeanEndpoint {
    /// Its first address: the API says that the others are not to be used.
    pub addr: IpAddr,
    /// Its conditions; a missing `ready` or `serving` is true.
    pub flags: EndpointFlags,
    /// Name of the pod behind it, in the slice's namespace.
    pub pod: Span,
    /// Node.
    pub node: Span,
    /// `hints.forZones`, joined by commas. Of the endpoint's own zone nothing is kept:
    /// who wrote the hints has looked at it.
    pub hint_zones: Span,
    /// `hints.forNodes`, joined by commas.
    pub hint_nodes: Span,
}

/// A port of all endpoints of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeanSlicePort {
    /// Name; none for the unnamed one.
    pub name: Span,
    /// Port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeanEndpointSlice {
    namespace: Box<str>,
    name: Box<str>,
    /// Name of its Service, by label; empty when it has none.
    service: Box<str>,
    skipped: bool,
    address_type: AddressType,
    text: Box<str>,
    ports: Box<[LeanSlicePort]>,
    endpoints: Box<[LeanEndpoint]>,
    invalid: Box<[InvalidItem]>,
}

impl LeanEndpointSlice {
    /// Namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// Name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The Service that it belongs to; `None` for a slice of nobody, and for one
    /// that is none of our business: of a headless Service, or of one that another
    /// proxy serves.
    #[must_use]
    pub fn service(&self) -> Option<ServiceKey> {
        if self.skipped || self.service.is_empty() {
            return None;
        }
        ServiceKey::new(&*self.namespace, &*self.service).ok()
    }
    /// Family.
    #[must_use]
    pub fn address_type(&self) -> AddressType {
        self.address_type
    }
    /// Ports of every endpoint.
    #[must_use]
    pub fn ports(&self) -> &[LeanSlicePort] {
        &self.ports
    }
    /// Endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[LeanEndpoint] {
        &self.endpoints
    }
    /// The text of one of its names; `""` for none.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        span.of(&self.text)
    }
    /// What was left out.
    #[must_use]
    pub fn invalid(&self) -> &[InvalidItem] {
        &self.invalid
    }
    /// Takes out what was left out, for who has told it.
    pub fn take_invalid(&mut self) -> Box<[InvalidItem]> {
        std::mem::take(&mut self.invalid)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    metadata: RawMetadata,
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    ports: Option<Vec<RawPort>>,
    #[serde(default)]
    endpoints: Option<Vec<RawEndpoint>>,
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<String>,
    port: Option<i64>,
    protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(default)]
    conditions: Option<RawConditions>,
    target_ref: Option<RawTarget>,
    node_name: Option<String>,
    hints: Option<RawHints>,
}

#[derive(Default, Deserialize)]
struct RawConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct RawTarget {
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHints {
    for_zones: Option<Vec<RawHint>>,
    for_nodes: Option<Vec<RawHint>>,
}

#[derive(Deserialize)]
struct RawHint {
    #[serde(default)]
    name: String,
}

/// The text that grows while a slice is decoded. A name that was the last of its
/// kind is shared, so that a zone or a node costs its text once in a row.
#[derive(Default)]
struct Text {
    text: String,
    known: Vec<(String, Span)>,
}

const SHARED_NAMES_MAX: usize = 32;

impl Text {
    fn own(&mut self, name: &str) -> Option<Span> {
        if name.is_empty() {
            return Some(Span::default());
        }
        let span = Span::new(self.text.len(), name.len())?;
        self.text.push_str(name);
        if name.len() >= SPAN_LENGTH_LINE {
            self.text.push('\n');
        }
        Some(span)
    }

    fn shared(&mut self, name: &str) -> Option<Span> {
        if let Some((_, span)) = self.known.iter().find(|(known, _)| known == name) {
            return Some(*span);
        }
        let span = self.own(name)?;
        if self.known.len() < SHARED_NAMES_MAX {
            self.known.push((name.to_owned(), span));
        }
        Some(span)
    }
}

impl<'de> Deserialize<'de> for LeanEndpointSlice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(Raw::deserialize(deserializer)?))
    }
}

impl LeanEndpointSlice {
    fn of(raw: Raw) -> Self {
        let (mut invalid, mut text) = (Invalid::default(), Text::default());
        let address_type = match raw.address_type.as_str() {
            "IPv4" => AddressType::IPv4,
            "IPv6" => AddressType::IPv6,
            "FQDN" => AddressType::Fqdn,
            other => {
                invalid.add(|| "addressType".into(), format!("{other:?} is not one of IPv4, IPv6 and FQDN"));
                AddressType::Fqdn
            }
        };
        let skipped = raw.metadata.skipped();
        let service = raw.metadata.label(LABEL_SERVICE_NAME).unwrap_or("").into();
        let used = !skipped && address_type != AddressType::Fqdn;
        let ports = raw.ports.unwrap_or_default().into_iter().enumerate().filter(|_| used);
        let ports = ports.filter_map(|(n, port)| port_of(n, &port, &mut text, &mut invalid)).collect();
        let endpoints = raw.endpoints.unwrap_or_default().into_iter().enumerate().filter(|_| used);
        let endpoints =
            endpoints.filter_map(|(n, one)| endpoint_of(n, &one, address_type, &mut text, &mut invalid)).collect();
        Self {
            namespace: raw.metadata.namespace.into(),
            name: raw.metadata.name.into(),
            service,
            skipped,
            address_type,
            text: text.text.into(),
            ports,
            endpoints,
            invalid: invalid.done(),
        }
    }
}

fn port_of(n: usize, raw: &RawPort, text: &mut Text, invalid: &mut Invalid) -> Option<LeanSlicePort> {
    let Some(protocol) = protocol(raw.protocol.as_deref()) else {
        let protocol = raw.protocol.as_deref().unwrap_or_default();
        invalid.add(|| format!("ports[{n}].protocol"), format!("{protocol:?} is not one of TCP, UDP and SCTP"));
        return None;
    };
    let Some(port) = raw.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0) else {
        // "All ports" by a missing number is for other consumers; kube-proxy passes over it too.
        if let Some(port) = raw.port {
            invalid.add(|| format!("ports[{n}].port"), format!("{port} is not between 1 and 65535"));
        }
        return None;
    };
    let Some(name) = text.shared(raw.name.as_deref().unwrap_or("")) else {
        invalid.add(|| format!("ports[{n}].name"), "does not fit: the slice is larger than an API server allows");
        return None;
    };
    Some(LeanSlicePort { name, port, protocol })
}

fn endpoint_of(
    n: usize,
    raw: &RawEndpoint,
    kind: AddressType,
    text: &mut Text,
    invalid: &mut Invalid,
) -> Option<LeanEndpoint> {
    let Some(first) = raw.addresses.as_ref().and_then(|addresses| addresses.first()) else {
        invalid.add(|| format!("endpoints[{n}].addresses"), "is empty");
        return None;
    };
    let addr = invalid.ip(first, || format!("endpoints[{n}].addresses[0]"))?;
    if addr.is_ipv4() != (kind == AddressType::IPv4) {
        invalid.add(|| format!("endpoints[{n}].addresses[0]"), format!("{addr} is not {kind:?}, as the slice says"));
        return None;
    }
    if addr.is_unspecified() || addr.is_multicast() {
        invalid.add(|| format!("endpoints[{n}].addresses[0]"), format!("{addr} is no endpoint's address"));
        return None;
    }
    let conditions = raw.conditions.as_ref();
    let condition = |of: fn(&RawConditions) -> Option<bool>| conditions.and_then(of);
    let flags = EndpointFlags::new(
        condition(|c| c.ready).unwrap_or(true),
        condition(|c| c.serving).unwrap_or(true),
        condition(|c| c.terminating).unwrap_or(false),
    );
    let pod = raw.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| target.name.as_deref()).unwrap_or("");
    let hints = raw.hints.as_ref();
    let joined = |hints: Option<&Vec<RawHint>>| {
        hints.map(|hints| hints.iter().map(|hint| hint.name.as_str()).collect::<Vec<_>>().join(",")).unwrap_or_default()
    };
    let zones = joined(hints.and_then(|hints| hints.for_zones.as_ref()));
    let nodes = joined(hints.and_then(|hints| hints.for_nodes.as_ref()));
    // A text that does not fit is of an object larger than an API server allows.
    Some(LeanEndpoint {
        addr,
        flags,
        pod: text.own(pod).unwrap_or_default(),
        node: text.shared(raw.node_name.as_deref().unwrap_or("")).unwrap_or_default(),
        hint_zones: text.shared(&zones).unwrap_or_default(),
        hint_nodes: text.shared(&nodes).unwrap_or_default(),
    })
}
