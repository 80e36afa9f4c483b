//! bpf(2) where aya has no door: links of sock_addr programs that are replaced in
//! place, pins, link information, map elements of shared types.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_MAP_DELETE_ELEM: i64 = 3;
const BPF_MAP_GET_NEXT_KEY: i64 = 4;
const BPF_MAP_LOOKUP_BATCH: i64 = 24;
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET: i64 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_CREATE: i64 = 28;
const BPF_LINK_UPDATE: i64 = 29;
const BPF_LINK_DETACH: i64 = 34;

/// Magic number of a BPF file system (linux/magic.h).
pub const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The kernel wants unused bytes zero and takes any size from its first field on.
fn bpf<A>(command: i64, attr: &mut A) -> io::Result<i64> {
    // SAFETY: `attr` is a repr(C) prefix of `union bpf_attr` for `command`, and
    // its size is told; every pointer in it is valid for the call (callers below).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel just gave us this descriptor.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element(map: BorrowedFd<'_>, key: *const u8, value: *mut u8, flags: u64) -> ElementAttr {
    ElementAttr { map_fd: map.as_raw_fd() as u32, pad: 0, key: key as u64, value: value as u64, flags }
}

/// # Safety
/// `key` and `value` point to what the map's definition says, the value of a
/// per-CPU map to one a possible CPU.
pub unsafe fn map_lookup(map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<()> {
    bpf(BPF_MAP_LOOKUP_ELEM, &mut element(map, key, value, 0)).map(drop)
}

/// # Safety
/// As [`map_lookup`].
pub unsafe fn map_update(map: BorrowedFd<'_>, key: *const u8, value: *const u8, flags: u64) -> io::Result<()> {
    bpf(BPF_MAP_UPDATE_ELEM, &mut element(map, key, value.cast_mut(), flags)).map(drop)
}

/// # Safety
/// As [`map_lookup`].
pub unsafe fn map_delete(map: BorrowedFd<'_>, key: *const u8) -> io::Result<()> {
    bpf(BPF_MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null_mut(), 0)).map(drop)
}

/// The key after `key` (null: the first); `ENOENT` at the end.
///
/// # Safety
/// As [`map_lookup`]; `next` has room for a key.
pub unsafe fn map_next_key(map: BorrowedFd<'_>, key: *const u8, next: *mut u8) -> io::Result<()> {
    bpf(BPF_MAP_GET_NEXT_KEY, &mut element(map, key, next, 0)).map(drop)
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where a batch ended; as large as any map's (a hash map's is a bucket's number, a trie's a key).
pub type Batch = [u8; 64];

/// Reads up to `count` elements after `from` (`None`: from the first) and says how many they
/// were and whether they were the last.
///
/// # Safety
/// `keys` and `values` have room for `count` of what the map's definition says, values of a
/// per-CPU map for one a possible CPU each.
pub unsafe fn map_lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<&Batch>,
    to: &mut Batch,
    keys: *mut u8,
    values: *mut u8,
    count: u32,
) -> io::Result<(u32, bool)> {
    let mut attr = BatchAttr {
        in_batch: from.map_or(0, |batch| batch.as_ptr() as u64),
        out_batch: to.as_mut_ptr() as u64,
        keys: keys as u64,
        values: values as u64,
        count,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => Ok((attr.count, false)),
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, true)),
        Err(err) => Err(err),
    }
}

#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins a map, program or link.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(BPF_OBJ_PIN, &mut ObjectAttr { path: path.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 }).map(drop)
}

/// Opens what is pinned there.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf(BPF_OBJ_GET, &mut ObjectAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 }).map(owned)
}

/// Where a link goes: a cgroup's descriptor or an interface index.
#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    options: [u64; 4],
}

/// Attaches a program; the link lives as long as its descriptor or its pin.
pub fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr { prog_fd: program.as_raw_fd() as u32, target, attach_type, flags, options: [0; 4] };
    bpf(BPF_LINK_CREATE, &mut attr).map(owned)
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Replaces the program of a link in one step.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches at once, whoever still holds the link.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut [link.as_raw_fd() as u32]).map(drop)
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// First fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
pub struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

/// First fields of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
pub struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub prog_id: u32,
    pad: u32,
    target: u64,
    more: [u64; 4],
}

impl LinkInfo {
    /// The cgroup's id (its inode); 0 once it was removed.
    pub fn cgroup(&self) -> u64 {
        self.target
    }

    /// The interface index of a tcx link; 0 once the device is gone.
    pub fn ifindex(&self) -> u32 {
        self.target as u32
    }
}

fn info<T: Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut value = T::default();
    let mut attr = InfoAttr {
        fd: object.as_raw_fd() as u32,
        len: size_of::<T>() as u32,
        info: std::ptr::from_mut(&mut value) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(value)
}

/// What a map is.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// What a link holds.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

const BPF_PROG_TEST_RUN: i64 = 10;

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// First fields of `struct __sk_buff`.
#[repr(C)]
#[derive(Default)]
struct SkBuff {
    before: [u32; 10],
    ifindex: u32,
    after: [u32; 5],
}

/// Room for a packet that a program grows.
const GROWTH_BYTES: usize = 256;

/// What `BPF_PROG_TEST_RUN` gives back.
pub struct TestRun {
    /// What the program returned.
    pub verdict: i32,
    /// The packet as the last run left it.
    pub packet: Vec<u8>,
    /// Nanoseconds of one run, on average.
    pub nanoseconds: u32,
}

/// Runs a tc program once on a packet, as if it met it on the device.
pub fn test_run(program: BorrowedFd<'_>, ifindex: u32, packet: &[u8]) -> io::Result<(i32, Vec<u8>)> {
    repeated_test_run(program, ifindex, packet, 1).map(|run| (run.verdict, run.packet))
}

/// `struct xdp_md`.
#[repr(C)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Runs an XDP program once on a packet, as if it met it on the device.
pub fn test_run_xdp(program: BorrowedFd<'_>, ifindex: u32, packet: &[u8]) -> io::Result<(i32, Vec<u8>)> {
    let context = XdpMd {
        data: 0,
        data_end: packet.len() as u32,
        data_meta: 0,
        ingress_ifindex: ifindex,
        rx_queue_index: 0,
        egress_ifindex: 0,
    };
    run_on(program, packet, &context, 1).map(|run| (run.verdict, run.packet))
}

/// As [`test_run`], so many times; each run gets the packet that the one before left.
pub fn repeated_test_run(program: BorrowedFd<'_>, ifindex: u32, packet: &[u8], repeat: u32) -> io::Result<TestRun> {
    run_on(program, packet, &SkBuff { ifindex, ..SkBuff::default() }, repeat)
}

/// Runs a program with the context of its type.
fn run_on<C>(program: BorrowedFd<'_>, packet: &[u8], context: &C, repeat: u32) -> io::Result<TestRun> {
    let mut out = vec![0; packet.len() + GROWTH_BYTES];
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ctx_size_in: size_of::<C>() as u32,
        ctx_in: std::ptr::from_ref(context) as u64,
        ..TestRunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    out.truncate(attr.data_size_out as usize);
    Ok(TestRun { verdict: attr.retval as i32, packet: out, nanoseconds: attr.duration })
}

/// `struct bpf_prog_info` up to the field that came last of those that are read (5.16).
#[repr(C)]
#[derive(Default)]
pub struct ProgramInfo {
    before: [u32; 4],
    pub jited_bytes: u32,
    pub xlated_bytes: u32,
    /// From the instructions' addresses to the count of recursions that were missed.
    between: [u64; 24],
    pub verified_insns: u32,
    after: u32,
}

/// What a program is.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}
