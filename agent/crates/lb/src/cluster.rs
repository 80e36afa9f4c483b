//! The Services and EndpointSlices of a cluster, and what this node knows better
//! of its own pods.
//!
//! ```text
//!  LeanService ──────┐
//!  LeanEndpointSlice ┼▶ Cluster ─ names of the Services touched ─▶ input() ─▶ Compiler
//!  own pods ─────────┘
//! ```
//!
//! The order of events does not matter: a slice waits for its Service, and what two
//! slices say of one address counts once. An own pod takes its endpoint out at once
//! when it knows something worse than the slice; it never puts one in.

mod truth;

use crate::lean::{LeanEndpoint, LeanEndpointSlice, LeanService, ServiceVariables};
use crate::slab::{Named, Place, Slab};
use crate::{Endpoint, EndpointPort, Hint, Input, PodEndpoint, Span};
use orlop_model::{PodKey, PodUid, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use truth::Truths;

/// The Services whose entries may change: ask [`Cluster::input`] for each and tell
/// the compiler.
pub type Touched = Vec<ServiceKey>;

/// One of the two lists that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Cluster {
    node: Box<str>,
    /// This node's zone; empty while nobody has said it.
    zone: Box<str>,
    records: Slab<Record>,
    slices: Slab<Slice>,
    /// Slices that name a pod of this node.
    local: BTreeMap<PodKey, BTreeSet<Place>>,
    truths: Truths,
}

/// A Service by name, known or only named by its slices.
#[derive(Debug)]
struct Record {
    who: Who,
    slices: Vec<Place>,
    listed: bool,
}

#[derive(Debug)]
enum Who {
    Known(LeanService),
    Awaited(ServiceKey),
}

#[derive(Debug)]
struct Slice {
    lean: LeanEndpointSlice,
    record: Place,
    listed: bool,
}

/// What hints, joined by commas, say to who has this name.
fn hint(hints: &str, name: &str) -> Hint {
    match hints {
        "" => Hint::None,
        hints if !name.is_empty() && hints.split(',').any(|one| one == name) => Hint::Here,
        _ => Hint::Elsewhere,
    }
}

impl Record {
    fn key(&self) -> &ServiceKey {
        match &self.who {
            Who::Known(service) => &service.key,
            Who::Awaited(key) => key,
        }
    }
    fn known(&self) -> Option<&LeanService> {
        match &self.who {
            Who::Known(service) => Some(service),
            Who::Awaited(_) => None,
        }
    }
}

impl Named for Record {
    type Name<'a> = (&'a str, &'a str);
    fn name(&self) -> Self::Name<'_> {
        (self.key().namespace(), self.key().name())
    }
}

impl Named for Slice {
    type Name<'a> = (&'a str, &'a str);
    fn name(&self) -> Self::Name<'_> {
        (self.lean.namespace(), self.lean.name())
    }
}

