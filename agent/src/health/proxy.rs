//! `/healthz` and `/livez` of kube-proxy (`pkg/proxy/healthcheck/proxy_health.go` of v1.36).

use super::answer::{Answer, not_found};
use super::http::{self, Families};
use crate::events::NODE;
use crate::node::Node;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node as ApiNode;
use orlop_lb::IpFamily;
use orlop_model::EventKind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A change that is not in the tables for so long makes the node unhealthy: twice kube-proxy's `syncPeriod`.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// A port that is taken is tried again so much later.
const RETRY: Duration = Duration::from_secs(10);
/// The cluster autoscaler's, on a node that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Whether the service tables are what they should be. Pure; the default has never written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableHealth {
    updated: Option<Timestamp>,
    /// Since when something should be in the tables that is not.
    pending: Option<Timestamp>,
}

impl TableHealth {
    /// A change was written; others may wait.
    pub fn written(&mut self, now: Timestamp) {
        if self.pending.is_none() {
            self.updated = Some(now);
        }
    }

    /// All is written.
    pub fn repaired(&mut self, now: Timestamp) {
        (self.updated, self.pending) = (Some(now), None);
    }

    /// A change could not be written and waits.
    pub fn failed(&mut self, now: Timestamp) {
        self.pending.get_or_insert(now);
    }

    /// Whether nothing waits for too long.
    pub fn healthy(&self, now: Timestamp) -> bool {
        self.pending.is_none_or(|since| now.duration_since(since) < LATE)
    }

    /// Whether a change waits.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
}

/// The document, with the fields in the order of Go's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyHealth {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, FamilyHealth>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyHealth {
    last_updated: String,
    healthy: bool,
}

/// The answer to a path. `eligible`: the node is not about to be removed.
fn answer(path: &str, tables: TableHealth, families: &BTreeSet<IpFamily>, eligible: bool, now: Timestamp) -> Answer {
    let (healthz, node_eligible) = match path {
        "/healthz" => (eligible, Some(eligible)),
        "/livez" => (true, None),
        _ => return not_found(),
    };
    let healthy = tables.healthy(now);
    let good = healthy && healthz;
    // Go's zero time stands for never.
    let updated = tables.updated.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string());
    let of_family = || FamilyHealth { last_updated: updated.clone(), healthy };
    let known = tables.updated.is_some();
    let document = ProxyHealth {
        // Whoever is healthy has just seen to it that nothing waits.
        last_updated: if good { now.to_string() } else { updated.clone() },
        current_time: now.to_string(),
        node_eligible,
        healthy,
        status: families.iter().filter(|_| known).map(|family| (family.to_string(), of_family())).collect(),
    };
    let body = serde_json::to_string(&document).expect("texts and truths are JSON");
    Answer { status: if good { 200 } else { 503 }, kind: "application/json", weight: None, body }
}

