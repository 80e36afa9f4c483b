//! Why a packet or a connection was not let through: one table, from which the
//! counters, the command line and `ebpf/README.md` take their words.

macro_rules! drop_reasons {
    ($($number:literal $name:ident $sentence:literal;)+) => {
        /// Why a packet was dropped. Every drop has exactly one reason.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum DropReason {
            $(#[doc = $sentence] $name = $number,)+
        }

        impl DropReason {
            /// All reasons, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The CamelCase name, stable: it is the label of the metric.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// One sentence for the person on call.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }
        }
    };
}

drop_reasons! {
    1 Malformed "The packet ends inside a header or contradicts itself.";
    2 SourceSpoofed "A pod sent from an address that is not its own.";
    3 UnknownEthertype "A pod sent a frame that is neither IPv4, IPv6 nor ARP.";
    4 ExtensionHeaders "The IPv6 packet carries more extension headers than are followed.";
    5 NoBackend "The service has no backend that takes new connections; the client was told at once.";
    6 NoLocalBackend "The service's traffic policy is Local and it has no backend on this node.";
    7 NatCollision "Another flow of the same client already uses every backend that was tried.";
    8 FragmentUnknown "A fragment came before the first one of its datagram, which tells the ports.";
    9 NatFailed "The packet could not be rewritten.";
    10 SourceRange "The client's address is in none of the service's loadBalancerSourceRanges.";
    11 SnatPortsExhausted "Every source port for this destination is in use by another flow.";
    12 NoRoute "There is no route to the backend, or no address of ours to send from.";
    13 TooBig "The packet is larger than the link to the backend; the sender was told the size.";
    14 Bandwidth "The pod's bandwidth annotation does not allow more.";
}

/// Size of the counter arrays indexed by a reason's number; 0 stays unused.
pub const DROP_REASONS_MAX: usize = 32;

const _: () = assert!(DropReason::ALL.len() < DROP_REASONS_MAX);

/// Index into `FAULTS`, per CPU: what a program could not do without dropping a packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A flow was not entered into `FLOWS`.
    FlowInsert = 0,
    /// A socket was not entered into `SOCKETS`.
    SocketInsert = 1,
    /// A UDP socket's peer was not entered into `UDP_PEERS`.
    UdpPeerInsert = 2,
    /// A client was not entered into `AFFINITY`.
    AffinityInsert = 3,
    /// A counter was not entered into `SERVICE_COUNTERS`.
    CounterInsert = 4,
    /// A datagram was not entered into `FRAGMENTS`.
    FragmentInsert = 5,
    /// No source port was free for a translated flow.
    SnatPorts = 6,
}

impl Fault {
    /// All faults, by number, and the map that each concerns.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::FlowInsert, "FLOWS"),
        (Self::SocketInsert, "SOCKETS"),
        (Self::UdpPeerInsert, "UDP_PEERS"),
        (Self::AffinityInsert, "AFFINITY"),
        (Self::CounterInsert, "SERVICE_COUNTERS"),
        (Self::FragmentInsert, "FRAGMENTS"),
        (Self::SnatPorts, "FLOWS"),
    ];
}