impl Cluster {
    /// Knows nothing yet. `node` is this node's name, as slices write it.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), ..Self::default() }
    }

    /// The zone that this node's label says. Touches what has hints for zones.
    pub fn set_zone(&mut self, zone: Option<&str>) -> Touched {
        let zone = zone.unwrap_or("");
        if *self.zone == *zone {
            return Touched::new();
        }
        self.zone = zone.into();
        let hinted = |slice: &Slice| slice.lean.endpoints().iter().any(|one| one.hint_zones != Span::default());
        let slices = self.slices.iter().map(|(_, slice)| slice).filter(|slice| hinted(slice));
        let records: BTreeSet<Place> = slices.map(|slice| slice.record).collect();
        let known = records.iter().filter_map(|place| self.records.get(*place)).filter(|one| one.known().is_some());
        known.map(|record| record.key().clone()).collect()
    }

    /// A Service is new or changed.
    pub fn apply_service(&mut self, service: LeanService) -> Touched {
        let key = service.key.clone();
        let place = self.record(&key);
        let Some(record) = self.records.get_mut(place) else { return Touched::new() };
        record.listed = true;
        if record.known() == Some(&service) {
            return Touched::new();
        }
        record.who = Who::Known(service);
        vec![key]
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, key: &ServiceKey) -> Touched {
        let Some(place) = self.records.find((key.namespace(), key.name())) else { return Touched::new() };
        let Some(record) = self.records.get_mut(place) else { return Touched::new() };
        let known = record.known().is_some();
        record.who = Who::Awaited(key.clone());
        self.forget_if_empty(place);
        if known { vec![key.clone()] } else { Touched::new() }
    }

    /// An EndpointSlice is new or changed.
    pub fn apply_slice(&mut self, slice: LeanEndpointSlice) -> Touched {
        let Some(key) = slice.service() else {
            // It may have been a Service's until now.
            return self.delete_slice(slice.namespace(), slice.name());
        };
        let mut touched = Touched::new();
        if let Some(place) = self.slices.find((slice.namespace(), slice.name())) {
            match self.slices.get_mut(place) {
                Some(old) if old.lean == slice => {
                    old.listed = true;
                    return touched;
                }
                _ => touched = self.take_slice(place),
            }
        }
        let old = touched.first() == Some(&key);
        let record = self.record(&key);
        let place = self.slices.insert(Slice { lean: slice, record, listed: true });
        if let Some(record) = self.records.get_mut(record) {
            record.slices.push(place);
            record.slices.shrink_to_fit();
            if record.known().is_some() && !old {
                touched.push(key);
            }
        }
        for pod in self.local_pods(place) {
            self.local.entry(pod).or_default().insert(place);
        }
        self.forget_truths();
        touched
    }

    /// An EndpointSlice is gone.
    pub fn delete_slice(&mut self, namespace: &str, name: &str) -> Touched {
        let Some(place) = self.slices.find((namespace, name)) else { return Touched::new() };
        let touched = self.take_slice(place);
        self.forget_truths();
        touched
    }

    /// A list begins anew: until [`restarted`](Self::restarted) its items are applied.
    pub fn restarting(&mut self, kind: ListKind) {
        match kind {
            ListKind::Services => self.records.iter_mut().for_each(|record| record.listed = false),
            ListKind::Slices => self.slices.iter_mut().for_each(|slice| slice.listed = false),
        }
    }

    /// The list is whole: what it did not name is gone.
    pub fn restarted(&mut self, kind: ListKind) -> Touched {
        match kind {
            ListKind::Services => {
                let gone = self.records.iter().filter(|(_, record)| !record.listed && record.known().is_some());
                let gone: Vec<ServiceKey> = gone.map(|(_, record)| record.key().clone()).collect();
                gone.iter().flat_map(|key| self.delete_service(key)).collect()
            }
            ListKind::Slices => {
                let gone = self.slices.iter().filter(|(_, slice)| !slice.listed);
                let gone: Vec<Place> = gone.map(|(place, _)| place).collect();
                let touched: BTreeSet<ServiceKey> = gone.into_iter().flat_map(|place| self.take_slice(place)).collect();
                self.forget_truths();
                touched.into_iter().collect()
            }
        }
    }

    /// Where a pod of this node stands; `None` once nothing of it serves any more.
    pub fn set_local_pod(&mut self, uid: &PodUid, pod: Option<&PodEndpoint>) -> Touched {
        let concerned = self.truths.set(uid, pod);
        let slices = concerned.iter().filter_map(|key| self.local.get(key)).flatten();
        let records: BTreeSet<Place> =
            slices.filter_map(|slice| self.slices.get(*slice)).map(|slice| slice.record).collect();
        let known = records.iter().filter_map(|place| self.records.get(*place)).filter(|one| one.known().is_some());
        known.map(|record| record.key().clone()).collect()
    }

    /// The Service with its endpoints; `None` when there is none of this name, or
    /// another proxy serves it.
    #[must_use]
    pub fn input(&self, key: &ServiceKey) -> Option<Input> {
        self.input_of(self.records.get(self.records.find((key.namespace(), key.name()))?)?)
    }

    /// All Services with their endpoints, one made at a time.
    pub fn inputs(&self) -> impl Iterator<Item = Input> {
        self.records.iter().filter_map(|(_, record)| self.input_of(record))
    }

    /// The Service of this name.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&LeanService> {
        self.records.get(self.records.find((key.namespace(), key.name()))?)?.known()
    }

    /// All Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &LeanService> {
        self.records.iter().filter_map(|(_, record)| record.known())
    }

    /// What pods of a namespace find in their environment, by name of the Service.
    #[must_use]
    pub fn variables(&self, namespace: &str) -> Vec<ServiceVariables> {
        let own = self.services().filter(|service| service.key.namespace() == namespace);
        let mut variables: Vec<_> = own.filter_map(LeanService::variables).collect();
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        variables
    }

    fn record(&mut self, key: &ServiceKey) -> Place {
        match self.records.find((key.namespace(), key.name())) {
            Some(place) => place,
            None => {
                let who = Who::Awaited(key.clone());
                self.records.insert(Record { who, slices: Vec::new(), listed: true })
            }
        }
    }

    fn forget_if_empty(&mut self, place: Place) {
        let empty = |record: &Record| record.known().is_none() && record.slices.is_empty();
        if self.records.get(place).is_some_and(empty) {
            self.records.remove(place);
        }
    }

    fn take_slice(&mut self, place: Place) -> Touched {
        for pod in self.local_pods(place) {
            if let Some(slices) = self.local.get_mut(&pod) {
                slices.remove(&place);
                if slices.is_empty() {
                    self.local.remove(&pod);
                }
            }
            self.truths.dropped(pod);
        }
        let Some(slice) = self.slices.remove(place) else { return Touched::new() };
        let Some(record) = self.records.get_mut(slice.record) else { return Touched::new() };
        record.slices.retain(|other| *other != place);
        let touched = record.known().map(|service| service.key.clone());
        self.forget_if_empty(slice.record);
        touched.into_iter().collect()
    }

    /// Pods of this node that a slice names.
    fn local_pods(&self, place: Place) -> BTreeSet<PodKey> {
        let Some(slice) = self.slices.get(place).map(|slice| &slice.lean) else { return BTreeSet::new() };
        let own = slice.endpoints().iter().filter(|one| self.is_local(slice, one));
        own.filter_map(|one| PodKey::new(slice.namespace(), slice.text(one.pod)).ok()).collect()
    }

    fn is_local(&self, slice: &LeanEndpointSlice, endpoint: &LeanEndpoint) -> bool {
        !self.node.is_empty() && slice.text(endpoint.node) == &*self.node
    }

    /// Pods that are gone are remembered for as long as a slice names them.
    fn forget_truths(&mut self) {
        let (local, slices) = (&self.local, &self.slices);
        self.truths.forget(|pod, addr| {
            let named = local.get(pod).into_iter().flatten().filter_map(|place| slices.get(*place));
            named.map(|slice| &slice.lean).any(|slice| {
                let mut endpoints = slice.endpoints().iter();
                endpoints.any(|one| one.addr == addr && slice.text(one.pod) == pod.name())
            })
        });
    }

    fn input_of(&self, record: &Record) -> Option<Input> {
        let service = record.known().filter(|service| !service.skipped)?;
        let mut places = record.slices.clone();
        let name = |place: &Place| self.slices.get(*place).map(|slice| slice.lean.name());
        places.sort_by(|a, b| name(a).cmp(&name(b)));
        let slices = places.iter().filter_map(|place| self.slices.get(*place));
        let endpoints = slices.flat_map(|slice| self.endpoints_of(service, &slice.lean)).collect();
        Some(Input { service: service.service(), endpoints })
    }

    fn endpoints_of<'a>(
        &'a self,
        service: &'a LeanService,
        slice: &'a LeanEndpointSlice,
    ) -> impl Iterator<Item = Endpoint> + 'a {
        let port = |port: &crate::LeanSlicePort| EndpointPort {
            name: slice.text(port.name).into(),
            protocol: port.protocol,
            port: port.port,
        };
        let ports: Arc<[EndpointPort]> = slice.ports().iter().map(port).collect();
        slice.endpoints().iter().filter_map(move |one| {
            let pod = PodKey::new(slice.namespace(), slice.text(one.pod)).ok();
            let local = self.is_local(slice, one);
            let truth = pod.as_ref().filter(|_| local).map(|pod| self.truths.of(pod, one.addr));
            let flags = truth.unwrap_or_default().worsen(one.flags, service.publish_not_ready)?;
            Some(Endpoint {
                addr: one.addr,
                pod,
                local,
                zone: hint(slice.text(one.hint_zones), &self.zone),
                node: hint(slice.text(one.hint_nodes), &self.node),
                ready: flags.ready(),
                serving: flags.serving(),
                terminating: flags.terminating(),
                ports: Arc::clone(&ports),
            })
        })
    }
}
