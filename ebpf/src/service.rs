//! From a service address to one backend, for sockets and for packets.
//!
//! [`find`] is one hash lookup for what is no service. What was found is then
//! worth its questions: whose network is it (sockets), does this client get in
//! ([`ranges`]), which set of the backends does its policy allow, which of them
//! ([`choice`]), has the client one already ([`affinity`]).

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use orlop_ebpf_abi::{
    Addr, Backend, BackendState, Frontend, FrontendFlags, FrontendKey, NODE_PORT_WORD_BITS, NodeAddrFlags,
    SLOTS_A_BLOCK, SlotKey,
};

use crate::maps::{BACKENDS, FRONTENDS, GENERATION, NODE_ADDRS, NODE_PORTS, SLOTS};
use crate::packet::Ip;
use crate::{affinity, choice, ranges};

/// How often a choice that met a change of the tables is made again.
const TRIES_MAX: u32 = 8;
/// Frontends whose address is outside the cluster's own ranges.
const OUTER: u32 = FrontendFlags::NODE_PORT | FrontendFlags::EXTERNAL | FrontendFlags::HOST_PORT;

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub addr: Ip,
    pub port: u16,
    pub service: u32,
    pub backend: u32,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Client {
    /// A pod of this node or a process of the node.
    pub inside: bool,
    /// Its address, or the one that stands for its network namespace
    /// ([`affinity::of_namespace`]): a socket's source is not known yet.
    pub addr: Ip,
    /// Its port in network order; 0 for sockets.
    pub port: u16,
    /// It is in the node's own namespace, to whom loopback frontends belong.
    pub host: bool,
}

/// What a destination is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NotAService,
    /// The service has no backend anywhere; only its number is known.
    Refused,
    /// The traffic policy is Local and only other nodes have backends.
    NoLocal,
    /// The client is in none of the source ranges.
    Denied,
    Backend,
}

/// Kind and choice side by side rather than an enum with data: the compiler
/// may copy the data of a variant that is not there, and the verifier refuses to
/// read what was never written.
#[derive(Clone, Copy)]
pub struct Resolved {
    pub kind: Kind,
    pub chosen: Chosen,
    /// [`FrontendFlags`]; 0 when it is no service.
    pub flags: u32,
}

impl Resolved {
    #[inline(always)]
    pub fn without_backend(kind: Kind, service: u32, flags: u32) -> Self {
        Self { kind, chosen: Chosen { addr: Ip(0, 0), port: 0, service, backend: 0 }, flags }
    }

    /// What a frontend says before a backend is known.
    #[inline(always)]
    fn begin(&mut self, kind: Kind, frontend: &Frontend) {
        self.kind = kind;
        self.flags = frontend.flags;
        self.chosen.service = frontend.service;
        self.chosen.backend = 0;
    }
}

/// Where the keys of the lookups stand: on the stack of a socket's program; for
/// packets, whose programs have none to spare, in [`QUESTIONS`].
#[repr(C, align(8))]
pub struct Room {
    frontend: FrontendKey,
    backend: u32,
    slot: MaybeUninit<SlotKey>,
    affinity: MaybeUninit<affinity::Entry>,
    range: MaybeUninit<ranges::RangeKey>,
}

impl Room {
    #[inline(always)]
    pub fn new(addr: Ip, port: u16, proto: u8) -> Self {
        Self {
            frontend: FrontendKey { addr: addr.bytes(), port: port.to_ne_bytes(), proto, pad: 0 },
            backend: 0,
            slot: MaybeUninit::uninit(),
            affinity: MaybeUninit::uninit(),
            range: MaybeUninit::uninit(),
        }
    }
}

/// A frontend where it stands in the table, and the tables' generation before it was
/// looked up. What is read of it holds only as [`choose`] says.
#[derive(Clone, Copy)]
pub struct Found {
    pub frontend: &'static Frontend,
    generation: u64,
}

#[inline(always)]
fn generation() -> u64 {
    // SAFETY: the element is eight aligned bytes that user space writes whole;
    // volatile, because it changes under us.
    GENERATION.get_ptr(0).map_or(1, |value| unsafe { value.read_volatile() })
}

/// Is this port of any node address a NodePort or a host port?
#[inline(always)]
fn is_node_port(port: u16) -> bool {
    let port = u32::from(u16::from_be(port));
    NODE_PORTS.get(port / NODE_PORT_WORD_BITS).is_some_and(|word| word >> (port % NODE_PORT_WORD_BITS) & 1 == 1)
}

/// `127.0.0.0/8` and `::1`.
#[inline(always)]
pub fn is_loopback(addr: Ip) -> bool {
    if addr.is_v4() { addr.raw_v4() as u8 == 127 } else { addr.0 == 0 && addr.1 == 1_u64.to_be() }
}

