//! The files that every container of a pod gets.

mod world;

use orlop_model::{ContainerName, DnsDesired};
use orlop_volume::{NodeFiles, make_termination_log, tear_down, write_pod_files};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use world::World;

#[test]
fn hosts_hostname_and_resolv_conf() {
    let world = World::new();
    let node = NodeFiles { hosts: world.dir.path().join("hosts"), resolv_conf: world.dir.path().join("resolv.conf") };
    fs::write(&node.hosts, "192.0.2.1 node\n").unwrap();
    fs::write(&node.resolv_conf, "nameserver 192.0.2.53\n").unwrap();
    let mut pod = world.pod(Vec::new());
    pod.dns = DnsDesired { from_node: true, ..DnsDesired::default() };
    let write = |pod: &_, ip: &str| write_pod_files(pod, &world.roots, &[ip.parse().unwrap()], &node).unwrap();
    let files = write(&pod, "10.1.0.4");
    assert!(fs::read_to_string(&files.hosts).unwrap().ends_with("10.1.0.4\tweb\n"));
    assert_eq!(fs::read_to_string(&files.hostname).unwrap(), "web\n");
    assert_eq!(fs::read_to_string(&files.resolv_conf).unwrap(), "nameserver 192.0.2.53\n");
    assert_eq!(fs::metadata(&files.hosts).unwrap().permissions().mode(), 0o100_644);

    // Containers have the file bind-mounted: a new address must appear in the same inode.
    let inode = |path| fs::metadata(path).unwrap().ino();
    let before = inode(&files.hosts);
    let again = write(&pod, "10.1.0.5");
    assert_eq!((inode(&again.hosts), again == files), (before, true));
    assert!(fs::read_to_string(&files.hosts).unwrap().ends_with("10.1.0.5\tweb\n"));

    pod.host_network = true;
    let hosts = fs::read_to_string(write(&pod, "10.1.0.5").hosts).unwrap();
    assert_eq!(hosts, "# Kubernetes-managed hosts file (host network).\n192.0.2.1 node\n");
    fs::remove_file(&node.resolv_conf).unwrap();
    assert_eq!(fs::read_to_string(write(&pod, "10.1.0.5").resolv_conf).unwrap(), "");
}

#[test]
fn a_termination_log_is_writable_by_any_user() {
    let world = World::new();
    let pod = world.pod(Vec::new());
    let name = ContainerName::new("c").unwrap();
    let path = make_termination_log(&pod.uid, &name, 3, &world.roots).unwrap();
    assert_eq!(path, world.pod_dir(&pod).join("containers/c/3"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode(), 0o100_666);
    fs::write(&path, "why").unwrap();
    make_termination_log(&pod.uid, &name, 3, &world.roots).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "why", "made twice, it keeps what was said");
    tear_down(&pod.uid, &world.roots).unwrap();
    assert!(!world.pod_dir(&pod).exists());
}
