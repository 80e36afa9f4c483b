//! Limits and classes, as the kernel has them.

use orlop_tests::{Detail, World, pod};
use std::path::Path;

/// Whether this machine's controllers are in cgroup v1 hierarchies.
fn version_1() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// The value of a file in a container's cgroup (`container`) or in its pod's.
fn value(world: &World, detail: &Detail, container: bool, (controller, file): (&str, &str)) -> String {
    let id = detail.pod.container("c").id.clone().unwrap();
    let id = id.strip_prefix("orlop://").unwrap_or(&id).to_owned();
    let cgroup = if container { format!("{}/{id}", detail.cgroup) } else { detail.cgroup.clone() };
    world.cgroup_file(controller, &cgroup, file).unwrap_or_else(|| panic!("no {file} in {cgroup}"))
}

#[test]
fn limits_and_classes() {
    let world = World::new();
    for (name, resources) in [
        ("guaranteed", "{limits: {cpu: 500m, memory: 64Mi}}"),
        ("burstable", "{requests: {cpu: 250m, memory: 32Mi}, limits: {memory: 64Mi}}"),
        ("besteffort", "{}"),
    ] {
        world.apply(
            name,
            &pod(name, &format!("containers: [{{name: c, image: IMAGE, command: IDLE, resources: {resources}}}]")),
        );
    }
    let memory = if version_1() { ("memory", "memory.limit_in_bytes") } else { ("memory", "memory.max") };
    let weight = if version_1() { ("cpu", "cpu.shares") } else { ("cpu", "cpu.weight") };
    let quota = if version_1() { ("cpu", "cpu.cfs_quota_us") } else { ("cpu", "cpu.max") };
    let (half, none) = if version_1() { ("50000", "-1") } else { ("50000 100000", "max 100000") };
    let limit = (64 << 20).to_string();
    // Shares are 1024 a CPU and at least 2; weights by the formula of runc 1.3.
    let shares = if version_1() { ["512", "256", "2"] } else { ["59", "35", "1"] };
    for (index, (name, class, folder, quota_is)) in [
        ("guaranteed", "Guaranteed", "/kubepods/pod", half),
        ("burstable", "Burstable", "/kubepods/burstable/pod", none),
        ("besteffort", "BestEffort", "/kubepods/besteffort/pod", none),
    ]
    .into_iter()
    .enumerate()
    {
        world.wait_ready(name);
        let detail = world.detail(name).unwrap();
        assert_eq!(detail.pod.qos, class);
        assert!(detail.cgroup.contains(&format!("{folder}{}", detail.pod.uid)), "{}", detail.cgroup);
        assert_eq!(value(&world, &detail, false, weight), shares[index], "{name}: {weight:?}");
        assert_eq!(value(&world, &detail, true, quota), quota_is, "{name}: {quota:?}");
        for of_container in [true, false] {
            let bytes = value(&world, &detail, of_container, memory);
            match name {
                "besteffort" => assert_ne!(bytes, limit),
                _ => assert_eq!(bytes, limit, "{name}, of the container: {of_container}"),
            }
        }
    }
    // kubelet's pkg/kubelet/qos: what cannot be lowered without CAP_SYS_RESOURCE stays as it was.
    let score = |name: &str| world.sh(name, "cat /proc/1/oom_score_adj").ok().parse::<i32>().unwrap();
    assert_eq!(score("besteffort"), 1000);
    let burstable = score("burstable");
    assert!((2..1000).contains(&burstable), "{burstable}");
    let guaranteed = score("guaranteed");
    assert!(guaranteed < burstable, "{guaranteed}");
}
