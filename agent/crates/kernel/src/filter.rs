//! Filters of the `clsact` queueing discipline: eBPF programs on a device, the way
//! that every kernel has. Attaching one waits for nobody, while a tcx link waits for
//! all CPUs (`synchronize_rcu`, 5 to 20 ms) with the lock of all links (RTNL) in hand.

use crate::Request;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use orlop_model::Ifindex;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which packets a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterHook {
    /// What the device receives.
    Ingress,
    /// What the device is to send.
    Egress,
}

/// Place of a filter: one program each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPlace {
    /// Device.
    pub device: Ifindex,
    /// Direction.
    pub hook: FilterHook,
    /// Lower ones see a packet first.
    pub priority: u16,
}

/// `ETH_P_ALL`: packets of every protocol.
const ALL_PROTOCOLS: u16 = 3;
/// Number of the only filter of its priority.
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS` of linux/pkt_sched.h.
const INGRESS: u16 = 0xfff2;
const EGRESS: u16 = 0xfff3;

impl FilterPlace {
    fn message(&self, attributes: Vec<TcAttribute>) -> TcMessage {
        let minor = match self.hook {
            FilterHook::Ingress => INGRESS,
            FilterHook::Egress => EGRESS,
        };
        let header = TcHeader {
            handle: HANDLE,
            parent: TcHandle { major: TcHandle::CLSACT.major, minor },
            info: u32::from(self.priority) << 16 | u32::from(ALL_PROTOCOLS.to_be()),
            ..TcMessage::with_index(self.device.get().cast_signed()).header
        };
        TcMessage::from_parts(header, attributes)
    }

    fn program(&self, program: BorrowedFd<'_>, name: &str) -> TcMessage {
        let options = [
            TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
            TcFilterBpfOption::ProgName(name.to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let options = options.into_iter().map(TcOption::Bpf).collect();
        self.message(vec![TcAttribute::Kind("bpf".to_owned()), TcAttribute::Options(options)])
    }
}

impl Request {
    /// Makes a device able to have filters; again is fine.
    #[must_use]
    pub fn create_clsact(device: Ifindex) -> Self {
        let mut message = TcMessage::with_index(device.get().cast_signed());
        message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        message.header.parent = TcHandle::CLSACT;
        message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        let made = Self::create(format!("add clsact to {device}"), RouteNetlinkMessage::NewQueueDiscipline(message));
        Self { fine: &[libc::EEXIST], ..made }
    }

    /// Puts a program at the place, in the stead of another in one step. The filter
    /// keeps the program, whose descriptor has to be open until the request was sent.
    #[must_use]
    pub fn put_filter(place: &FilterPlace, program: BorrowedFd<'_>, name: &str) -> Self {
        let what = format!("put filter {name} on {}", place.device);
        Self::put(what, RouteNetlinkMessage::NewTrafficFilter(place.program(program, name)))
    }

    /// As [`Request::put_filter`], but only in the stead of another: `ENOENT`,
    /// `EINVAL` (a device that never had one) or `ENODEV` otherwise.
    #[must_use]
    pub fn replace_filter(place: &FilterPlace, program: BorrowedFd<'_>, name: &str) -> Self {
        let what = format!("replace filter {name} on {}", place.device);
        Self::change(what, RouteNetlinkMessage::NewTrafficFilter(place.program(program, name)))
    }

    /// Takes a program away; one that is not there is fine, and so is a device that is gone.
    #[must_use]
    pub fn delete_filter(place: &FilterPlace) -> Self {
        let message = place.message(vec![TcAttribute::Kind("bpf".to_owned())]);
        let gone =
            Self::delete(format!("delete filter of {}", place.device), RouteNetlinkMessage::DelTrafficFilter(message));
        // EINVAL: the device has no clsact.
        Self { fine: &[libc::ENOENT, libc::ENODEV, libc::EINVAL], ..gone }
    }
}
