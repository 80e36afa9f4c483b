//! Pods and uplinks.

use orlop_ebpf_abi::{Addr, DeviceCounters, LocalPod};
use orlop_lb::addr_bytes;
use orlop_model::Ifindex;
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::{Datapath, Error, Hook, Program, sys};

/// What the programs need to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAttachment {
    /// The pod's addresses: what it may send from.
    pub ips: Vec<IpAddr>,
    /// Hardware address of the pod's interface.
    pub pod_mac: [u8; 6],
    /// Hardware address of the host's side.
    pub host_mac: [u8; 6],
    /// Cookie of the pod's network namespace (`orlop_kernel::Netns::cookie`): its sockets are translated.
    pub netns: u64,
}

impl Datapath {
    /// Attaches a pod's veth by its host side, in the calling thread's network
    /// namespace. Calling it again updates addresses and programs.
    ///
    /// # Errors
    /// A full map or a device that is gone.
    pub fn attach_pod(&self, host: Ifindex, pod: &PodAttachment) -> Result<(), Error> {
        self.device_counters.create_per_cpu(&host.get(), DeviceCounters::default(), self.cpus)?;
        let wanted: BTreeSet<Addr> = pod.ips.iter().copied().map(addr_bytes).collect();
        let value = LocalPod { ifindex: host.get(), pod_mac: pod.pod_mac, host_mac: pod.host_mac };
        for addr in &wanted {
            self.pods.put(addr, &value)?;
        }
        self.remove_pod_addrs(host, &wanted)?;
        self.set_pod_netns(host, Some(pod.netns))?;
        self.put_pod_filters(host)
    }

    /// Detaches a pod's veth. Its counters stay until
    /// [`forget_pod_counters`](Self::forget_pod_counters).
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach_pod(&self, host: Ifindex) -> Result<(), Error> {
        self.remove_pod_addrs(host, &BTreeSet::new())?;
        self.set_pod_netns(host, None)?;
        self.set_bandwidth(host, None, None)?;
        self.delete_pod_filters(host)
    }

    /// Attached pods' host-side interfaces.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn attached_pods(&self) -> Result<BTreeSet<Ifindex>, Error> {
        Ok(self.pods.entries()?.into_iter().filter_map(|(_, pod)| Ifindex::new(pod.ifindex)).collect())
    }

    pub(crate) fn remove_pod_addrs(&self, host: Ifindex, keep: &BTreeSet<Addr>) -> Result<(), Error> {
        for (addr, pod) in self.pods.entries()? {
            if pod.ifindex == host.get() && !keep.contains(&addr) {
                self.pods.remove(&addr)?;
            }
        }
        Ok(())
    }

    /// Serves NodePorts on an Ethernet device that has a node address.
    ///
    /// # Errors
    /// As [`attach_pod`](Self::attach_pod).
    pub fn attach_uplink(&self, device: Ifindex) -> Result<(), Error> {
        self.device_counters.create_per_cpu(&device.get(), DeviceCounters::default(), self.cpus)?;
        self.attach_uplink_program(device, Program::UplinkOut)?;
        self.attach_uplink_program(device, Program::UplinkIn)
    }

    /// Ends NodePorts on a device.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn detach_uplink(&self, device: Ifindex) -> Result<(), Error> {
        for program in [Program::UplinkXdp, Program::UplinkIn, Program::UplinkOut] {
            self.detach_uplink_program(device, program)?;
        }
        self.device_counters.remove(&device.get())
    }

    /// Runs a tc or XDP program on a frame as if it came along on the device, counters
    /// and flow table included, and returns its verdict (`TC_ACT_*` or `XDP_*`) and the frame
    /// as the program left it. No packet goes anywhere.
    ///
    /// # Errors
    /// A program of another kind, or a device that is not there.
    pub fn dry_run(&self, program: Program, device: Ifindex, frame: &[u8]) -> Result<(i32, Vec<u8>), Error> {
        let run = if program.hook() == Hook::Xdp { sys::test_run_xdp } else { sys::test_run };
        run(self.program(program), device.get(), frame).map_err(|source| Error::DryRun { program, device, source })
    }
}
