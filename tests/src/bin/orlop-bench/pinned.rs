//! A node's pinned table of frontends, watched from outside the agent.

use orlop_ebpf_abi::FrontendKey;
use orlop_tests::{Role, World};
use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_OBJ_GET: i64 = 7;
/// The pin below `--bpf-dir` of a [`World`].
const PIN: &str = "/sys/fs/bpf/orlop/maps/FRONTENDS";
/// Room for a value of any layout that there will be.
const VALUE_BYTES_MAX: usize = 256;
const TCP: u8 = 6;

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
        Self::open(world).unwrap_or_else(|error| panic!("open {PIN}: {error}"))
    }

    /// As [`Frontends::of`], when the agent may not have begun.
    ///
    /// # Errors
    /// There is no such pin.
    pub fn open(world: &World) -> io::Result<Self> {
        let path = CString::new(PIN).map_err(io::Error::other)?;
        let fd =
            world.run(Role::Node, || bpf(BPF_OBJ_GET, &mut PinAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 }))?;
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
    #[expect(dead_code, reason="soon")]
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

fn key(at: SocketAddrV4) -> FrontendKey {
    let addr = Ipv4Addr::to_ipv6_mapped(at.ip()).octets();
    FrontendKey { addr, port: at.port().to_be_bytes(), proto: TCP, pad: 0 }
}
