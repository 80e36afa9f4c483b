//! One network's leases, shared by all plugin processes of the node.

use super::failure::{Code, Failure};
use crate::{Attachment, CniError, Ipam};
use ipnet::IpNet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The leases of one network.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    ranges: Vec<IpNet>,
}

impl Store {
    pub(crate) fn new(folder: &Path, ranges: &[IpNet]) -> Self {
        Self { folder: folder.to_owned(), ranges: ranges.to_vec() }
    }

    /// The file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("leases.json")
    }

    /// There are leases, and nobody can read them.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(Ipam::<Attachment>::open(&self.file(), &self.ranges), Err(CniError::DamagedLeases { .. }))
    }

    /// Runs `work` with the leases while no other process has them. The lock is the
    /// kernel's (flock) and ends with the process, whatever ends it; inside it there is
    /// nothing but reading and writing one small file, so nobody waits long.
    ///
    /// # Errors
    /// The folder cannot be made or locked, the leases cannot be read, or `work`'s.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Ipam<Attachment>) -> Result<T, CniError>,
    ) -> Result<T, Failure> {
        let lock = self.folder.join("lock");
        let failed = |error: std::io::Error| {
            let details = format!("{error}; dataDir must be a writable folder on a local file system");
            Failure::new(Code::Io, format!("lock the leases with {}", lock.display()), details)
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        // Never removed: a process that waits for a removed file's lock would share it with nobody.
        let held = File::options().create(true).append(true).open(&lock).map_err(failed)?;
        held.lock().map_err(failed)?;
        let mut ipam = Ipam::open(&self.file(), &self.ranges).map_err(|error| Failure::of(&error))?;
        work(&mut ipam).map_err(|error| Failure::of(&error))
    }
}
