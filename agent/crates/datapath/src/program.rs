//! The programs and where each hangs.

use orlop_kernel::FilterHook;
use std::fmt;

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// The node's cgroup, by `enum bpf_attach_type`.
    Cgroup(u32),
    /// Host side of every pod's veth.
    Pod(FilterHook),
    /// Every device with a node address, by `enum bpf_attach_type`.
    Uplink(u32),
    /// The same devices, before the stack, when it is asked for.
    Xdp,
}

/// `BPF_TCX_INGRESS`.
const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
const TCX_EGRESS: u32 = 47;

macro_rules! programs {
    ($($variant:ident $name:literal $hook:expr, $words:literal, $sentence:literal;)+) => {
        /// A program of the object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Program {
            $(#[doc = $sentence] $variant,)+
        }

        impl Program {
            /// All programs.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the object.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Where it is attached.
            #[must_use]
            pub const fn hook(self) -> Hook {
                match self { $(Self::$variant => $hook,)+ }
            }

            /// Where it is attached, in words.
            #[must_use]
            pub const fn hook_words(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }

            /// What it does.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

programs! {
    Connect4 "connect4" Hook::Cgroup(10), "cgroup connect4", "A socket that connects to a service gets a backend (IPv4).";
    Connect6 "connect6" Hook::Cgroup(11), "cgroup connect6", "The same for IPv6 sockets, IPv4-mapped addresses too.";
    Sendmsg4 "sendmsg4" Hook::Cgroup(14), "cgroup sendmsg4", "An unconnected UDP socket's datagram to a service gets the flow's backend (IPv4).";
    Sendmsg6 "sendmsg6" Hook::Cgroup(15), "cgroup sendmsg6", "The same for IPv6 sockets, IPv4-mapped addresses too.";
    Recvmsg4 "recvmsg4" Hook::Cgroup(19), "cgroup recvmsg4", "A datagram from a backend shows the service as its sender (IPv4).";
    Recvmsg6 "recvmsg6" Hook::Cgroup(20), "cgroup recvmsg6", "The same for IPv6 sockets, IPv4-mapped addresses too.";
    Getpeername4 "getpeername4" Hook::Cgroup(29), "cgroup getpeername4", "The peer of a translated socket is the service (IPv4).";
    Getpeername6 "getpeername6" Hook::Cgroup(30), "cgroup getpeername6", "The same for IPv6 sockets, IPv4-mapped addresses too.";
    SockRelease "sock_release" Hook::Cgroup(34), "cgroup sock_release", "A closed socket leaves SOCKETS.";
    LearnEgress "learn_egress" Hook::Cgroup(1), "cgroup_skb egress", "The first packet of a translated socket enters its flow into FLOWS.";
    PodFrom "pod_from" Hook::Pod(FilterHook::Ingress), "clsact ingress, pod veth", "Checks the source, counts, translates what no socket hook did, and hands packets for local pods over with redirect_peer.";
    PodTo "pod_to" Hook::Pod(FilterHook::Egress), "clsact egress, pod veth", "Counts what the host's stack sends to the pod, and translates answers of the host's network.";
    UplinkIn "uplink_in" Hook::Uplink(TCX_INGRESS), "tcx ingress, uplink", "Translates packets of clients outside to a backend here or on another node, and answers back.";
    UplinkXdp "uplink_xdp" Hook::Xdp, "XDP, uplink", "Sends packets of known flows to backends on other nodes on at once.";
    UplinkOut "uplink_out" Hook::Uplink(TCX_EGRESS), "tcx egress, uplink", "Translates the replies of backends here, and masquerades what pods open to outside.";
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
