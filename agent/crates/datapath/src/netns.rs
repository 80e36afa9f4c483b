//! Whose sockets are translated: those of the node's own network namespace and of its
//! pods'. The cgroup holds others, too, and to them a Service's address may be
//! somebody else's.

use orlop_ebpf_abi::NetnsKind as Raw;
use orlop_kernel::Netns;
use orlop_model::Ifindex;

use crate::{Datapath, Error};

/// What a network namespace is to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetnsKind {
    /// The node's own: loopback addresses with NodePorts and host ports are its.
    Node,
    /// A pod's, with the host-side interface that it goes with.
    Pod(Ifindex),
}

impl NetnsKind {
    fn raw(self) -> u32 {
        match self {
            Self::Node => Raw::NODE,
            Self::Pod(host) => Raw::POD | host.get() << Raw::DEVICE_SHIFT,
        }
    }

    fn of(raw: u32) -> Option<Self> {
        match (raw & Raw::MASK, Ifindex::new(raw >> Raw::DEVICE_SHIFT)) {
            (Raw::NODE, _) => Some(Self::Node),
            (Raw::POD, Some(host)) => Some(Self::Pod(host)),
            _ => None,
        }
    }
}

impl Datapath {
    /// Translates the sockets of a namespace, by its cookie
    /// ([`orlop_kernel::Netns::cookie`]). Pods' and the calling thread's are set by
    /// [`attach_pod`](Self::attach_pod) and [`open`](Self::open).
    ///
    /// # Errors
    /// A full map.
    pub fn set_netns(&self, cookie: u64, kind: NetnsKind) -> Result<(), Error> {
        self.netns.put(&cookie, &kind.raw())
    }

    /// Leaves the namespace's sockets alone again; those that are connected stay so.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget_netns(&self, cookie: u64) -> Result<(), Error> {
        self.netns.remove(&cookie)
    }

    /// The namespaces whose sockets are translated, by cookie.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn netns(&self) -> Result<Vec<(u64, NetnsKind)>, Error> {
        let entries = self.netns.entries()?;
        Ok(entries.into_iter().filter_map(|(cookie, raw)| Some((cookie, NetnsKind::of(raw)?))).collect())
    }

    /// A pod has one namespace, or none any more.
    pub(crate) fn set_pod_netns(&self, host: Ifindex, cookie: Option<u64>) -> Result<(), Error> {
        if let Some(cookie) = cookie {
            self.set_netns(cookie, NetnsKind::Pod(host))?;
        }
        self.forget_netns_where(|other, kind| kind == NetnsKind::Pod(host) && Some(other) != cookie)
    }

    /// After a start: the node's namespace is the one that this thread is in, and those of
    /// pods that are gone are nobody's.
    pub(crate) fn adopt_netns(&self) -> Result<(), Error> {
        let own = Netns::current().and_then(|netns| netns.cookie()).map_err(Error::Netns)?;
        self.set_netns(own, NetnsKind::Node)?;
        let pods = self.attached_pods()?;
        self.forget_netns_where(|cookie, kind| match kind {
            NetnsKind::Node => cookie != own,
            NetnsKind::Pod(host) => !pods.contains(&host),
        })
    }

    fn forget_netns_where(&self, is_stale: impl Fn(u64, NetnsKind) -> bool) -> Result<(), Error> {
        let mut stale = self.netns()?.into_iter().filter(|(cookie, kind)| is_stale(*cookie, *kind));
        stale.try_for_each(|(cookie, _)| self.forget_netns(cookie))
    }
}
