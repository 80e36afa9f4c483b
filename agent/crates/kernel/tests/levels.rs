//! What is left of this machine, against what the test takes away.

use nix::sched::{CloneFlags, unshare};
use orlop_kernel::{FsLevel, Level, make_private, mount_tmpfs, unmount};
use std::fs;
use std::path::Path;

#[test]
fn a_file_system_fills() {
    let on_a_thread_of_its_own = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        make_private(Path::new("/"), true).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let around = FsLevel::of(dir.path()).unwrap();
        mount_tmpfs(dir.path(), Some(1 << 20), 0o700).unwrap();
        let before = FsLevel::of(dir.path()).unwrap();
        fs::write(dir.path().join("file"), vec![1; 256 << 10]).unwrap();
        let after = FsLevel::of(&dir.path().join("file")).unwrap();
        unmount(dir.path()).unwrap();
        assert_ne!(around.device, before.device);
        assert_eq!(before.device, after.device);
        assert_eq!(before.bytes, Level { available: 1 << 20, capacity: 1 << 20 });
        assert_eq!(after.bytes, Level { available: 768 << 10, capacity: 1 << 20 });
        assert_eq!(before.inodes.capacity, after.inodes.capacity);
        assert_eq!(before.inodes.available, after.inodes.available + 1);
        let missing = FsLevel::of(&dir.path().join("file")).unwrap_err().to_string();
        assert!(missing.starts_with("read /"), "{missing}");
    });
    if let Err(panic) = on_a_thread_of_its_own.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn memory_and_process_ids_of_this_machine() {
    for level in [Level::of_memory().unwrap(), Level::of_pids().unwrap()] {
        assert!(0 < level.available && level.available < level.capacity, "{level:?}");
    }
}
