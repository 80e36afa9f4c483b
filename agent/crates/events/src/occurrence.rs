//! What happened to which object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use orlop_model::{ContainerRole, EventKind};

/// Where events about objects without a namespace go.
const NAMESPACE_DEFAULT: &str = "default";
/// Longest name of an object, in bytes (RFC 1123 subdomain as Kubernetes has it).
const NAME_BYTES_MAX: usize = 253;

/// The object that an event is about. Empty strings are left out of the Event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regarding {
    /// Such as `v1`.
    pub api_version: String,
    /// Such as `Pod`.
    pub kind: String,
    /// Empty for objects that have none; the event goes to `default` then.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Which state of it we knew. No two events differ by this.
    pub resource_version: String,
    /// Which part of it, such as `spec.containers{web}`.
    pub field_path: String,
}

impl Regarding {
    /// A pod.
    #[must_use]
    pub fn pod(namespace: &str, name: &str, uid: &str) -> Self {
        Self { namespace: namespace.to_owned(), uid: uid.to_owned(), ..Self::v1("Pod", name) }
    }

    /// A node. With its uid, if that is known: `kubectl describe node` looks for events by it.
    /// Kubelets before 1.37 sent none, and their events are not shown there (kubernetes#138524).
    #[must_use]
    pub fn node(name: &str, uid: Option<&str>) -> Self {
        Self { uid: uid.unwrap_or_default().to_owned(), ..Self::v1("Node", name) }
    }

    /// Any object of the core group.
    #[must_use]
    pub fn v1(kind: &str, name: &str) -> Self {
        Self { api_version: "v1".to_owned(), kind: kind.to_owned(), name: name.to_owned(), ..Self::default() }
    }

    /// The object as it was at this resourceVersion.
    #[must_use]
    pub fn at_version(self, resource_version: &str) -> Self {
        Self { resource_version: resource_version.to_owned(), ..self }
    }

    /// One container of the pod.
    #[must_use]
    pub fn container(self, role: ContainerRole, name: &str) -> Self {
        let list = match role {
            ContainerRole::Main => "containers",
            ContainerRole::Init => "initContainers",
        };
        Self { field_path: format!("spec.{list}{{{name}}}"), ..self }
    }
}

impl From<&Regarding> for ObjectReference {
    fn from(of: &Regarding) -> Self {
        Self {
            api_version: some(&of.api_version),
            kind: some(&of.kind),
            namespace: some(&of.namespace),
            name: some(&of.name),
            uid: some(&of.uid),
            resource_version: some(&of.resource_version),
            field_path: some(&of.field_path),
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// To which object.
    pub regarding: Regarding,
    /// Whether somebody has to act.
    pub kind: EventKind,
    /// One word for programs, such as `Pulled`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Occurrence {
    pub(crate) fn kind_text(&self) -> &'static str {
        match self.kind {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        }
    }

    /// An Event that counts one, without who reports it.
    pub(crate) fn event(&self, source: &EventSource, now: Timestamp, random: u128) -> Event {
        let of = &self.regarding;
        let namespace = if of.namespace.is_empty() { NAMESPACE_DEFAULT } else { &of.namespace };
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(&of.name, now, random)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: of.into(),
            reason: Some(self.reason.clone()),
            message: Some(self.message.clone()),
            source: Some(source.clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(self.kind_text().to_owned()),
            ..Event::default()
        }
    }
}

/// `NAME.NANOSECONDS`, the latter in hexadecimal; a random UUID where that is no name.
fn event_name(of: &str, now: Timestamp, random: u128) -> String {
    let name = format!("{of}.{:x}", now.as_nanosecond());
    if is_subdomain(&name) { name } else { uuid(random) }
}

fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
        ends && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label)
}

/// RFC 9562, version 4.
fn uuid(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let now = Timestamp::from_nanosecond(0x17b4_2ff0_1234_5678).unwrap();
        let check = |of: &str, want: &str| assert_eq!(event_name(of, now, u128::MAX), want, "{of}");
        let any = "ffffffff-ffff-4fff-bfff-ffffffffffff";
        check("web-0", "web-0.17b42ff012345678");
        check("n1.example.com", "n1.example.com.17b42ff012345678");
        check("", any);
        check("UPPER", any);
        check("-web", any);
        check("web-", any);
        check("a..b", any);
        check(&"a".repeat(236), &format!("{}.17b42ff012345678", "a".repeat(236)));
        check(&"a".repeat(237), any);
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn parts_of_a_pod() {
        let pod = Regarding::pod("ns", "web", "u1");
        assert_eq!(pod.clone().container(ContainerRole::Main, "c").field_path, "spec.containers{c}");
        assert_eq!(pod.container(ContainerRole::Init, "c").field_path, "spec.initContainers{c}");
    }
}
