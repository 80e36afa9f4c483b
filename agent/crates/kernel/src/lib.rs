//! The one home of netlink, mount, namespace, cgroup and pidfd calls.
//!
//! Everything here does one thing to the kernel and says exactly what failed; no
//! policy lives here. Calls block: a netlink request runs inside `sendmsg` under
//! the kernel's RTNL lock (deleting a veth takes about 30 ms there), so async
//! callers run them on `spawn_blocking` or a thread of their own. What waits
//! for an event ([`Pidfd::wait`], [`PopulatedWatch`], [`LinkEvents`]) is async.
//!
//! ```text
//! Netns ── run(closure) on a thread of its own      CgroupRoot ── PodCgroup
//!   └── Netlink ── apply(batch of Request) ── Link  mount: overlay, bind, tmpfs, unmount, list
//! ```

mod cgroup;
mod cgroup_layout;
mod cgroup_pod;
mod cgroup_watch;
mod cgroup_weight;
mod error;
mod facts;
mod fdb;
mod file;
mod filter;
mod heap;
mod inotify;
mod level;
mod link;
mod link_events;
mod mount;
mod mountinfo;
mod netlink;
mod netns;
mod netns_cookie;
mod pidfd;
mod route;
mod route_entry;
mod route_events;
mod sock_diag;
mod sysctl;
mod vxlan;

pub use cgroup::CgroupRoot;
pub use cgroup_layout::{CgroupLayout, CgroupMounts};
pub use cgroup_pod::PodCgroup;
pub use cgroup_watch::PopulatedWatch;
pub use cgroup_weight::{CpuMax, cpu_quota, cpu_shares, cpu_weight};
pub use error::KernelError;
pub use facts::NodeFacts;
pub use fdb::FdbEntry;
pub use filter::{FilterHook, FilterPlace};
pub use heap::trim_heap;
pub use inotify::AsyncInotify;
pub use level::{FsLevel, Level};
pub use link::{Link, LinkStats, Mac, VethPair};
pub use link_events::{LinkEvent, LinkEvents};
pub use mount::{
    Bind, DetachReport, Overlay, Propagation, Unmounted, detach_below, make_private, mount_bind, mount_overlay,
    mount_tmpfs, unmount,
};
pub use mountinfo::{MountPoint, mounts_below, parse_mountinfo};
pub use netlink::{Netlink, Request};
pub use netns::{Netns, unpin};
pub use pidfd::Pidfd;
pub use route::{Address, Neighbour, Route};
pub use route_entry::{RouteEntry, SeenRoute};
pub use route_events::{RouteEvent, RouteEvents};
pub use sock_diag::{ConnectedSocket, SockDiag};
pub use sysctl::{Sysctl, read_sysctl, write_sysctls};
pub use vxlan::{Vxlan, VxlanSpec};
