//! A node's pinned table of frontends, watched from outside the agent.

use crate::probe::{self, PROGRAM};
use orlop_ebpf_abi::FrontendKey;
use orlop_tests::{Role, World};
use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_OBJ_GET: i64 = 7;
/// The pin below `--bpf-dir` of a [`World`].
const PIN: &str = "/sys/fs/bpf/orlop/maps/FRONTENDS";
/// Room for a value of any layout that there will be.
const VALUE_BYTES_MAX: usize = 256;
const TCP: u8 = 6;
/// No child watches for longer.
const WATCH_MOST: Duration = Duration::from_secs(180);

/// See the module's text.
pub struct Frontends(OwnedFd);

/// An entry's value, byte by byte.
pub type Value = [u8; VALUE_BYTES_MAX];

#[repr(C)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttr {
    map: u64,
    key: u64,
    value: u64,
    flags: u64,
}

/// Takes any prefix of the kernel's `union bpf_attr`.
fn bpf<A>(command: i64, attr: &mut A) -> io::Result<i64> {
    // SAFETY: the callers' attributes are such prefixes, and what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Frontends {
    /// Of a node whose agent runs.
    ///
    /// # Panics
    /// There is no such pin.
    pub fn of(world: &World) -> Self {
        world.run(Role::Node, Self::open).unwrap_or_else(|error| panic!("open {PIN}: {error}"))
    }

    /// From the calling thread's mounts; fails until the agent has begun.
    fn open() -> io::Result<Self> {
        let path = CString::new(PIN).map_err(io::Error::other)?;
        let fd = bpf(BPF_OBJ_GET, &mut PinAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The entry of a TCP frontend.
    pub fn get(&self, at: SocketAddrV4) -> Option<Value> {
        let key = key(at);
        let mut value = [0; VALUE_BYTES_MAX];
        let mut attr = ElementAttr {
            map: self.0.as_raw_fd() as u64,
            key: std::ptr::from_ref(&key) as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attr).ok().map(|_| value)
    }

    /// When the last of them is there; they are looked up all the while, each until it is.
    pub fn wait_all(&self, all: &[SocketAddrV4], limit: Duration) -> Option<Instant> {
        let until = Instant::now() + limit;
        for at in all {
            while self.get(*at).is_none() {
                if Instant::now() > until {
                    return None;
                }
                // Not so often that the agent has one CPU less.
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        Some(Instant::now())
    }

    /// When the entry is another than it was; looked at without a pause, from this CPU.
    pub fn wait_change(&self, at: SocketAddrV4, was: &Value, limit: Duration) -> Option<Instant> {
        let until = Instant::now() + limit;
        while self.get(at).as_ref() == Some(was) {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Some(Instant::now())
    }
}

/// Since the machine has started, the same for all processes.
pub fn monotonic() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("read the clock");
    now.into()
}

/// A child on the node that waits for frontends, begun before the agent.
pub struct Watcher(Child);

impl Watcher {
    /// Waits for so many frontends with addresses one after the other.
    ///
    /// # Panics
    /// The child cannot be started.
    pub fn start(world: &World, first: SocketAddrV4, count: usize) -> Self {
        let mut command = probe::here(world.node_command(PROGRAM));
        command.args(["watch", &first.to_string(), &count.to_string()]).stdout(Stdio::piped());
        Self(command.spawn().expect("start this program again"))
    }

    /// When the last of them was there, as [`monotonic`] says it; waits for it.
    pub fn ended(mut self, limit: Duration) -> Option<Duration> {
        let until = Instant::now() + limit;
        while self.0.try_wait().ok()?.is_none() {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = io::read_to_string(self.0.stdout.take()?).ok()?;
        text.trim().parse().ok().map(Duration::from_nanos)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the child of a [`Watcher`] does.
pub fn watch(first: SocketAddrV4, count: usize) -> Result<(), String> {
    let until = Instant::now() + WATCH_MOST;
    let frontends = loop {
        match Frontends::open() {
            Ok(frontends) => break frontends,
            Err(error) if Instant::now() > until => return Err(format!("open {PIN}: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let address = |number: usize| Ipv4Addr::from(u32::from(*first.ip()) + number as u32);
    let all: Vec<SocketAddrV4> = (0..count).map(|number| SocketAddrV4::new(address(number), first.port())).collect();
    frontends.wait_all(&all, WATCH_MOST).ok_or("not all frontends came")?;
    println!("{}", monotonic().as_nanos());
    Ok(())
}

fn key(at: SocketAddrV4) -> FrontendKey {
    let addr = Ipv4Addr::to_ipv6_mapped(at.ip()).octets();
    FrontendKey { addr, port: at.port().to_be_bytes(), proto: TCP, pad: 0 }
}
