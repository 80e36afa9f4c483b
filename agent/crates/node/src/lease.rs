//! The Lease by which the node says that it is alive.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

/// Where nodes' Leases live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Who holds the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The Node's name, which is the Lease's too.
    pub node: String,
    /// The Node's UID, once it is known; without it the Lease has no owner and outlives the Node.
    pub uid: Option<String>,
    /// `nodeLeaseDurationSeconds`.
    pub seconds: i32,
}

impl LeaseHolder {
    /// How often the Lease is renewed: a quarter of its duration.
    #[must_use]
    pub fn renew_every(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.seconds.max(0))).mul_f64(0.25)
    }
}

/// The Lease to send: a new one for `POST`, or `existing` renewed for `PUT` with its
/// `resourceVersion`, whatever others have put into it kept.
#[must_use]
pub fn lease(existing: Option<&Lease>, holder: &LeaseHolder, now: Timestamp) -> Lease {
    let mut lease = existing.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(holder.node.clone()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if existing.is_none() {
        spec.holder_identity = Some(holder.node.clone());
    }
    spec.lease_duration_seconds = Some(holder.seconds);
    spec.renew_time = Some(MicroTime(now));
    if let Some(uid) = &holder.uid
        && lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
    {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: holder.node.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        }]);
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holder(uid: Option<&str>) -> LeaseHolder {
        LeaseHolder { node: "n1".into(), uid: uid.map(str::to_owned), seconds: 40 }
    }

    fn at(milli: i64) -> Timestamp {
        Timestamp::from_millisecond(milli).unwrap()
    }

    #[test]
    fn made_then_renewed() {
        let made = lease(None, &holder(None), at(1500));
        let want = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "n1", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40, "renewTime": "1970-01-01T00:00:01.500000Z"},
        });
        assert_eq!(serde_json::to_value(&made).unwrap(), want);

        let mut stored = made;
        stored.metadata.resource_version = Some("7".into());
        let renewed = lease(Some(&stored), &holder(Some("u")), at(11_500));
        let mut want = serde_json::to_value(&stored).unwrap();
        want["spec"]["renewTime"] = json!("1970-01-01T00:00:11.500000Z");
        want["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]);
        assert_eq!(serde_json::to_value(&renewed).unwrap(), want);
        assert_eq!(lease(Some(&renewed), &holder(Some("other")), at(11_500)), renewed, "an owner is never replaced");
    }

    #[test]
    fn four_renewals_a_lease() {
        assert_eq!(holder(None).renew_every(), SignedDuration::from_secs(10));
    }
}
