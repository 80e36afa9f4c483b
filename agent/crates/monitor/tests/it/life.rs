//! Start, end, signals, failures, restarts of either side.

use crate::world::{SOON, World, program, wait_for};
use orlop_model::ContainerResources;
use orlop_runtime::{Monitor, MonitorEvent, Mount};
use orlop_wire::{AttemptRecord, ContainerStatus, Exit, StartFailure};
use std::fs;
use std::path::Path;

fn exit_of(record: &AttemptRecord) -> &Exit {
    match &record.status {
        ContainerStatus::Exited { exit, .. } => exit,
        other => panic!("{other:?} is no exit"),
    }
}

fn failure_of(record: &AttemptRecord) -> &StartFailure {
    match &record.status {
        ContainerStatus::Failed(failure) => failure,
        other => panic!("{other:?} is no failure"),
    }
}

fn pid_of(record: &AttemptRecord) -> u32 {
    match record.status {
        ContainerStatus::Running { pid, .. } => pid,
        ref other => panic!("{other:?} does not run"),
    }
}

#[tokio::test]
async fn a_container_runs_in_the_pods_namespaces_and_its_end_is_recorded() {
    let mut world = World::new().await;
    let record = world.run("hostname; echo oops >&2; cat /proc/self/oom_score_adj; exit 7").await;
    pid_of(&record);
    let ended = world.exited().await;
    assert_eq!((ended.id.clone(), ended.attempt), (record.id.clone(), 0));
    let exit = exit_of(&ended);
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    let log = world.log(&record);
    let lines: Vec<&str> = log.lines().filter_map(|l| l.split_once(' ')).map(|(_, rest)| rest).collect();
    for want in ["stdout F pod-host", "stderr F oops", "stdout F 1000"] {
        assert!(lines.contains(&want), "{want} in {log}");
    }
    let file = world.dir().join("containers").join(ended.id.as_str()).join("record.json");
    let stored: AttemptRecord = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(stored, ended);
    assert_eq!(stored.meta, serde_json::json!({"n": 0}));
    world.monitor.remove(&record.id).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn signals_reach_the_container() {
    let mut world = World::new().await;
    let record = world.run("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done").await;
    world.logged(&record, "ready").await;
    world.monitor.signal(&record.id, 15, false).await.unwrap();
    assert_eq!(exit_of(&world.exited().await).code, 3);
    let record = world.run("trap '' TERM; sleep 1000").await;
    world.monitor.signal(&record.id, 9, true).await.unwrap();
    let ended = world.exited().await;
    assert_eq!((exit_of(&ended).code, exit_of(&ended).signal), (137, Some(9)));
    world.monitor.signal(&record.id, 9, false).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_container_gets_no_signal_settings_of_the_monitor() {
    let mut world = World::new().await;
    let record = world.run("grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d '\\t '").await;
    world.exited().await;
    let log = world.log(&record);
    for want in ["SigBlk:0000000000000000", "SigIgn:0000000000000000"] {
        assert!(log.contains(want), "{log}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let world = World::new().await;
    let check = |command: &[&str]| {
        let command: Vec<String> = command.iter().map(|s| (*s).to_owned()).collect();
        world.container("", |c, _, _| c.command = command)
    };
    let failed = world.monitor.create(check(&["nothing-here"])).await.unwrap();
    let failure = failure_of(&failed);
    assert_eq!((failure.reason.as_str(), failure.code), ("ContainerCannotRun", 127));
    assert_eq!(failure.message, "exec: \"nothing-here\": executable file not found in $PATH");
    let failed = world.monitor.create(check(&["/etc/passwd"])).await.unwrap();
    assert_eq!((failure_of(&failed).reason.as_str(), failure_of(&failed).code), ("ContainerCannotRun", 126));
    let script = world.path("rootfs/bin/broken");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let failed = world.monitor.create(check(&["/bin/broken"])).await.unwrap();
    assert_eq!(failure_of(&failed).code, 127, "{failed:?}");
    let mount = Mount {
        source: "/no/such/source".into(),
        destination: "/data".into(),
        read_only: false,
        propagation: Default::default(),
    };
    let create = world.container("true", |_, _, mounts| mounts.push(mount));
    let failed = world.monitor.create(create).await.unwrap();
    assert_eq!((failure_of(&failed).reason.as_str(), failure_of(&failed).code), ("StartError", 128));
    assert!(
        failure_of(&failed).message.contains("/no/such/source") || failure_of(&failed).message.contains("rootfs"),
        "{failed:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_missing_working_folder_is_made() {
    let mut world = World::new().await;
    let create = world.container("echo $PWD", |c, _, _| c.working_dir = Some("/new/folder".into()));
    let record = world.start(create).await;
    assert_eq!(exit_of(&world.exited().await).code, 0, "{record:?}");
    assert!(world.log(&record).contains("stdout F /new/folder"));
    world.end().await;
}

#[tokio::test]
async fn memory_over_the_limit_is_an_oom_kill() {
    let mut world = World::new().await;
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?";
    let create = world.container(script, |c, _, _| {
        c.resources = ContainerResources { memory_limit: Some(16 << 20), ..Default::default() };
    });
    world.start(create).await;
    let ended = world.exited().await;
    assert!(exit_of(&ended).oom_killed, "{ended:?}");
    world.end().await;
}

#[tokio::test]
async fn termination_messages_come_from_the_file_or_the_log() {
    let mut world = World::new().await;
    let file = world.path("message");
    fs::write(&file, "").unwrap();
    let mount = Mount {
        source: file.clone(),
        destination: "/dev/termination-log".into(),
        read_only: false,
        propagation: Default::default(),
    };
    let create = world.container("echo why >/dev/termination-log; exit 1", |_, create, mounts| {
        create.termination_message = Some(file.clone());
        mounts.push(mount);
    });
    world.start(create).await;
    assert_eq!(exit_of(&world.exited().await).message, "why\n");
    let create = world.container("echo from the log; exit 1", |_, create, _| create.message_from_log = true);
    world.start(create).await;
    assert_eq!(exit_of(&world.exited().await).message, "from the log\n");
    world.end().await;
}

#[tokio::test]
async fn a_new_agent_finds_everything() {
    let mut world = World::new().await;
    let runs = world.run("sleep 1000").await;
    let record = world.run("exit 4").await;
    let ended = world.exited().await;
    let (other, snapshot, mut events) = Monitor::connect(&world.dir()).await.unwrap();
    assert_eq!(snapshot.ready, world.snapshot.ready);
    assert_eq!(snapshot.containers, [runs.clone(), ended]);
    assert_eq!(snapshot.containers[1].id, record.id);
    // The first agent's connection goes; nothing else does.
    drop(std::mem::replace(&mut world.monitor, other.clone()));
    other.signal(&runs.id, 9, false).await.unwrap();
    let event = tokio::time::timeout(SOON, events.recv()).await.unwrap();
    assert!(matches!(event, Some(MonitorEvent::Exited(ref r)) if r.id == runs.id), "{event:?}");
    world.events = events;
    world.end().await;
}

#[tokio::test]
async fn a_killed_monitor_is_followed_by_one_that_knows() {
    let mut world = World::new().await;
    let runs = world.run("sleep 1000").await;
    let init = pid_of(&runs);
    let old = world.snapshot.ready.clone();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(old.pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(tokio::time::timeout(SOON, world.events.recv()).await.unwrap(), Some(MonitorEvent::Gone));
    world.monitor.signal(&runs.id, 9, false).await.unwrap_err();
    let config = world.snapshot.config.clone();
    let (monitor, snapshot, events) = Monitor::start(&program(), &config).await.unwrap();
    assert_eq!(snapshot.ready.netns, old.netns, "the pod keeps its network");
    let exit = exit_of(&snapshot.containers[0]);
    assert_eq!((snapshot.containers[0].id.clone(), exit.code), (runs.id, 137));
    wait_for("the orphan's end", || {
        let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    })
    .await;
    (world.monitor, world.events, world.snapshot) = (monitor, events, snapshot);
    world.end().await;
}

#[tokio::test]
async fn containers_can_share_a_pid_namespace() {
    let mut world = World::with(|pod| pod.share_process_namespace = true).await;
    let sleeper = world.run("exec sleep 1234").await;
    let record = world.run("ps; exit 0").await;
    assert_eq!(exit_of(&world.exited().await).code, 0);
    let log = world.log(&record);
    assert!(log.contains("sleep 1234") && log.contains("orlop-hold"), "{log}");
    world.monitor.signal(&sleeper.id, 9, false).await.unwrap();
    assert_eq!(exit_of(&world.exited().await).code, 137);
    world.end().await;
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = orlop_wire::SandboxConfig {
        uid: orlop_model::PodUid::new("u-2").unwrap(),
        dir: folder.path().join("pod"),
        hostname: "h".into(),
        host_network: true,
        host_ipc: true,
        share_process_namespace: false,
        sysctls: vec![("no.such.sysctl".into(), "1".into())],
        own_cgroup_procs: Vec::new(),
    };
    let error = Monitor::start(&program(), &config).await.unwrap_err().to_string();
    assert!(error.contains("write sysctl /proc/sys/no/such/sysctl"), "{error}");
    assert!(!Path::new(&config.dir.join("monitor.sock")).exists());
}

#[tokio::test]
async fn no_image_can_overwrite_the_monitors_program() {
    let world = World::new().await;
    let exe = format!("/proc/{}/exe", world.snapshot.ready.pid);
    let flags = nix::sys::statvfs::statvfs(exe.as_str()).unwrap().flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{flags:?}");
    world.end().await;
}
