//! cgroup sock_addr hooks: a socket that asks for a service gets a backend, and
//! is told the service's address when it asks who its peer is.
//!
//! Only sockets of the node's own network namespace and of its pods' are translated
//! (`NETNS`): elsewhere in the cgroup the same address may be somebody else's. There
//! is no hook for SCTP sockets; their packets are translated where they leave the pod.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use orlop_ebpf_abi::{Fault, FrontendFlags, NetnsKind, SocketService, SocketState, UdpPeerKey};

use crate::maps::{NETNS, SOCKETS};
use crate::packet::{Ip, TCP, UDP};
use crate::question::Question;
use crate::service::{self, Chosen, Kind};
use crate::{affinity, counter, udp};

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const ECONNREFUSED: i32 = 111;
const IPPROTO_MPTCP: u32 = 262;

/// Which fields of the context carry the address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[inline(always)]
fn read(ctx: &SockAddrContext, family: Family) -> (Ip, u16) {
    let addr: *const bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the kernel's context; volatile because the verifier wants whole
    // four-byte reads, which the compiler must not merge.
    unsafe {
        let port = (&raw const (*addr).user_port).read_volatile() as u16;
        let ip = match family {
            Family::V4 => Ip::v4((&raw const (*addr).user_ip4).read_volatile()),
            Family::V6 => {
                let words = (&raw const (*addr).user_ip6).cast::<u32>();
                Ip::v6([
                    words.read_volatile(),
                    words.add(1).read_volatile(),
                    words.add(2).read_volatile(),
                    words.add(3).read_volatile(),
                ])
            }
        };
        (ip, port)
    }
}

#[inline(always)]
fn write(ctx: &SockAddrContext, family: Family, ip: Ip, port: u16) {
    let addr = ctx.sock_addr;
    // SAFETY: as in `read`.
    unsafe {
        match family {
            Family::V4 => (&raw mut (*addr).user_ip4).write_volatile(ip.raw_v4()),
            Family::V6 => {
                let words = (&raw mut (*addr).user_ip6).cast::<u32>();
                let [a, b, c, d] = ip.words();
                words.write_volatile(a);
                words.add(1).write_volatile(b);
                words.add(2).write_volatile(c);
                words.add(3).write_volatile(d);
            }
        }
        (&raw mut (*addr).user_port).write_volatile(u32::from(port));
    }
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> Option<u8> {
    // SAFETY: as in `read`.
    match unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() } {
        6 | IPPROTO_MPTCP => Some(TCP),
        17 => Some(UDP),
        _ => None,
    }
}

/// An IPv4 socket can only be sent to IPv4, an IPv6 socket by its address's
/// family (mapped IPv4 stays mapped IPv4).
#[inline(always)]
fn fits(asked: Ip, chosen: &Chosen) -> bool {
    asked.is_v4() == chosen.addr.is_v4()
}

/// The socket's number, which the kernel gives no other socket.
#[inline(always)]
fn cookie<C: EbpfContext>(ctx: &C) -> u64 {
    // SAFETY: the context is the kernel's own.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// What is known of a translated socket.
#[inline(always)]
pub fn known(cookie: u64) -> Option<&'static mut SocketService> {
    // SAFETY: a map value lives while the program runs. Another thread that uses
    // the same socket at the same moment may see half of each answer, as it may
    // of the socket.
    SOCKETS.get_ptr_mut(cookie).map(|found| unsafe { &mut *found })
}

#[inline(always)]
fn refuse(service: u32) -> i32 {
    counter::service_connection(service, 0);
    // SAFETY: sets the errno of this call.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    DENY
}

/// Writes down what the socket asked for and got.
#[inline(always)]
fn note(cookie: u64, proto: u8, asked: (Ip, u16), chosen: &Chosen) {
    let value = SocketService {
        service_addr: asked.0.bytes(),
        backend_addr: chosen.addr.bytes(),
        service_port: asked.1.to_ne_bytes(),
        backend_port: chosen.port.to_ne_bytes(),
        proto,
        state: SocketState::TRANSLATED,
        pad: [0; 2],
        service: chosen.service,
        backend: chosen.backend,
    };
    // A TCP socket connects once; a UDP socket may come here with each datagram.
    if proto == UDP
        && let Some(old) = known(cookie)
    {
        *old = value;
        return;
    }
    counter::expect(SOCKETS.insert(cookie, value, u64::from(BPF_ANY)), Fault::SocketInsert);
}

