//! Services and EndpointSlices from an API server. Whoever watches tells every
//! event here; only what it touches is worked out anew.

use super::{Inner, Services};
use crate::events::EventLog;
use orlop_lb::{Cluster, InvalidItem, LeanEndpointSlice, LeanService, ListKind, ServiceVariables, Touched};
use orlop_model::{EventKind, ServiceKey};

/// What a watch of Services says.
#[derive(Debug)]
pub(crate) enum ServiceEvent {
    /// A list begins: the first one, or a new one after the watch was lost.
    Restarting,
    /// Added, changed, or an item of the list.
    Applied(LeanService),
    /// Removed.
    Deleted(ServiceKey),
    /// The list is whole.
    Restarted,
}

/// What a watch of EndpointSlices says.
#[derive(Debug)]
pub(crate) enum SliceEvent {
    /// A list begins: the first one, or a new one after the watch was lost.
    Restarting,
    /// Added, changed, or an item of the list.
    Applied(LeanEndpointSlice),
    /// Removed.
    Deleted {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The list is whole.
    Restarted,
}

impl Services {
    /// Says what EndpointSlices call this node; before any event.
    pub fn for_node(self, name: &str) -> Self {
        self.lock().cluster = Cluster::new(name);
        self
    }

    /// The zone that the Node's label says; endpoints for other zones are left alone
    /// where slices have hints.
    pub fn set_zone(&self, zone: Option<&str>, events: &EventLog) {
        let mut inner = self.lock();
        let touched = inner.cluster.set_zone(zone);
        self.follow(&mut inner, &touched, events);
    }

    /// A Service of the API server. Its addresses and node ports are those that the
    /// object has.
    pub fn service_event(&self, event: ServiceEvent, events: &EventLog) {
        let mut inner = self.lock();
        let touched = match event {
            ServiceEvent::Restarting => {
                inner.cluster.restarting(ListKind::Services);
                return;
            }
            ServiceEvent::Applied(mut service) => {
                let invalid = std::mem::take(&mut service.invalid);
                tell(&format!("Service {}", service.key), &invalid, events);
                inner.cluster.apply_service(service)
            }
            ServiceEvent::Deleted(key) => {
                events.forget(&format!("Service {key}"));
                inner.cluster.delete_service(&key)
            }
            ServiceEvent::Restarted => inner.cluster.restarted(ListKind::Services),
        };
        self.follow(&mut inner, &touched, events);
    }

    /// An EndpointSlice of the API server.
    pub fn slice_event(&self, event: SliceEvent, events: &EventLog) {
        let mut inner = self.lock();
        let touched = match event {
            SliceEvent::Restarting => {
                inner.cluster.restarting(ListKind::Slices);
                return;
            }
            SliceEvent::Applied(mut slice) => {
                let object = format!("EndpointSlice {}/{}", slice.namespace(), slice.name());
                match slice.take_invalid() {
                    none if none.is_empty() => events.forget(&object),
                    invalid => tell(&object, &invalid, events),
                }
                inner.cluster.apply_slice(slice)
            }
            SliceEvent::Deleted { namespace, name } => {
                events.forget(&format!("EndpointSlice {namespace}/{name}"));
                inner.cluster.delete_slice(&namespace, &name)
            }
            SliceEvent::Restarted => inner.cluster.restarted(ListKind::Slices),
        };
        self.follow(&mut inner, &touched, events);
    }

    /// The Services of a namespace for the environment of its pods, by name. Those of
    /// the manifests are among them.
    pub fn variables(&self, namespace: &str) -> Vec<ServiceVariables> {
        let inner = self.lock();
        let own = inner.wanted.values().filter(|service| service.key.namespace() == namespace);
        let mut variables: Vec<ServiceVariables> = own.filter_map(ServiceVariables::of).collect();
        variables.extend(inner.cluster.variables(namespace));
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        variables
    }
}

impl Services {
    /// Makes the tables follow what was touched.
    pub(super) fn follow(&self, inner: &mut Inner, touched: &Touched, events: &EventLog) {
        if !inner.open {
            return;
        }
        for key in touched {
            match inner.cluster.input(key) {
                Some(input) => self.put(inner, &input, events),
                None => self.remove(inner, key, events),
            }
        }
        if !touched.is_empty() {
            inner.tell_conflicts(events);
        }
    }
}

/// What of an object cannot be used is told; the rest of it is used.
fn tell(object: &str, invalid: &[InvalidItem], events: &EventLog) {
    for item in invalid {
        events.record(object, EventKind::Warning, "InvalidItem", format!("left out: {item}"));
    }
}
