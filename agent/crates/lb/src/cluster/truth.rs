//! What this node knows of its own pods before anyone else does.

use crate::{EndpointFlags, PodEndpoint};
use orlop_model::{PodKey, PodUid};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Pods that are gone and whose slice has not said so yet. A pod that no slice ever
/// names stays among them until others push it out.
const GONE_PODS_MAX: usize = 1_024;

/// What is known of one address of one pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Truth {
    /// Nothing: the slice counts.
    #[default]
    Unknown,
    /// It runs, and this is how.
    Runs(EndpointFlags),
    /// Nothing of it serves any more.
    Gone,
}

impl Truth {
    /// The worse of what the slice says and what is known; `None` when there is no
    /// such endpoint any more.
    pub(super) fn worsen(self, slice: EndpointFlags, publish_not_ready: bool) -> Option<EndpointFlags> {
        match self {
            Self::Unknown => Some(slice),
            Self::Gone => None,
            Self::Runs(own) => {
                // As the endpoint slice controller has it.
                let ready = publish_not_ready || (own.ready() && !own.terminating());
                Some(EndpointFlags::new(
                    slice.ready() && ready,
                    slice.serving() && own.serving(),
                    slice.terminating() || own.terminating(),
                ))
            }
        }
    }
}

#[derive(Debug)]
struct Known {
    uid: PodUid,
    truth: Truth,
    /// When it was gone, by count.
    since: u64,
}

/// Own pods, by name and address: two pods may have one name (the old one still
/// ends) or one address (the node's).
#[derive(Debug, Default)]
pub(super) struct Truths {
    known: BTreeMap<(PodKey, IpAddr), Known>,
    /// Gone pods that a slice stopped naming.
    dropped: BTreeSet<PodKey>,
    count: u64,
}

impl Truths {
    pub(super) fn of(&self, pod: &PodKey, addr: IpAddr) -> Truth {
        self.known.get(&(pod.clone(), addr)).map_or(Truth::Unknown, |known| known.truth)
    }

    /// Where a pod stands. Returns the names of the pods of which something else
    /// is known now.
    pub(super) fn set(&mut self, uid: &PodUid, pod: Option<&PodEndpoint>) -> BTreeSet<PodKey> {
        let mut changed = BTreeSet::new();
        self.count += 1;
        let stays = |pod: &PodEndpoint, addr: &IpAddr| pod.ips.contains(addr);
        for ((key, addr), known) in self.known.iter_mut().filter(|(_, known)| known.uid == *uid) {
            if pod.is_none_or(|pod| pod.key != *key || !stays(pod, addr)) && known.truth != Truth::Gone {
                (known.truth, known.since) = (Truth::Gone, self.count);
                changed.insert(key.clone());
            }
        }
        if let Some(pod) = pod {
            let truth = Truth::Runs(EndpointFlags::new(pod.ready, pod.serving, pod.terminating));
            for addr in &pod.ips {
                let known = Known { uid: uid.clone(), truth, since: 0 };
                let old = self.known.insert((pod.key.clone(), addr.to_canonical()), known);
                if old.is_none_or(|old| old.truth != truth) {
                    changed.insert(pod.key.clone());
                }
            }
        }
        self.limit();
        changed
    }

    /// Pushes the oldest out.
    fn limit(&mut self) {
        let gone = || self.known.iter().filter(|(_, known)| known.truth == Truth::Gone);
        if gone().count() > GONE_PODS_MAX
            && let Some(oldest) = gone().min_by_key(|(_, known)| known.since).map(|(key, _)| key.clone())
        {
            self.known.remove(&oldest);
        }
    }

    /// A slice that named the pod changed or went.
    pub(super) fn dropped(&mut self, pod: PodKey) {
        self.dropped.insert(pod);
    }

    /// Forgets pods that are gone and that no slice names any more.
    pub(super) fn forget(&mut self, named: impl Fn(&PodKey, IpAddr) -> bool) {
        for pod in std::mem::take(&mut self.dropped) {
            self.known.retain(|(key, addr), known| *key != pod || known.truth != Truth::Gone || named(key, *addr));
        }
    }
}
