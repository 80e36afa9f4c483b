//! The folders below the node's BPF folder.
//!
//! ```text
//!  maps/FRONTENDS …        links/cgroup/connect4 …
//!                          links/uplink/2-uplink_in     (interface index, program)
//! ```

use nix::sys::statfs::statfs;
use orlop_model::Ifindex;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Program, sys};

#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders.
    pub fn create(root: &Path) -> Result<Self, Error> {
        let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let on_bpffs = statfs(existing).is_ok_and(|stat| stat.filesystem_type().0 == sys::BPF_FS_MAGIC);
        if !on_bpffs {
            return Err(Error::NoBpffs { path: root.to_path_buf() });
        }
        let layout = Self { root: root.to_path_buf() };
        for folder in [layout.maps(), layout.links("cgroup"), layout.links("uplink")] {
            fs::create_dir_all(&folder).map_err(|source| Error::Pin {
                operation: "create folder",
                path: folder.clone(),
                source,
            })?;
        }
        Ok(layout)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn links(&self, kind: &str) -> PathBuf {
        self.root.join("links").join(kind)
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn cgroup_link(&self, program: Program) -> PathBuf {
        self.links("cgroup").join(program.name())
    }

    pub fn device_link(&self, device: Ifindex, program: Program) -> PathBuf {
        self.links("uplink").join(format!("{}-{}", device.get(), program.name()))
    }

    /// Every uplink's pinned link, by what its name says.
    pub fn device_links(&self) -> Result<Vec<(Ifindex, Program)>, Error> {
        let mut found = Vec::new();
        let folder = self.links("uplink");
        let failed = |source| Error::Pin { operation: "read folder", path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let parsed = name.to_str().and_then(|name| name.split_once('-')).and_then(|(index, program)| {
                let program = Program::ALL.iter().copied().find(|known| known.name() == program)?;
                Some((Ifindex::new(index.parse().ok()?)?, program))
            });
            found.extend(parsed);
        }
        Ok(found)
    }
}
