//! What load balancers may ask of this node, and who wants the same address.

use super::{Inner, Services};
use crate::events::{About, EventLog, NODE};
use crate::health::{HealthCheck, HealthChecks};
use orlop_lb::{Compiler, Conflict, FrontendOwner, IpFamily};
use orlop_model::{EventKind, ServiceKey};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

impl Services {
    /// Health checks of Services, now and whenever they change.
    pub fn health_checks(&self) -> watch::Receiver<Arc<HealthChecks>> {
        self.checks.subscribe()
    }

    /// A Service was set or removed.
    pub(super) fn check(&self, compiler: &Compiler, key: &ServiceKey) {
        let check = compiler.health_check(key).map(of_compiler);
        self.checks.send_if_modified(|checks| {
            let new = checks.get(key) != check.as_ref();
            if new {
                let checks = Arc::make_mut(checks);
                match check {
                    Some(check) => checks.insert(key.clone(), check),
                    None => checks.remove(key),
                };
            }
            new
        });
    }

    /// All of them anew.
    pub(super) fn check_all(&self, compiler: &Compiler) {
        let checks = compiler.health_checks().map(|check| (check.service.clone(), of_compiler(check)));
        self.checks.send_replace(Arc::new(checks.collect()));
    }
}

fn of_compiler(check: orlop_lb::HealthCheck<'_>) -> HealthCheck {
    let families = [(IpFamily::IPv4, check.ipv4), (IpFamily::IPv6, check.ipv6)];
    let local = families.into_iter().filter_map(|(family, count)| Some((family, count?)));
    HealthCheck { port: check.port, local: local.collect() }
}

impl Inner {
    /// Tells of each conflict once, until it is over: to the pod that does not get its
    /// port, or to who looks after the node.
    pub(super) fn tell_conflicts(&mut self, events: &EventLog) {
        let conflicts = self.compiler.conflicts();
        let now: BTreeSet<String> = conflicts.iter().map(ToString::to_string).collect();
        for conflict in conflicts.iter().filter(|conflict| !self.conflicts.contains(&conflict.to_string())) {
            self.tell(conflict, events);
        }
        self.conflicts = now;
    }

    fn tell(&self, conflict: &Conflict, events: &EventLog) {
        let message = conflict.to_string();
        match &conflict.loser {
            FrontendOwner::Service(_) => events.record(NODE, EventKind::Warning, "FrontendConflict", message),
            FrontendOwner::Pod(key) => {
                for pod in self.host_ports.values().filter(|pod| pod.pod == *key) {
                    let about = About::refused(key, pod.uid.as_str());
                    events.tell(&about, EventKind::Warning, "HostPortConflict", message.clone());
                }
            }
        }
    }
}
