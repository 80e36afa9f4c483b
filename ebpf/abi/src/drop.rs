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
    5 NoBackend "The service has no backend that takes new connections.";
    6 RemoteBackend "The NodePort chose a backend on another node, which is not forwarded yet.";
    7 NatCollision "Another flow of the same client already uses every backend that was tried.";
    8 FragmentedService "A fragmented packet was sent to a NodePort, where fragments are not translated.";
    9 NatFailed "The packet could not be rewritten.";
}

/// Size of the counter arrays indexed by a reason's number; 0 stays unused.
pub const DROP_REASONS_MAX: usize = 16;

const _: () = assert!(DropReason::ALL.len() < DROP_REASONS_MAX);
