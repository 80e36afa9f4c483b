//! Services of the manifests: validated, and given addresses that they keep.

use super::{Inner, Services};
use crate::events::EventLog;
use crate::manifest::ManifestSet;
use jiff::Timestamp;
use orlop_lb::{Assignment, Service, ServiceCidr, assign};
use orlop_model::{EventKind, ServiceKey};
use std::collections::BTreeMap;
use std::fs;

impl Services {
    /// Makes the Services be what the manifests say.
    pub fn reconcile(&self, set: &ManifestSet, cidrs: &[ServiceCidr], events: &EventLog) {
        let mut inner = self.lock();
        for object in events.starting_with("Service ").keys() {
            let told = set.problems.iter().any(|problem| problem.object.as_ref() == Some(object));
            if !told && !set.services.contains_key(object.trim_start_matches("Service ")) {
                events.forget(object);
            }
        }
        let mut valid = Vec::new();
        for (key, (file, manifest)) in &set.services {
            let object = format!("Service {key}");
            match manifest.clone().validate() {
                Err(error) => {
                    let message = format!("{}: {error}", file.display());
                    events.record(&object, EventKind::Warning, "FailedValidation", message);
                }
                Ok(validated) => {
                    for warning in validated.warnings {
                        events.record(&object, EventKind::Warning, "UnsupportedField", warning);
                    }
                    valid.push(validated.service);
                }
            }
        }
        let (services, errors) = assign(valid, cidrs, &mut inner.assignment);
        for error in errors {
            events.record("Node", EventKind::Warning, "ServiceNotAssigned", error.to_string());
        }
        self.save(&inner.assignment, events);
        let wanted: BTreeMap<ServiceKey, Service> = services.into_iter().map(|s| (s.key.clone(), s)).collect();
        self.replace(&mut inner, wanted, events);
        inner.tell_conflicts(events);
    }

    fn replace(&self, inner: &mut Inner, wanted: BTreeMap<ServiceKey, Service>, events: &EventLog) {
        let gone: Vec<ServiceKey> = inner.wanted.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in gone {
            inner.wanted.remove(&key);
            inner.since.remove(&key);
            self.remove(inner, &key, events);
            events.forget(&format!("Service {key}"));
        }
        for (key, service) in wanted {
            if inner.wanted.get(&key) == Some(&service) {
                continue;
            }
            inner.since.entry(key.clone()).or_insert_with(Timestamp::now);
            if inner.open {
                let input = inner.input(&service);
                self.put(inner, &input, events);
            }
            inner.wanted.insert(key, service);
        }
    }

    /// Addresses that were given stay given, over restarts.
    fn save(&self, assignment: &Assignment, events: &EventLog) {
        let temporary = self.file.with_extension("new");
        let written = serde_json::to_vec(assignment)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            let message = format!("write {}: {error}", self.file.display());
            events.record("Node", EventKind::Warning, "FailedSaveServices", message);
        }
    }
}
