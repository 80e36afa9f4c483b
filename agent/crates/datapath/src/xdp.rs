//! XDP on uplinks, when it is asked for.

use orlop_model::Ifindex;
use std::io;
use std::os::fd::AsFd;

use crate::load::Datapath;
use crate::{Error, Program, attach, sys};

/// `BPF_XDP` of `enum bpf_attach_type`.
const XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
const NATIVE: u32 = 1 << 2;

/// Where packets of known NodePort flows to other nodes are sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acceleration {
    /// In tcx, as all others.
    #[default]
    Disabled,
    /// In the device's driver, before there is a socket buffer. Not every driver can.
    Native,
    /// In the kernel's generic XDP: for every device, and no faster than tcx. For trying.
    Generic,
    /// In the driver where it can, else as [`Self::Disabled`].
    BestEffort,
}

impl Datapath {
    /// Accelerates a device that [`attach_uplink`](Self::attach_uplink) serves, and says which kind it is now.
    /// An earlier attachment is replaced; packets meanwhile go the way without.
    ///
    /// # Errors
    /// [`Error::AttachUplink`]: the driver cannot (not with [`Acceleration::BestEffort`]), or another XDP program is
    /// there.
    pub fn accelerate_uplink(&self, device: Ifindex, wanted: Acceleration) -> Result<Acceleration, Error> {
        let program = Program::UplinkXdp;
        let failed = |source| Error::AttachUplink { program, device, source };
        let path = self.layout.device_link(device, program);
        attach::unpin_link(&path).map_err(failed)?;
        let flags = match wanted {
            Acceleration::Disabled => return Ok(Acceleration::Disabled),
            Acceleration::Native | Acceleration::BestEffort => NATIVE,
            Acceleration::Generic => GENERIC,
        };
        let attach = || -> io::Result<()> {
            let link = sys::link_create(self.program(program), device.get(), XDP, flags)?;
            sys::pin(link.as_fd(), &path)
        };
        match attach() {
            Ok(()) if flags == NATIVE => Ok(Acceleration::Native),
            Ok(()) => Ok(wanted),
            Err(_) if wanted == Acceleration::BestEffort => Ok(Acceleration::Disabled),
            Err(source) => Err(failed(source)),
        }
    }
}
