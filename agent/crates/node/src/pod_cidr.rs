//! The ranges of pod addresses that the control plane gave to the node.

use crate::NodeError;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// `spec.podCIDRs`, or `spec.podCIDR` where a control plane sets only that; primary
/// family first, bits behind the prefix cut off. Empty until they are allocated.
///
/// # Errors
/// A text that is no network, or two of one family.
pub fn pod_cidrs(node: &Node) -> Result<Vec<IpNet>, NodeError> {
    let Some(spec) = &node.spec else { return Ok(Vec::new()) };
    let name = || node.metadata.name.clone().unwrap_or_default();
    let listed = spec.pod_cidrs.clone().unwrap_or_default();
    let texts = if listed.is_empty() { spec.pod_cidr.clone().into_iter().collect() } else { listed };
    let mut cidrs: Vec<IpNet> = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let cidr: IpNet = text.parse().map_err(|_| NodeError::PodCidr { node: name(), text: text.clone() })?;
        if cidrs.iter().any(|other| other.addr().is_ipv4() == cidr.addr().is_ipv4()) {
            return Err(NodeError::PodCidrs { node: name(), cidrs: texts.join(", ") });
        }
        cidrs.push(cidr.trunc());
    }
    Ok(cidrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeSpec;

    #[track_caller]
    fn check(one: Option<&str>, several: &[&str], want: Result<&[&str], &str>) {
        let spec = NodeSpec {
            pod_cidr: one.map(str::to_owned),
            pod_cidrs: Some(several.iter().map(|text| (*text).to_owned()).collect()),
            ..NodeSpec::default()
        };
        let node = Node { spec: Some(spec), ..Node::default() };
        match (pod_cidrs(&node), want) {
            (Ok(got), Ok(want)) => assert_eq!(got.iter().map(ToString::to_string).collect::<Vec<_>>(), want),
            (Err(error), Err(part)) if error.to_string().contains(part) => {}
            (got, want) => panic!("{got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn ranges() {
        check(None, &[], Ok(&[]));
        check(Some(""), &[""], Ok(&[]));
        check(Some("10.0.1.0/24"), &[], Ok(&["10.0.1.0/24"]));
        check(Some("10.0.1.0/24"), &["10.0.1.0/24", "fd00::/64"], Ok(&["10.0.1.0/24", "fd00::/64"]));
        check(None, &["fd00::/64", "10.0.1.0/24"], Ok(&["fd00::/64", "10.0.1.0/24"]));
        check(None, &["10.0.1.7/24"], Ok(&["10.0.1.0/24"]));
        check(None, &["10.0.1.0"], Err("podCIDR \"10.0.1.0\""));
        check(None, &["10.0.1.0/33"], Err("10.0.1.0/33"));
        check(None, &["10.0.1.0/24", "10.0.2.0/24"], Err("10.0.1.0/24, 10.0.2.0/24: at most one"));
        check(None, &["10.0.1.0/24", "fd00::/64", "fd01::/64"], Err("at most one"));
    }
}