/// Whether load balancers may still send to the node.
fn is_eligible(node: Option<&ApiNode>) -> bool {
    let Some(node) = node else { return false };
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// Answers for ever, where the configuration says so.
pub(crate) async fn serve(node: Arc<Node>) {
    let Some(address) = node.config.services.healthz else { return };
    let mut told = false;
    let listener = loop {
        match http::bind(address, Families::Both) {
            Ok(listener) => break listener,
            Err(error) if told => tracing::debug!(%address, err = %error, "health check of Services not opened"),
            Err(error) => {
                let message = format!(
                    "the health check of Services cannot listen on {address}: {error}; end who has the port, or \
                     choose another with --healthz-bind-address"
                );
                node.events.record(NODE, EventKind::Warning, "FailedToStartProxierHealthcheck", message);
                told = true;
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    let families: BTreeSet<IpFamily> = node.config.node_ips.iter().map(|ip| IpFamily::of(*ip)).collect();
    let _serving = http::serve(listener, move |path| {
        let held = node.cluster.as_ref().map(|cluster| cluster.registered.borrow().clone());
        // Without a cluster there is nobody to remove the node.
        let eligible = held.is_none_or(|held| is_eligible(held.as_deref()));
        answer(path, node.services.table_health(), &families, eligible, Timestamp::now())
    });
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    /// Tables that were written at 0 s, and failed at these times.
    fn failed_at(times: &[i64]) -> TableHealth {
        let mut tables = TableHealth::default();
        tables.written(at(0));
        times.iter().for_each(|time| tables.failed(at(*time)));
        tables
    }

    #[track_caller]
    fn check(path: &str, tables: TableHealth, eligible: bool, now: i64, want: (u16, Value)) {
        let families = BTreeSet::from([IpFamily::IPv4]);
        let answer = answer(path, tables, &families, eligible, at(now));
        assert_eq!((answer.status, serde_json::from_str(&answer.body).unwrap()), want);
    }

    fn document(updated: i64, now: i64, healthy: bool, eligible: Option<bool>) -> Value {
        let time = |seconds| at(seconds).to_string();
        let mut document = json!({
            "lastUpdated": time(updated), "currentTime": time(now), "healthy": healthy,
            "status": {"IPv4": {"lastUpdated": time(0), "healthy": healthy}},
        });
        if let Some(eligible) = eligible {
            document["nodeEligible"] = json!(eligible);
        }
        document
    }

    #[test]
    fn healthy_until_a_change_waits_for_a_minute() {
        for (path, eligible) in [("/healthz", Some(true)), ("/livez", None)] {
            check(path, failed_at(&[]), true, 500, (200, document(500, 500, true, eligible)));
            check(path, failed_at(&[100, 159]), true, 159, (200, document(159, 159, true, eligible)));
            // The first of them counts.
            check(path, failed_at(&[100, 159]), true, 160, (503, document(0, 160, false, eligible)));
        }
    }

    #[test]
    fn a_node_that_is_to_be_deleted_lives_but_is_not_eligible() {
        check("/healthz", failed_at(&[]), false, 9, (503, document(0, 9, true, Some(false))));
        check("/livez", failed_at(&[]), false, 9, (200, document(9, 9, true, None)));
    }

    #[test]
    fn a_change_that_was_written_hides_no_other_that_waits() {
        let mut tables = failed_at(&[100]);
        tables.written(at(150));
        assert_eq!((tables.healthy(at(159)), tables.healthy(at(160))), (true, false));
        tables.repaired(at(170));
        check(
            "/livez",
            tables,
            true,
            500,
            (200, {
                let mut want = document(500, 500, true, None);
                want["status"]["IPv4"]["lastUpdated"] = json!(at(170).to_string());
                want
            }),
        );
    }

    #[test]
    fn before_the_first_write_it_starts_up() {
        let tables = TableHealth::default();
        let want = json!({"lastUpdated": at(900).to_string(), "currentTime": at(900).to_string(), "healthy": true});
        check("/livez", tables, true, 900, (200, want));
        assert_eq!(answer("/", tables, &BTreeSet::new(), true, at(0)).status, 404);
    }

    #[test]
    fn fields_come_in_gos_order() {
        let body = answer("/healthz", failed_at(&[]), &BTreeSet::new(), true, at(0)).body;
        let time = at(0);
        let want =
            format!("{{\"lastUpdated\":\"{time}\",\"currentTime\":\"{time}\",\"nodeEligible\":true,\"healthy\":true}}");
        assert_eq!(body, want);
    }

    #[test]
    fn who_is_eligible() {
        let node = |text: Value| serde_json::from_value::<ApiNode>(text).unwrap();
        let taint =
            |key: &str| node(json!({"metadata": {}, "spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}}));
        assert!(is_eligible(Some(&taint("node.kubernetes.io/unschedulable"))));
        assert!(!is_eligible(Some(&taint(TO_BE_DELETED))));
        assert!(!is_eligible(Some(&node(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})))));
        assert!(!is_eligible(None));
    }
}
