//! Who a container's process runs as: the image's USER text, the pod's security
//! context and the image's own `/etc/passwd` and `/etc/group`.

use crate::error::Error;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use orlop_model::{ContainerDesired, PodDesired};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const DATABASE_BYTES_MAX: u64 = 4 << 20;

/// The image's user databases, empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    /// Content of `/etc/passwd`.
    pub passwd: String,
    /// Content of `/etc/group`.
    pub group: String,
}

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one first, each once.
    pub groups: Vec<u32>,
    /// Home folder, `/` when the image does not say.
    pub home: PathBuf,
}

impl Databases {
    /// Reads them below a root filesystem; no link of the image leads out of it.
    ///
    /// # Errors
    /// The root itself cannot be opened.
    pub fn read(rootfs: &Path) -> Result<Self, Error> {
        let root = openat(AT_FDCWD, rootfs, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::file("open", rootfs)(errno.into()))?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let read = |path: &str| -> String {
            let mut bytes = Vec::new();
            if let Ok(fd) = openat2(&root, path, how) {
                let file = File::from(fd);
                // A pipe or device in its place is as good as no file.
                if file.metadata().is_ok_and(|data| data.is_file()) {
                    let _ = file.take(DATABASE_BYTES_MAX).read_to_end(&mut bytes);
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Self { passwd: read("etc/passwd"), group: read("etc/group") })
    }

    /// Fields of the first passwd line that `matches`: name, uid, gid, home.
    fn user(&self, matches: impl Fn(&str, u32) -> bool) -> Option<(&str, u32, u32, &str)> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            matches(name, uid).then(|| (name, uid, gid, fields.nth(1).unwrap_or("/")))
        })
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.groups().find(|(group, ..)| *group == name).map(|(_, gid, _)| gid)
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
        })
    }
}

/// Resolves as containerd does: `runAsUser` replaces the image's user, `runAsGroup`
/// the group; a numeric user without an entry has group 0; groups that list the
/// user (unless `supplementalGroupsPolicy` is `Strict`), then the pod's
/// `supplementalGroups` and `fsGroup` are added.
///
/// # Errors
/// A name that the image's databases do not have.
pub fn resolve_user(
    image_user: &str,
    databases: &Databases,
    pod: &PodDesired,
    container: &ContainerDesired,
) -> Result<ResolvedUser, Error> {
    let security = &container.security;
    let (user, group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let numeric = security.run_as_user.map(Ok).unwrap_or_else(|| if user.is_empty() { Ok(0) } else { user.parse() });
    let (entry, uid) = match numeric {
        Ok(uid) => (databases.user(|_, id| id == uid), uid),
        Err(_) => {
            let entry = databases.user(|name, _| name == user);
            let uid = entry.map(|(_, uid, ..)| uid);
            (
                entry,
                uid.ok_or_else(|| {
                    Error::Config(format!("unable to find user {user}: no matching entries in passwd file"))
                })?,
            )
        }
    };
    let image_group = match group {
        "" => None,
        name => Some(match name.parse() {
            Ok(gid) => gid,
            Err(_) => databases.group_id(name).ok_or_else(|| {
                Error::Config(format!("unable to find group {name}: no matching entries in group file"))
            })?,
        }),
    };
    // The image's group belongs to the image's user.
    let image_group = image_group.filter(|_| security.run_as_user.is_none());
    let gid = security.run_as_group.or(image_group).or(entry.map(|(_, _, gid, _)| gid)).unwrap_or(0);
    let mut groups = vec![gid];
    if let Some((name, ..)) = entry.filter(|_| !pod.security.strict_groups) {
        groups.extend(
            databases.groups().filter(|(_, _, members)| members.split(',').any(|m| m == name)).map(|(_, id, _)| id),
        );
    }
    groups.extend(&pod.security.supplemental_groups);
    groups.extend(pod.security.fs_group);
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    let home = entry.map_or("/", |(.., home)| home);
    Ok(ResolvedUser { uid, gid, groups, home: if home.is_empty() { "/".into() } else { home.into() } })
}

/// `runAsNonRoot`, with the kubelet's words (`verifyRunAsNonRoot`).
///
/// # Errors
/// The container would or might run as root.
pub fn check_non_root(image_user: &str, pod: &PodDesired, container: &ContainerDesired) -> Result<(), Error> {
    let security = &container.security;
    if !security.run_as_non_root {
        return Ok(());
    }
    let who =
        format!("(pod: \"{}_{}({})\", container: {})", pod.key.name(), pod.key.namespace(), pod.uid, container.name);
    let user = image_user.split(':').next().unwrap_or_default();
    let problem = match (security.run_as_user, user.parse::<u32>()) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, Ok(0)) => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, Ok(_)) => return Ok(()),
        (None, Err(_)) if user.is_empty() => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, Err(_)) => {
            format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
            )
        }
    };
    Err(Error::Config(format!("{problem} {who}")))
}
