//! What the compiler keeps of a Service or of a pod's host ports.

use super::Compiler;
use super::health::Health;
use crate::ids::BackendName;
use crate::lower::{self, Range, Use};
use crate::owner::{Owner, OwnerName};
use crate::slab::{Named, Place};
use crate::topology::Part;
use crate::{IpFamily, addr_ip, frontend_key, port_number, protocol_of};
use jiff::Timestamp;
use orlop_ebpf_abi::{Backend, BackendState, FrontendFlags, FrontendKey};
use orlop_model::Protocol;
use std::cmp::Ordering;

/// A Service, or a pod with host ports.
#[derive(Debug)]
pub(super) struct Entry {
    pub owner: Owner,
    pub created: Option<Timestamp>,
    pub groups: Box<[Group]>,
    pub health: Option<Box<Health>>,
}

/// A Service port in one family, or a host port: its frontends share one list of slots.
#[derive(Debug)]
pub(super) struct Group {
    pub port: u16,
    pub protocol: Protocol,
    pub family: IpFamily,
    /// Some frontend is open outside the cluster.
    pub outside: bool,
    /// Its number; 0 while every frontend that it asks for is another's.
    pub id: u32,
    /// The newest epoch that was given out.
    pub epoch: u32,
    /// A digest of the list for which it was given out; 0 for none that is known.
    pub digest: u64,
    /// Seconds that a client keeps its backend; 0 for none.
    pub affinity_s: u32,
    /// Frontends that it asks for, with their flags.
    pub frontends: Box<[(FrontendKey, u32)]>,
    /// All its backends, in the order of names.
    pub targets: Box<[Target]>,
    /// Clients of a load balancer's address; empty for all.
    pub ranges: Box<[Range]>,
}

/// A backend's place, and in the lowest bits what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target(u32);

impl Target {
    const CLUSTER: u32 = 1;
    const LOCAL: u32 = 1 << 1;
    const SERVING: u32 = 1 << 2;
    const PLACE_SHIFT: u32 = 3;

    fn new(place: Place, Use { part: Part { cluster, local }, serving }: Use) -> Self {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let bits = bit(cluster, Self::CLUSTER) | bit(local, Self::LOCAL) | bit(serving, Self::SERVING);
        Self(place << Self::PLACE_SHIFT | bits)
    }
    pub(super) fn place(self) -> Place {
        self.0 >> Self::PLACE_SHIFT
    }
    /// Of the cluster set.
    pub(super) fn cluster(self) -> bool {
        self.0 & Self::CLUSTER != 0
    }
    /// Of the local set.
    pub(super) fn local(self) -> bool {
        self.0 & Self::LOCAL != 0
    }
    /// New connections go there.
    pub(super) fn usable(self) -> bool {
        self.cluster() || self.local()
    }
    pub(super) fn serving(self) -> bool {
        self.0 & Self::SERVING != 0
    }
}

/// A backend, and how many use it.
#[derive(Debug)]
pub(super) struct Used {
    pub name: BackendName,
    /// Its number; 0 until it is in the tables.
    pub id: u32,
    /// Groups that have it as an endpoint of any kind.
    pub groups: u32,
    /// Of those, the ones that are in the tables.
    pub all: u32,
    /// Of those, the ones that send it new connections.
    pub usable: u32,
    /// Of those in the tables, the ones for which it still serves.
    pub serving: u32,
}

impl Used {
    pub(super) fn named(name: BackendName, id: u32) -> Self {
        Self { name, id, groups: 0, all: 0, usable: 0, serving: 0 }
    }

    /// A backend is active while a slot names it, and drains while it is only an
    /// endpoint (terminating, or not ready): connections that it has go on.
    pub(super) fn backend(&self) -> Backend {
        let (addr, port, proto) = self.name;
        let state = if self.usable > 0 { BackendState::Active } else { BackendState::Draining };
        Backend { addr, port, proto, state: state as u8 }
    }
}

impl Named for Entry {
    type Name<'a> = OwnerName<'a>;
    fn name(&self) -> OwnerName<'_> {
        self.owner.name()
    }
}

impl Named for Used {
    type Name<'a> = BackendName;
    fn name(&self) -> BackendName {
        self.name
    }
}

impl Entry {
    pub(super) fn named(owner: Owner) -> Self {
        Self { owner, created: None, groups: Box::default(), health: None }
    }

    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.owner.order(self.created, (&other.owner, other.created))
    }

    pub(super) fn frontends(&self) -> Vec<FrontendKey> {
        self.groups.iter().flat_map(|group| &group.frontends).map(|(key, _)| *key).collect()
    }

    /// Its host ports on one address of the node, with the node port of the same number.
    fn bound(&self) -> Vec<(FrontendKey, FrontendKey)> {
        let all = self.groups.iter().flat_map(|group| &group.frontends);
        all.filter_map(|(key, flags)| Some((node_port_of(key, *flags)?, *key))).collect()
    }
}

/// The node port that takes this host port over, if there is one: a host port on one
/// address yields to a node port of its number, which is open on every address.
pub(super) fn node_port_of(key: &FrontendKey, flags: u32) -> Option<FrontendKey> {
    let ip = addr_ip(key.addr);
    if flags & FrontendFlags::HOST_PORT == 0 || ip.is_unspecified() {
        return None;
    }
    Some(frontend_key(IpFamily::of(ip).unspecified(), port_number(key.port), protocol_of(key.proto)?))
}

