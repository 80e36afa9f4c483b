//! Every way the pod network fails, with its operands.

use ipnet::IpNet;
use orlop_kernel::KernelError;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// A failed step of the pod network.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// No address is left.
    #[error(
        "pod CIDR {cidr} is exhausted: {leased} of {capacity} addresses are leased and {cooling} were released less \
         than a minute ago; delete pods of this node or give it a larger --pod-cidr"
    )]
    Exhausted {
        /// Which range; the last one of its family.
        cidr: IpNet,
        /// Addresses in use.
        leased: usize,
        /// Addresses released too recently to be given out again.
        cooling: usize,
        /// Addresses the range can give out.
        capacity: u128,
    },
    /// The node has no pod CIDR at all.
    #[error("the node has no pod CIDR yet: its Node object has none, and no --pod-cidr was given")]
    NoCidr,
    /// An address was asked for that no range can give out.
    #[error("address {ip} is in none of the ranges, or is the network, gateway or last address of one")]
    NotInRange {
        /// Which.
        ip: IpAddr,
    },
    /// An address was asked for that somebody else has.
    #[error("address {ip} is leased to somebody else")]
    Taken {
        /// Which.
        ip: IpAddr,
    },
    /// An address was asked for by a holder that has others.
    #[error("address {ip} cannot be given to a holder that has other addresses already")]
    HasOthers {
        /// Which.
        ip: IpAddr,
    },
    /// The lease file could not be read.
    #[error("read address leases {}", file.display())]
    ReadLeases {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lease file is damaged.
    #[error(
        "address leases {} are damaged; delete the file once no pod of this node runs, or restore it",
        file.display()
    )]
    DamagedLeases {
        /// Which.
        file: PathBuf,
        /// Where and how.
        #[source]
        source: serde_json::Error,
    },
    /// The lease file could not be written.
    #[error("write address leases {}", file.display())]
    WriteLeases {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step in the node's namespace failed.
    #[error("{whose}: host side of its network")]
    HostSide {
        /// `pod UID`, or the attachment in words.
        whose: String,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// A step in the pod's namespace failed.
    #[error("{end} in network namespace {netns}")]
    PodSide {
        /// Whose, and its name.
        end: Box<str>,
        /// Inode of its namespace.
        netns: u64,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// A link that was just made or found is gone: somebody else deletes links.
    #[error("{whose}: link {link} disappeared while it was set up")]
    LinkGone {
        /// `pod UID`, or the attachment in words.
        whose: String,
        /// Which.
        link: String,
    },
    /// The node's namespace could not be read or prepared.
    #[error("{what} in the node's network namespace")]
    Node {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// The runtime is shutting down.
    #[error("the network's worker thread ended early")]
    Worker {
        /// Why.
        #[source]
        source: tokio::task::JoinError,
    },
}
