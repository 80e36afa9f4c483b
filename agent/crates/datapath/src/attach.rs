//! Links of the cgroup and of uplinks: made once, pinned, then only their program changes.

use orlop_model::Ifindex;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::load::Datapath;
use crate::{Error, Program, sys};

/// Is the pinned link still on its target?
enum Pinned {
    Absent,
    Stale,
    Live(std::os::fd::OwnedFd),
}

fn pinned(path: &Path, is_target: impl Fn(&sys::LinkInfo) -> bool) -> io::Result<Pinned> {
    match sys::open_pin(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Pinned::Absent),
        Err(err) => Err(err),
        Ok(link) if is_target(&sys::link_info(link.as_fd())?) => Ok(Pinned::Live(link)),
        Ok(_) => Ok(Pinned::Stale),
    }
}

/// Puts `program` under the link pinned at `path`, making it when it is not there.
fn ensure(
    path: &Path,
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    is_target: impl Fn(&sys::LinkInfo) -> bool,
) -> io::Result<()> {
    match pinned(path, is_target)? {
        Pinned::Live(link) => return sys::link_update(link.as_fd(), program),
        // The cgroup or device is gone and took the attachment with it.
        Pinned::Stale => unpin_link(path)?,
        Pinned::Absent => {}
    }
    let link = sys::link_create(program, target, attach_type, 0)?;
    sys::pin(link.as_fd(), path)
}

/// Detaches and removes the pin; one that is not there is a success.
pub fn unpin_link(path: &Path) -> io::Result<()> {
    match sys::open_pin(path) {
        // A link whose target is gone has nothing to detach.
        Ok(link) => drop(sys::link_detach(link.as_fd())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

impl Datapath {
    pub(crate) fn attach_cgroup(&self, cgroup: &Path) -> Result<(), Error> {
        for &program in Program::ALL {
            let crate::Hook::Cgroup(attach_type) = program.hook() else { continue };
            let attach = || {
                let folder = fs::File::open(cgroup)?;
                let inode = folder.metadata()?.ino();
                let path = self.layout.cgroup_link(program);
                ensure(&path, self.program(program), folder.as_raw_fd() as u32, attach_type, |info| {
                    info.cgroup() == inode
                })
            };
            attach().map_err(|source| Error::AttachCgroup { program, cgroup: cgroup.to_path_buf(), source })?;
        }
        Ok(())
    }

    /// An earlier agent may have been told of a cgroup.
    pub(crate) fn detach_cgroup(&self) -> Result<(), Error> {
        for &program in Program::ALL {
            let path = self.layout.cgroup_link(program);
            unpin_link(&path).map_err(|source| Error::Pin { operation: "remove pin", path, source })?;
        }
        Ok(())
    }

    pub(crate) fn attach_uplink_program(&self, device: Ifindex, program: Program) -> Result<(), Error> {
        let crate::Hook::Uplink(attach_type) = program.hook() else { return Ok(()) };
        let path = self.layout.device_link(device, program);
        ensure(&path, self.program(program), device.get(), attach_type, |info| info.ifindex() == device.get())
            .map_err(|source| Error::AttachUplink { program, device, source })
    }

    pub(crate) fn detach_uplink_program(&self, device: Ifindex, program: Program) -> Result<(), Error> {
        let path = self.layout.device_link(device, program);
        unpin_link(&path).map_err(|source| Error::Pin { operation: "remove pin", path, source })
    }

    /// Puts this object's programs under the uplinks' links of an earlier agent;
    /// drops the pins whose device is gone.
    pub(crate) fn update_uplink_links(&self) -> Result<(), Error> {
        for (device, program) in self.layout.device_links()? {
            let path = self.layout.device_link(device, program);
            let update = || match pinned(&path, |info| info.ifindex() == device.get())? {
                Pinned::Live(link) => sys::link_update(link.as_fd(), self.program(program)),
                Pinned::Stale => unpin_link(&path),
                Pinned::Absent => Ok(()),
            };
            update().map_err(|source| Error::AttachUplink { program, device, source })?;
        }
        Ok(())
    }
}
