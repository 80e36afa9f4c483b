//! Who asks for frontends.

use jiff::Timestamp;
use orlop_model::{PodKey, PodUid, ServiceKey};
use std::cmp::Ordering;
use std::fmt;

/// Who has a frontend, or would like to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendOwner {
    /// A Service.
    Service(ServiceKey),
    /// A pod, by one of its host ports.
    Pod(PodKey),
}

impl FrontendOwner {
    /// The Service, if it is one.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Service(key) => Some(key),
            Self::Pod(_) => None,
        }
    }
}

/// `Service namespace/name`, `Pod namespace/name`.
impl fmt::Display for FrontendOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Pod(key) => write!(f, "Pod {key}"),
        }
    }
}

/// As the compiler keeps it. Two pods may have one name while the old one ends. Pods
/// are behind a pointer, because nearly all entries are Services.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    Service(ServiceKey),
    Pod(Box<(PodUid, PodKey)>),
}

/// What an owner is found by. Services come before pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OwnerName<'a> {
    Service(&'a ServiceKey),
    Pod(&'a PodUid),
}

impl Owner {
    pub(crate) fn name(&self) -> OwnerName<'_> {
        match self {
            Self::Service(key) => OwnerName::Service(key),
            Self::Pod(pod) => OwnerName::Pod(&pod.0),
        }
    }

    pub(crate) fn public(&self) -> FrontendOwner {
        match self {
            Self::Service(key) => FrontendOwner::Service(key.clone()),
            Self::Pod(pod) => FrontendOwner::Pod(pod.1.clone()),
        }
    }

    pub(crate) fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Service(key) => Some(key),
            Self::Pod(_) => None,
        }
    }

    /// Who comes first when two want the same: Services before pods, the older before
    /// the newer (who has no age is newest), then by name.
    pub(crate) fn order(&self, created: Option<Timestamp>, other: (&Self, Option<Timestamp>)) -> Ordering {
        let class = |owner: &Self| matches!(owner, Self::Pod(_));
        let age = |created: Option<Timestamp>| created.unwrap_or(Timestamp::MAX);
        let (owner, other_created) = other;
        (class(self), age(created), self.name()).cmp(&(class(owner), age(other_created), owner.name()))
    }
}