/// What is served on an address of the node or of another one. All of IPv4's
/// loopback is as its first address.
#[inline(always)]
fn node_addr_flags(addr: Ip) -> u32 {
    let addr = if addr.is_v4() && is_loopback(addr) { Ip::v4(u32::from_ne_bytes([127, 0, 0, 1])) } else { addr };
    let bytes: Addr = addr.bytes();
    // SAFETY: a copy of four bytes.
    unsafe { NODE_ADDRS.get(&bytes) }.copied().unwrap_or(0)
}

#[inline(always)]
fn read(room: &Room) -> Option<&'static Frontend> {
    // SAFETY: the memory stays an element of this table while the program runs; `choose`
    // discards what it read when the tables changed meanwhile.
    unsafe { FRONTENDS.get(&room.frontend) }
}

/// The frontend of a destination: its own, or a NodePort's or host port's that
/// stands for every address of the node. `peers`: those of other nodes, too.
#[inline(always)]
fn find_on(room: &mut Room, addr: Ip, port: u16, peers: bool) -> Option<Found> {
    let generation = generation();
    if let Some(frontend) = read(room) {
        return Some(Found { frontend, generation });
    }
    if !is_node_port(port) {
        return None;
    }
    let is = node_addr_flags(addr);
    room.frontend.addr = addr.unspecified().bytes();
    let frontend = read(room)?;
    let served = if frontend.flags & FrontendFlags::HOST_PORT != 0 {
        // `nodePortAddresses` is not about host ports.
        is & NodeAddrFlags::OWN
    } else if peers && is & NodeAddrFlags::PEER != 0 {
        NodeAddrFlags::PEER
    } else {
        is & NodeAddrFlags::NODE_PORTS
    };
    (served != 0).then_some(Found { frontend, generation })
}

/// The frontend on this node of the destination that `room` was made for. A loopback
/// one is for clients in the node's own namespace: the caller asks [`is_loopback`].
#[inline(always)]
pub fn find(room: &mut Room, addr: Ip, port: u16) -> Option<Found> {
    find_on(room, addr, port, false)
}

/// The slots that a client may get.
#[derive(Clone, Copy)]
pub struct Set {
    pub first: u32,
    pub count: u32,
    /// The local set, because of the policy or of the question.
    pub local: bool,
    /// The local set, because of the question.
    on_this_node: bool,
}

impl Set {
    #[inline(always)]
    fn of(frontend: &Frontend, client: &Client, on_this_node: bool) -> Self {
        let flags = frontend.flags;
        let policy = if client.inside {
            // From inside, an outer address is subject to neither policy, as if the
            // packet had gone out to the load balancer and come back (kube-proxy's short cut).
            flags & FrontendFlags::INTERNAL_LOCAL != 0 && flags & OUTER == 0
        } else {
            flags & FrontendFlags::EXTERNAL_LOCAL != 0
        };
        let local = on_this_node || policy;
        let (first, count) = if local { (0, frontend.local) } else { (frontend.first, frontend.count) };
        Self { first, count, local, on_this_node }
    }

    /// What the destination is when the set is empty.
    #[inline(always)]
    fn without(self, frontend: &Frontend) -> Kind {
        if frontend.local | frontend.count == 0 { Kind::Refused } else { Kind::NoLocal }
    }
}

/// Is the client's backend remembered in a table? Elsewhere each node must come
/// to the same answer by itself.
#[inline(always)]
fn has_memory(frontend: &Frontend, client: &Client) -> bool {
    frontend.affinity_s != 0 && (client.inside || frontend.flags & FrontendFlags::DSR == 0)
}

/// One walk from a frontend to a backend id; 0, which no backend has: the slot is gone.
#[inline(always)]
fn walk(room: &mut Room, frontend: &Frontend, client: &Client, set: Set, random: u32) -> u32 {
    if !set.on_this_node && has_memory(frontend, client) {
        let kept = affinity::kept(&mut room.affinity, frontend, client.addr);
        if kept != 0 {
            return kept;
        }
    }
    let index = if set.on_this_node {
        choice::by_client(&room.frontend, frontend, client, set.count)
    } else if client.inside {
        set.first + choice::scaled(random, set.count)
    } else {
        choice::outside(&room.frontend, frontend, client, set, random)
    };
    slot(room, frontend, index)
}

/// The backend id in one slot; 0: gone.
#[inline(always)]
fn slot(room: &mut Room, frontend: &Frontend, index: u32) -> u32 {
    let block = index / SLOTS_A_BLOCK;
    let key = room.slot.write(SlotKey { service: frontend.service, epoch: frontend.epoch, block });
    // SAFETY: a copy of four bytes.
    unsafe { SLOTS.get(&*key) }.map_or(0, |ids| ids[(index % SLOTS_A_BLOCK) as usize])
}

#[inline(always)]
fn backend(id: &u32) -> Option<&'static Backend> {
    // SAFETY: as in `read`.
    unsafe { BACKENDS.get(id) }
}

/// Does this backend still take new packets of a connectionless flow?
#[inline(always)]
pub fn is_active(id: &u32) -> bool {
    backend(id).is_some_and(|backend| backend.state == BackendState::Active as u8)
}

