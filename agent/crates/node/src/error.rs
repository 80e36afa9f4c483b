//! Every way a Node's data can be wrong.

/// What cannot be put into, or taken from, a Node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// `--node-labels` names keys that the API server's NodeRestriction refuses from a node.
    #[error(
        "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: {}: a node may set only labels \
         with a prefix of kubelet.kubernetes.io or node.kubernetes.io there, and {}",
        keys.join(", "), crate::label::OWN_LABELS.join(", ")
    )]
    ForbiddenLabels {
        /// The keys, in order.
        keys: Vec<String>,
    },
    /// A label's key or value is not one.
    #[error("node label {key}={value}: {problem}")]
    Label {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with which of them.
        problem: String,
    },
    /// A range in the Node's spec is none.
    #[error("node {node} has podCIDR {text:?}, which is not a network such as 10.244.1.0/24")]
    PodCidr {
        /// The node.
        node: String,
        /// What stands there.
        text: String,
    },
    /// The Node's spec has several ranges of one family, or more than two.
    #[error("node {node} has podCIDRs {cidrs}: at most one IPv4 and one IPv6 range can be used")]
    PodCidrs {
        /// The node.
        node: String,
        /// What stands there, separated by commas.
        cidrs: String,
    },
}
