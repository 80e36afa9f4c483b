//! `DIR/containers/ID/record.json`: what must survive this process.

use crate::cgroup::Cgroup;
use crate::error::Error;
use orlop_wire::AttemptRecord;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The public record and what the next monitor needs to clean up after this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// What the agent may read from the file, too.
    #[serde(flatten)]
    pub record: AttemptRecord,
    /// Where its processes are.
    #[serde(default)]
    pub cgroup: Cgroup,
}

/// Replaces the record in one step. Not synced: the folder is on a tmpfs, and a
/// power cut ends the pod as well as its record.
///
/// # Errors
/// The folder cannot be written.
pub fn store(folder: &Path, stored: &Stored) -> Result<(), Error> {
    let (path, next) = (folder.join("record.json"), folder.join("record.json.next"));
    let bytes = serde_json::to_vec(stored).map_err(|source| Error::Json { path: path.clone(), source })?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)
        .map_err(Error::file("create", &next))?;
    file.write_all(&bytes).map_err(Error::file("write", &next))?;
    fs::rename(&next, &path).map_err(Error::file("replace", &path))
}

/// All records below `DIR/containers`, oldest attempt first. A folder without a
/// readable record is a creation that never got as far as running; it is removed.
///
/// # Errors
/// The folder cannot be listed.
pub fn load_all(containers: &Path) -> Result<Vec<Stored>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(containers).map_err(Error::file("list", containers))?.flatten() {
        let path = entry.path().join("record.json");
        match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok()) {
            Some(stored) => found.push(stored),
            None => drop(fs::remove_dir_all(entry.path())),
        }
    }
    found.sort_by(|a, b| (&a.record.name, a.record.attempt).cmp(&(&b.record.name, b.record.attempt)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_model::{ContainerId, ContainerName};
    use orlop_wire::ContainerStatus;

    #[test]
    fn a_record_comes_back_and_the_agent_can_read_it() {
        let folder = std::env::temp_dir().join(format!("orlop-record-{}", std::process::id()));
        let one = folder.join("one");
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(folder.join("torn")).unwrap();
        let record = AttemptRecord {
            id: ContainerId::new("a".repeat(64)).unwrap(),
            name: ContainerName::new("web").unwrap(),
            attempt: 3,
            status: ContainerStatus::Running { pid: 7, started: "2026-01-02T03:04:05Z".parse().unwrap() },
            meta: serde_json::json!({"image": "x"}),
        };
        let stored = Stored { record: record.clone(), cgroup: Cgroup { folders: vec!["/a".into()], memory: None } };
        store(&one, &stored).unwrap();
        assert_eq!(load_all(&folder).unwrap(), [stored]);
        let public: AttemptRecord = serde_json::from_slice(&fs::read(one.join("record.json")).unwrap()).unwrap();
        assert_eq!(public, record);
        assert!(!folder.join("torn").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
