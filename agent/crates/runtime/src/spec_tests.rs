//! Tables for what depends on a whole pod: users and specs.

use crate::capability::HostCapabilities;
use crate::spec::{ImageRun, Mount, NamespacePaths, SpecInput, build_spec};
use crate::user::{Databases, ResolvedUser, check_non_root, resolve_user};
use orlop_kernel::CgroupLayout;
use orlop_model::{
    ContainerDesired, ContainerName, ContainerSecurity, ImageRef, MountPropagation, PodDesired, PodKey, PodUid,
    SeccompProfile,
};
use std::path::Path;

/// What admission makes of an empty security context.
pub fn security() -> ContainerSecurity {
    ContainerSecurity::default()
}

fn container() -> ContainerDesired {
    ContainerDesired::new(ContainerName::new("web").unwrap(), ImageRef::new("busybox").unwrap())
}

fn pod() -> PodDesired {
    PodDesired::new(PodUid::new("u-1").unwrap(), PodKey::new("default", "p").unwrap())
}

#[test]
fn users() {
    let databases = Databases {
        passwd: "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:101:102::/srv/web:/bin/false\n".into(),
        group: "root:x:0:\nweb:x:102:\nlog:x:200:web,root\nwheel:x:10:root\n".into(),
    };
    let check = |image: &str, user: Option<u32>, group: Option<u32>, want: Result<(u32, u32, &[u32], &str), &str>| {
        let (mut pod, mut container) = (pod(), container());
        pod.security.fs_group = Some(900);
        (container.security.run_as_user, container.security.run_as_group) = (user, group);
        let got = resolve_user(image, &databases, &pod, &container).map_err(|e| e.to_string());
        let want = want.map_err(str::to_owned).map(|(uid, gid, groups, home)| ResolvedUser {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.into(),
        });
        assert_eq!(got, want, "{image:?} {user:?} {group:?}");
    };
    check("", None, None, Ok((0, 0, &[0, 200, 10, 900], "/root")));
    check("web", None, None, Ok((101, 102, &[102, 200, 900], "/srv/web")));
    check("101", None, None, Ok((101, 102, &[102, 200, 900], "/srv/web")));
    check("web:log", None, None, Ok((101, 200, &[200, 900], "/srv/web")));
    check("web:7", None, None, Ok((101, 7, &[7, 200, 900], "/srv/web")));
    check("5000", None, None, Ok((5000, 0, &[0, 900], "/")));
    check("web:log", Some(5000), None, Ok((5000, 0, &[0, 900], "/")));
    check("", Some(5000), Some(6000), Ok((5000, 6000, &[6000, 900], "/")));
    check("nobody", None, None, Err("unable to find user nobody: no matching entries in passwd file"));
    check("web:none", None, None, Err("unable to find group none: no matching entries in group file"));
    let strict = orlop_model::PodSecurity { strict_groups: true, supplemental_groups: vec![7], ..Default::default() };
    let pod = PodDesired { security: strict, ..pod() };
    assert_eq!(resolve_user("web", &databases, &pod, &container()).unwrap().groups, [102, 7]);
}

#[test]
fn non_root() {
    let check = |image: &str, user: Option<u32>, want: Option<&str>| {
        let mut container = container();
        container.security.run_as_non_root = true;
        container.security.run_as_user = user;
        let got = check_non_root(image, &pod(), &container).err().map(|e| e.to_string());
        let want = want.map(|w| format!("{w} (pod: \"p_default(u-1)\", container: web)"));
        assert_eq!(got, want, "{image:?} {user:?}");
    };
    check("", None, Some("container has runAsNonRoot and image will run as root"));
    check("0:0", None, Some("container has runAsNonRoot and image will run as root"));
    check(
        "web",
        None,
        Some("container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root"),
    );
    check("web", Some(0), Some("container's runAsUser breaks non-root policy"));
    check("web", Some(1), None);
    check("1000", None, None);
}

/// A spec as JSON, without the seccomp list.
fn spec_of(change: impl FnOnce(&mut PodDesired, &mut ContainerDesired), layout: CgroupLayout) -> serde_json::Value {
    let (mut pod, mut container) = (pod(), container());
    change(&mut pod, &mut container);
    let image = ImageRun {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["image-arg".into()],
        env: vec!["PATH=/bin".into(), "A=image".into()],
        user: String::new(),
        working_dir: Some("/srv".into()),
    };
    let (command, args) = (container.command.clone(), container.args.clone());
    let input = SpecInput {
        pod: &pod,
        container: &container,
        image: &image,
        env: &[("A".into(), "pod".into()), ("B".into(), "b".into())],
        command: &command,
        args: &args,
        user: &ResolvedUser { uid: 0, gid: 0, groups: vec![0, 900], home: "/root".into() },
        rootfs: Path::new("/rootfs"),
        mounts: &[Mount {
            source: "/volumes/data".into(),
            destination: "/data".into(),
            read_only: true,
            propagation: MountPropagation::None,
        }],
        shm: Some(Path::new("/pods/shm")),
        namespaces: &NamespacePaths::of_pod(Path::new("/run/p"), &pod),
        cgroup: Path::new("/orlop/c"),
        cgroup_layout: layout,
        pids_limit: None,
        localhost_seccomp: None,
        host_capabilities: HostCapabilities(u64::MAX),
        devices: &[],
        rlimits: &[],
    };
    serde_json::to_value(build_spec(&input).unwrap()).unwrap()
}