/// Finds the frontend of a socket's destination, and the client that the socket is.
/// `None`: the address stays as it is.
#[inline(always)]
fn asked_for(ctx: &SockAddrContext, question: &mut Question, addr: Ip, port: u16) -> Option<()> {
    if !service::find(question, addr, port) {
        return None;
    }
    // SAFETY: the context is the kernel's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: a copy of four bytes.
    let kind = *unsafe { NETNS.get(&netns) }?;
    let host = kind & NetnsKind::MASK == NetnsKind::NODE;
    if !host && service::is_loopback(addr) {
        return None;
    }
    // Who may come is told by a source address, which no socket has yet: its packets
    // are looked at, and translated, on their way.
    if question.frontend().flags & FrontendFlags::SOURCE_RANGES != 0 {
        return None;
    }
    question.set_client(true, affinity::of_namespace(netns), 0, host);
    Some(())
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let Some(proto) = protocol(ctx) else { return ALLOW };
    let (addr, port) = read(ctx, family);
    let mut place = MaybeUninit::uninit();
    let question = Question::about(&mut place, addr, port, proto);
    if asked_for(ctx, question, addr, port).is_none() {
        // A UDP socket may connect again, now to something else.
        if let Some(old) = known(cookie(ctx)) {
            old.state = SocketState::NONE;
        }
        return ALLOW;
    }
    let found = service::choose(question);
    match found.kind {
        Kind::NotAService | Kind::Denied => ALLOW,
        // A packet would be dropped where only other nodes have backends; a socket can be told.
        Kind::Refused | Kind::NoLocal => refuse(found.chosen.service),
        Kind::Backend => {
            let chosen = found.chosen;
            if !fits(addr, &chosen) {
                return refuse(chosen.service);
            }
            note(cookie(ctx), proto, (addr, port), &chosen);
            counter::service_connection(chosen.service, chosen.backend);
            write(ctx, family, chosen.addr, chosen.port);
            ALLOW
        }
    }
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    let (addr, port) = read(ctx, family);
    let mut place = MaybeUninit::uninit();
    let question = Question::about(&mut place, addr, port, UDP);
    if asked_for(ctx, question, addr, port).is_none() {
        return ALLOW;
    }
    let cookie = cookie(ctx);
    let (service, epoch) = (question.frontend().service, question.frontend().epoch);
    let chosen = match udp::peer(cookie, addr, port, UdpPeerKey::SERVICE) {
        // The flow keeps its backend as long as the service has it.
        Some(old) if old.service == service && old.epoch == epoch && service::is_active(&old.backend) => Chosen {
            addr: service::first_addr(&old.addr),
            port: u16::from_ne_bytes(old.port),
            service: old.service,
            backend: old.backend,
        },
        old => {
            let before = old.filter(|old| old.service == service).map_or(0, |old| old.backend);
            question.before = before;
            let fresh = service::choose(question);
            match fresh.kind {
                Kind::NotAService | Kind::Denied => return ALLOW,
                Kind::Backend if fits(addr, &fresh.chosen) => {}
                Kind::Backend | Kind::Refused | Kind::NoLocal => return refuse(fresh.chosen.service),
            }
            let chosen = fresh.chosen;
            udp::remember(cookie, addr, port, &chosen, epoch);
            if chosen.backend != before {
                counter::service_connection(chosen.service, chosen.backend);
            }
            chosen
        }
    };
    note(cookie, UDP, (addr, port), &chosen);
    write(ctx, family, chosen.addr, chosen.port);
    ALLOW
}

/// The address of the peer that the program sees: the service's.
#[inline(always)]
fn peer_name(ctx: &SockAddrContext, family: Family) {
    let (addr, port) = read(ctx, family);
    if let Some(socket) = known(cookie(ctx))
        && socket.state != SocketState::NONE
        && addr == Ip::from_bytes(&socket.backend_addr)
        && port == u16::from_ne_bytes(socket.backend_port)
    {
        write(ctx, family, Ip::from_bytes(&socket.service_addr), u16::from_ne_bytes(socket.service_port));
    }
}

#[inline(always)]
fn recvmsg(ctx: &SockAddrContext, family: Family) {
    let cookie = cookie(ctx);
    if known(cookie).is_none() {
        return;
    }
    let (addr, port) = read(ctx, family);
    match udp::peer(cookie, addr, port, UdpPeerKey::BACKEND) {
        Some(peer) => write(ctx, family, service::first_addr(&peer.addr), u16::from_ne_bytes(peer.port)),
        None => peer_name(ctx, family),
    }
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V6)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V4);
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&ctx, Family::V6);
    ALLOW
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    peer_name(&ctx, Family::V4);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    peer_name(&ctx, Family::V6);
    ALLOW
}

/// A socket that is closed is forgotten, so that the table holds living ones only.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    let _ = SOCKETS.remove(cookie(&ctx));
    ALLOW
}
