//! What `securityContext` says holds for the container's first process and for exec'd ones.

use orlop_tests::{World, pod};

/// Fields of /proc/PID/status by name, of the first process and of an exec'd one.
fn field(world: &World, pod: &str, name: &str) -> [String; 2] {
    ["1", "self"].map(|process| {
        let line = world.sh(pod, &format!("grep ^{name}: /proc/{process}/status")).ok();
        line.split_once(':').expect("NAME: VALUE").1.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// A pod of one container with this security context.
fn guarded(world: &World, name: &str, context: &str) {
    let container = format!("{{name: c, image: IMAGE, command: IDLE, securityContext: {context}}}");
    world.apply(name, &pod(name, &format!("containers: [{container}]")));
}

#[test]
fn users_and_groups() {
    let world = World::new();
    world.apply(
        "user",
        &pod(
            "user",
            "securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000]}
             volumes: [{name: d, emptyDir: {}}]
             containers: [{name: c, image: IMAGE, command: IDLE, volumeMounts: [{name: d, mountPath: /d}]}]",
        ),
    );
    world.wait_ready("user");
    let four = |id: &str| [id, id, id, id].join(" ");
    assert_eq!(field(&world, "user", "Uid"), [four("1000"), four("1000")]);
    assert_eq!(field(&world, "user", "Gid"), [four("2000"), four("2000")]);
    for groups in field(&world, "user", "Groups") {
        let groups: Vec<&str> = groups.split(' ').collect();
        assert!(groups.contains(&"3000") && groups.contains(&"4000"), "{groups:?}");
    }
    assert_eq!(field(&world, "user", "CapEff"), ["0000000000000000", "0000000000000000"]);
    assert_eq!(world.sh("user", "stat -c %g /d; touch /d/mine; stat -c %u:%g /d/mine").ok(), "3000\n1000:3000");
    assert_ne!(world.sh("user", "touch /etc/mine").code, 0, "only root may write there");
}

#[test]
fn capabilities_and_privileges() {
    let world = World::new();
    guarded(&world, "plain", "{}");
    guarded(&world, "few", "{capabilities: {drop: [ALL], add: [NET_ADMIN]}}");
    guarded(&world, "less", "{capabilities: {drop: [CHOWN]}}");
    guarded(&world, "all", "{privileged: true}");
    guarded(&world, "locked", "{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}");
    for name in ["plain", "few", "less", "all", "locked"] {
        world.wait_ready(name);
    }
    // CAP_CHOWN is bit 0, CAP_NET_ADMIN bit 12 (linux/capability.h); containerd's default set.
    for (name, effective) in [("plain", "00000000a80425fb"), ("few", "0000000000001000"), ("less", "00000000a80425fa")]
    {
        assert_eq!(field(&world, name, "CapEff"), [effective, effective], "{name}");
        assert_eq!(field(&world, name, "CapBnd"), [effective, effective], "{name}");
        assert_eq!(field(&world, name, "NoNewPrivs"), ["0", "0"], "{name}");
    }
    // CAP_SYS_ADMIN is bit 21.
    for effective in field(&world, "all", "CapEff") {
        let bits = u64::from_str_radix(&effective, 16).unwrap();
        assert!(bits & 1 << 21 != 0, "a privileged container has CAP_SYS_ADMIN: {effective}");
    }
    assert_eq!(world.sh("all", "mkdir /m && mount -t tmpfs none /m && echo mounted").ok(), "mounted");
    assert_ne!(world.sh("plain", "mkdir /m && mount -t tmpfs none /m").code, 0);
    assert_eq!(field(&world, "locked", "NoNewPrivs"), ["1", "1"]);
    let refused = world.sh("locked", "touch /file").fails(1);
    assert!(refused.contains("Read-only file system"), "{refused}");
    world.sh("locked", "echo fine > /dev/shm/file").ok();
}

#[test]
fn seccomp_holds_for_every_process() {
    let world = World::new();
    guarded(&world, "filtered", "{seccompProfile: {type: RuntimeDefault}}");
    guarded(&world, "free", "{seccompProfile: {type: Unconfined}}");
    for (name, mode) in [("filtered", "2"), ("free", "0")] {
        world.wait_ready(name);
        assert_eq!(field(&world, name, "Seccomp"), [mode, mode], "{name}");
    }
    // A new user namespace needs no capability, so that only the filter stands in its way.
    let refused = world.sh("filtered", "unshare -U true").fails(1);
    assert!(refused.contains("Operation not permitted"), "{refused}");
    world.sh("free", "unshare -U true").ok();
}

#[test]
fn root_is_refused_where_it_may_not_run() {
    let world = World::new();
    guarded(&world, "root", "{runAsNonRoot: true}");
    guarded(&world, "user", "{runAsNonRoot: true, runAsUser: 1000}");
    world.wait_event("root", "Failed", "runAsNonRoot");
    let root = world.wait_pod("root", "says why", |pod| pod.status == "CreateContainerConfigError");
    assert_eq!((root.phase.as_str(), root.container("c").state.as_str()), ("Pending", "waiting"));
    world.wait_ready("user");
    assert_eq!(world.sh("user", "id -u").ok(), "1000");
}
