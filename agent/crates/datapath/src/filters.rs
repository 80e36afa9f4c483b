//! The pods' programs, as filters on the host side of their veths.
//!
//! A filter goes with its device and needs no pin. Which devices have them is known
//! from PODS, in which every attached pod has its addresses.

use orlop_ebpf_abi::{Addr, LocalPod};
use orlop_kernel::{FilterPlace, Netlink, Request};
use orlop_model::Ifindex;
use std::collections::BTreeSet;

use crate::load::Datapath;
use crate::table::Table;
use crate::{Error, Hook, Program};

/// Priority of the filters: room before them and after them for those of others.
const PRIORITY: u16 = 100;

/// The pods' programs and their places on a device.
fn places(device: Ifindex) -> impl Iterator<Item = (Program, FilterPlace)> {
    Program::ALL.iter().filter_map(move |&program| match program.hook() {
        Hook::Pod(hook) => Some((program, FilterPlace { device, hook, priority: PRIORITY })),
        Hook::Cgroup(_) | Hook::Uplink(_) | Hook::Xdp => None,
    })
}

fn apply(operation: &'static str, device: Ifindex, requests: Vec<Request>) -> Result<(), Error> {
    let applied = Netlink::open().and_then(|mut netlink| netlink.apply(requests));
    applied.map_err(|source| Error::PodFilters { operation, device, source })
}

impl Datapath {
    pub(crate) fn put_pod_filters(&self, device: Ifindex) -> Result<(), Error> {
        let filters = places(device).map(|(p, place)| Request::put_filter(&place, self.program(p), p.name()));
        apply("attach", device, std::iter::once(Request::create_clsact(device)).chain(filters).collect())
    }

    pub(crate) fn delete_pod_filters(&self, device: Ifindex) -> Result<(), Error> {
        delete(device)
    }

    /// Puts this object's programs in the place of an earlier agent's; forgets pods
    /// whose device is gone or has another use by now.
    pub(crate) fn replace_pod_filters(&self) -> Result<(), Error> {
        for device in self.attached_pods()? {
            let filters = places(device).map(|(p, place)| Request::replace_filter(&place, self.program(p), p.name()));
            match apply("replace", device, filters.collect()) {
                Err(Error::PodFilters { source, .. })
                    if matches!(source.errno(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) =>
                {
                    self.remove_pod_addrs(device, &BTreeSet::new())?;
                    self.set_pod_netns(device, None)?;
                    self.set_bandwidth(device, None, None)?;
                }
                done => done?,
            }
        }
        Ok(())
    }
}

fn delete(device: Ifindex) -> Result<(), Error> {
    apply("detach", device, places(device).map(|(_, place)| Request::delete_filter(&place)).collect())
}

/// Takes the programs off every device that is in PODS.
pub fn remove_all(pods: &Table<Addr, LocalPod>) -> Result<(), Error> {
    let devices: BTreeSet<u32> = pods.entries()?.into_iter().map(|(_, pod)| pod.ifindex).collect();
    devices.into_iter().filter_map(Ifindex::new).try_for_each(delete)
}