/// Chooses a backend.
///
/// The kernel may hand a removed element's memory to a new element while a
/// program still reads it, so a walk counts only if the tables did not change
/// meanwhile (`GENERATION` even and the same) or if the next walk agrees.
#[inline(always)]
fn choose_from(room: &mut Room, found: Found, client: &Client, on_this_node: bool, answer: &mut Resolved) {
    let Found { mut frontend, generation: mut before } = found;
    // SAFETY: takes and touches nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    // What the walk before said, in as little room as it can be compared.
    let mut last = 0;
    let mut tries = 0;
    while tries < TRIES_MAX {
        tries += 1;
        let set = Set::of(frontend, client, on_this_node);
        let mut now = set.without(frontend) as u64;
        answer.begin(set.without(frontend), frontend);
        if set.count != 0 {
            room.backend = walk(room, frontend, client, set, random);
            now = take(&room.backend, answer);
        }
        // 0: torn.
        if now != 0 && (before & 1 == 0 && generation() == before || now == last) {
            if !on_this_node && answer.kind == Kind::Backend && has_memory(frontend, client) {
                affinity::keep(&mut room.affinity, &answer.chosen, client.addr);
            }
            return;
        }
        last = now;
        before = generation();
        frontend = match read(room) {
            Some(frontend) => frontend,
            None => {
                answer.kind = Kind::NotAService;
                return;
            }
        };
    }
    answer.kind = Kind::Refused;
}

/// Puts a backend into the answer, and makes a number of all that it said.
#[inline(always)]
fn take(id: &u32, answer: &mut Resolved) -> u64 {
    let Some(backend) = backend(id) else { return 0 };
    let (addr, port) = (Ip::from_bytes(&backend.addr), u16::from_ne_bytes(backend.port));
    answer.kind = Kind::Backend;
    answer.chosen = Chosen { addr, port, service: answer.chosen.service, backend: *id };
    choice::mix(choice::mix(addr.0, addr.1), u64::from(*id) << 16 | u64::from(port)) | 1
}

/// Gives a client of the frontend a backend, and remembers it when the service
/// has session affinity.
#[inline(always)]
pub fn choose(room: &mut Room, found: Found, client: &Client) -> Resolved {
    let mut answer = Resolved::without_backend(Kind::NotAService, 0, 0);
    choose_from(room, found, client, false, &mut answer);
    answer
}

/// A packet's question and its answer.
#[repr(C)]
struct Question {
    room: Room,
    client: Client,
    addr: Ip,
    port: u16,
    on_this_node: bool,
    answer: Resolved,
}

/// The question of the packet that this CPU has in hand. Programs on devices run with
/// softirqs off: there is never a second one.
#[map]
static QUESTIONS: PerCpuArray<Question> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn ask(addr: Ip, port: u16, proto: u8, client: &Client, on_this_node: bool) -> Resolved {
    let nothing = Resolved::without_backend(Kind::NotAService, 0, 0);
    let Some(question) = QUESTIONS.get_ptr_mut(0) else { return nothing };
    // SAFETY: this CPU's element is ours while the program runs.
    let question = unsafe { &mut *question };
    question.room = Room::new(addr, port, proto);
    question.client = *client;
    question.addr = addr;
    question.port = port;
    question.on_this_node = on_this_node;
    if service_answer() != 0 { question.answer } else { nothing }
}

/// Answers this CPU's question; 0: it is no service. A global function, which the verifier
/// looks at once and alone, not again with all that each caller may have in hand.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn service_answer() -> u32 {
    let Some(question) = QUESTIONS.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `ask`, which is at rest meanwhile.
    let Question { room, client, addr, port, on_this_node, answer } = unsafe { &mut *question };
    let Some(found) = find_on(room, *addr, *port, *on_this_node) else { return 0 };
    if !client.host && is_loopback(*addr) {
        return 0;
    }
    let (service, flags) = (found.frontend.service, found.frontend.flags);
    let asks = flags & FrontendFlags::SOURCE_RANGES != 0 && !*on_this_node;
    if asks && !ranges::admit(&mut room.range, service, client.addr) {
        *answer = Resolved::without_backend(Kind::Denied, service, flags);
    } else {
        choose_from(room, found, client, *on_this_node, answer);
    }
    1
}

/// What a packet's destination is, for this client, and which backend it gets.
#[inline(always)]
pub fn resolve(addr: Ip, port: u16, proto: u8, client: &Client) -> Resolved {
    ask(addr, port, proto, client, false)
}

/// Which of this node's own backends takes a packet that another node forwarded
/// as it came (DSR): that node has looked at policies and ranges. NodePorts of
/// other nodes' addresses are served, too.
#[inline(always)]
pub fn choose_local(addr: Ip, port: u16, proto: u8, client: &Client) -> Resolved {
    ask(addr, port, proto, client, true)
}