impl Group {
    /// Some frontend sends packets on to other nodes as they are.
    pub(super) fn is_dsr(&self) -> bool {
        self.frontends.iter().any(|(_, flags)| flags & FrontendFlags::DSR != 0)
    }

    /// Whether this is the same Service port (or host port) as it was lowered before.
    fn continues(&self, new: &lower::Group) -> bool {
        let host_port = new.frontends.iter().any(|(_, flags)| flags & FrontendFlags::HOST_PORT != 0);
        (self.port, self.protocol, self.family) == (new.port, new.protocol, new.family)
            && (!host_port || self.frontends[..] == new.frontends[..])
    }
}

impl Compiler {
    fn before(&self, a: Place, b: Place) -> bool {
        matches!((self.entries.get(a), self.entries.get(b)), (Some(a), Some(b)) if a.order(b).is_lt())
    }

    /// Whether an entry has what it asks for.
    pub(super) fn has(&self, place: Place, (key, flags): &(FrontendKey, u32)) -> bool {
        if self.claims.winner(key) != Some(place) {
            return false;
        }
        let node_port = node_port_of(key, *flags).and_then(|node| self.claims.winner(&node));
        let service = node_port.and_then(|place| self.entries.get(place)).and_then(|entry| entry.owner.service());
        service.is_none()
    }

    /// Takes an entry's claims away.
    pub(super) fn withdraw(&mut self, place: Place) {
        let Some(entry) = self.entries.get(place) else { return };
        let (keys, bound) = (entry.frontends(), entry.bound());
        let mut claims = std::mem::take(&mut self.claims);
        for key in &keys {
            claims.remove(key, place, |a, b| self.before(a, b));
        }
        for (node_port, _) in &bound {
            claims.unwatch(node_port, place);
        }
        self.claims = claims;
    }

    /// Makes an entry's claims.
    pub(super) fn claim(&mut self, place: Place) {
        let Some(entry) = self.entries.get(place) else { return };
        let (keys, bound) = (entry.frontends(), entry.bound());
        let mut claims = std::mem::take(&mut self.claims);
        for key in &keys {
            claims.add(*key, place, |a, b| self.before(a, b));
        }
        for (node_port, own) in &bound {
            claims.watch(*node_port, *own, place);
        }
        self.claims = claims;
    }

    /// Gives an entry other groups; a group that stays keeps its number and epoch.
    pub(super) fn replace(&mut self, place: Place, lowered: &super::Lowered) {
        let mut groups = Vec::with_capacity(lowered.groups.len());
        for group in &lowered.groups {
            let mut targets = Vec::with_capacity(group.backends.len());
            for (name, for_what) in &group.backends {
                let used = self.backend_place(*name);
                if let Some(used) = self.backends.get_mut(used) {
                    used.groups += 1;
                }
                targets.push(Target::new(used, *for_what));
            }
            let old = self.entries.get(place).into_iter().flat_map(|entry| &entry.groups);
            let old = old.into_iter().find(|old| old.continues(group));
            let (id, epoch, digest) = old.map_or((0, 0, 0), |old| (old.id, old.epoch, old.digest));
            groups.push(Group {
                port: group.port,
                protocol: group.protocol,
                family: group.family,
                outside: group.outside,
                id,
                epoch,
                digest,
                affinity_s: group.affinity_s,
                frontends: group.frontends.clone().into(),
                targets: targets.into(),
                ranges: group.ranges.clone().into(),
            });
        }
        let Some(entry) = self.entries.get_mut(place) else { return };
        (entry.created, entry.health) = (lowered.created, lowered.health.map(Box::new));
        let old = std::mem::replace(&mut entry.groups, groups.into());
        self.release(&old);
    }

    fn backend_place(&mut self, name: BackendName) -> Place {
        match self.backends.find(name) {
            Some(place) => place,
            None => self.backends.insert(Used::named(name, 0)),
        }
    }

    /// What these groups had is theirs no more. A backend that was in the tables goes
    /// when the plan is made, any other at once.
    pub(super) fn release(&mut self, groups: &[Group]) {
        for group in groups {
            self.numbers.remove(&group.id);
        }
        for target in groups.iter().flat_map(|group| &group.targets) {
            let Some(used) = self.backends.get_mut(target.place()) else { continue };
            used.groups = used.groups.saturating_sub(1);
            if used.groups == 0 && used.id == 0 {
                self.backends.remove(target.place());
            }
        }
    }

    /// Adds an entry's uses of backends, or takes them away. Only groups that are in
    /// the tables use anything.
    pub(super) fn count(&mut self, place: Place, add: bool) {
        let step = |number: &mut u32| *number = if add { *number + 1 } else { number.saturating_sub(1) };
        let Some(entry) = self.entries.get(place) else { return };
        for target in entry.groups.iter().filter(|group| group.id != 0).flat_map(|group| &group.targets) {
            let Some(used) = self.backends.get_mut(target.place()) else { continue };
            step(&mut used.all);
            if target.usable() {
                step(&mut used.usable);
            }
            if target.serving() {
                step(&mut used.serving);
            }
        }
    }
}