#[test]
fn specs() {
    use CgroupLayout::{Hybrid, V2};
    use serde_json::{Value, json};
    type Change = fn(&mut PodDesired, &mut ContainerDesired);
    let check = |what: &str, change: Change, version, pointer: &str, want: Value| {
        let spec = spec_of(change, version);
        assert_eq!(spec.pointer(pointer).cloned().unwrap_or_default(), want, "{what}: {pointer} of {spec:#}");
    };
    check("image's command", |_, _| {}, Hybrid, "/process/args", json!(["/entry", "image-arg"]));
    check("args", |_, c| c.args = vec!["x".into()], Hybrid, "/process/args", json!(["/entry", "x"]));
    check("command", |_, c| c.command = vec!["y".into()], Hybrid, "/process/args", json!(["y"]));
    let env = json!(["PATH=/bin", "A=pod", "HOSTNAME=p", "B=b", "HOME=/root"]);
    check("environment", |_, _| {}, Hybrid, "/process/env", env);
    check("image's folder", |_, _| {}, Hybrid, "/process/cwd", json!("/srv"));
    check("folder", |_, c| c.working_dir = Some("/w".into()), Hybrid, "/process/cwd", json!("/w"));
    check("no_new_privs left out", |_, _| {}, Hybrid, "/process/noNewPrivileges", Value::Null);
    let no_escalation: Change = |_, c| c.security.allow_privilege_escalation = false;
    check("no_new_privs", no_escalation, Hybrid, "/process/noNewPrivileges", json!(true));
    check("limits left out", |_, _| {}, Hybrid, "/process/rlimits", Value::Null);
    check("groups", |_, _| {}, Hybrid, "/process/user/additionalGids", json!([0, 900]));
    check("unconfined", |_, _| {}, Hybrid, "/linux/seccomp", Value::Null);
    let filtered: Change = |_, c| c.security.seccomp = SeccompProfile::RuntimeDefault;
    check("default filter", filtered, Hybrid, "/linux/seccomp/defaultAction", json!("SCMP_ACT_ERRNO"));
    let both: Change = |_, c| {
        c.security.privileged = true;
        c.security.seccomp = SeccompProfile::RuntimeDefault;
    };
    check("privileged has no filter", both, Hybrid, "/linux/seccomp", Value::Null);
    check("privileged sees all", both, Hybrid, "/linux/maskedPaths", json!([]));
    check("masked", |_, _| {}, Hybrid, "/linux/maskedPaths/0", json!("/proc/acpi"));
    let own = json!([{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/p/ns/net"},
        {"type": "ipc", "path": "/run/p/ns/ipc"}, {"type": "uts", "path": "/run/p/ns/uts"}]);
    check("namespaces", |_, _| {}, Hybrid, "/linux/namespaces", own);
    let host: Change = |p, _| (p.host_network, p.host_pid, p.host_ipc) = (true, true, true);
    check("host's namespaces", host, Hybrid, "/linux/namespaces", json!([{"type": "mount"}]));
    check("no hostname to set", |_, _| {}, Hybrid, "/hostname", Value::Null);
    check("nor on the host", host, Hybrid, "/hostname", Value::Null);
    let shared: Change = |p, _| p.share_process_namespace = true;
    check("shared pids", shared, Hybrid, "/linux/namespaces/1", json!({"type": "pid", "path": "/run/p/ns/pid"}));
    check("cgroup namespace", |_, _| {}, V2, "/linux/namespaces/5", json!({"type": "cgroup"}));
    let limits: Change = |_, c| {
        c.resources.cpu_limit_milli = Some(500);
        c.resources.memory_limit = Some(1 << 20);
    };
    let want = json!({"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 1048576},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000}});
    check("limits", limits, Hybrid, "/linux/resources", want);
    check("whole container", limits, V2, "/linux/resources/unified", json!({"memory.oom.group": "1"}));
    check("also without a limit", |_, _| {}, V2, "/linux/resources/unified", json!({"memory.oom.group": "1"}));
    check(
        "volume",
        |_, _| {},
        Hybrid,
        "/mounts/6",
        json!({"destination": "/data", "type": "bind",
        "source": "/volumes/data", "options": ["rbind", "rprivate", "ro"]}),
    );
    check("cgroup mount", |_, _| {}, V2, "/mounts/5/destination", json!("/sys/fs/cgroup"));
    check(
        "read-only root",
        |_, c| c.security.read_only_root = true,
        Hybrid,
        "/root",
        json!({"path": "/rootfs", "readonly": true}),
    );
}
