//! Exec'd processes: as confined as their container.

use crate::world::{SOON, World, exec, wait_for};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use orlop_kernel::{CgroupLayout, CgroupMounts};
use orlop_model::{ContainerId, SeccompProfile};
use orlop_wire::{ContainerStatus, Exec, Exit};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// Runs it and gives its output and end.
async fn output(world: &World, exec: Exec) -> (String, Exit) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let stdin: OwnedFd = File::open("/dev/null").unwrap().into();
    let stdio = [stdin, write.try_clone().unwrap(), write];
    let handle = world.monitor.exec(exec, Some(stdio)).await.unwrap();
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        text
    });
    let text = tokio::time::timeout(SOON, text).await.unwrap().unwrap();
    let exit = tokio::time::timeout(SOON, handle.exit).await.unwrap().unwrap();
    (text, exit)
}

/// What of `/proc/self/status` and `/proc/self/limits` confines a process.
fn confinement(text: &str) -> BTreeMap<String, String> {
    let keys = [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "SigIgn",
        "SigBlk",
    ];
    let mut found: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| keys.contains(key))
        .map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let files = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    found.insert("files".into(), files.split_whitespace().collect::<Vec<_>>().join(" "));
    found
}

async fn check_confinement(user: Option<u32>, escalation: bool, profile: SeccompProfile) {
    let world = World::new().await;
    let script = "cat /proc/self/status /proc/self/limits; sleep 1000";
    let want_seccomp = if profile == SeccompProfile::Unconfined { "0" } else { "2" };
    let create = world.container(script, |c, _, _| {
        (c.security.run_as_user, c.security.run_as_group) = (user, user.map(|u| u + 1));
        c.security.allow_privilege_escalation = escalation;
        c.security.seccomp = profile;
    });
    let record = world.start(create).await;
    wait_for("the container's output", || world.log(&record).contains("Max realtime timeout")).await;
    let log = world.log(&record);
    let texts: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let own = confinement(&texts.join("\n"));
    let (text, exit) = output(&world, exec(&record.id, &["cat", "/proc/self/status", "/proc/self/limits"])).await;
    assert_eq!(exit.code, 0, "{text}");
    let execs = confinement(&text);
    assert_eq!(execs, own);
    assert_eq!(execs["Seccomp"], want_seccomp);
    assert_eq!(execs["NoNewPrivs"], if escalation { "0" } else { "1" });
    assert_eq!(execs["files"], "Max open files 111 222 files");
    let uid = user.unwrap_or(0);
    assert_eq!(execs["Uid"], format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(execs["CapEff"], if uid == 0 { "00000000a80425fb" } else { "0000000000000000" });
    assert_eq!(execs["CapBnd"], "00000000a80425fb");
    world.end().await;
}

#[tokio::test]
async fn root_with_a_filter() {
    check_confinement(None, true, SeccompProfile::RuntimeDefault).await;
}

#[tokio::test]
async fn a_user_with_a_filter() {
    check_confinement(Some(1000), true, SeccompProfile::RuntimeDefault).await;
}

#[tokio::test]
async fn a_user_who_may_gain_nothing() {
    check_confinement(Some(1000), false, SeccompProfile::RuntimeDefault).await;
}

#[tokio::test]
async fn root_without_a_filter() {
    check_confinement(None, true, SeccompProfile::Unconfined).await;
}

#[tokio::test]
async fn an_exec_is_in_the_containers_cgroups_and_namespaces() {
    let world = World::new().await;
    let unified = std::path::Path::new("/sys/fs/cgroup/unified");
    let extra = unified.join(&world.cgroup_root);
    let mut files = Vec::new();
    if unified.exists() {
        std::fs::create_dir(&extra).unwrap();
        files.push(extra.join("cgroup.procs"));
    }
    let create = world.container("cat /proc/self/cgroup; echo end; sleep 1000", |_, create, _| {
        create.extra_cgroup_procs = files;
    });
    let record = world.start(create).await;
    wait_for("the container's output", || world.log(&record).contains("F end")).await;
    let log = world.log(&record);
    let own: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).filter(|l| *l != "end").collect();
    let (text, _) = output(&world, exec(&record.id, &["cat", "/proc/self/cgroup"])).await;
    assert_eq!(text.lines().collect::<Vec<_>>(), own);
    let ContainerStatus::Running { pid, .. } = record.status else { panic!("{record:?}") };
    let seen_by_the_host = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(seen_by_the_host.contains(&world.cgroup_root), "{seen_by_the_host}");
    // On v2 the container has a cgroup namespace, whose root is its own cgroup.
    let v2 = CgroupMounts::detect().unwrap().layout() == CgroupLayout::V2;
    assert_eq!(text, if v2 { "0::/\n" } else { &seen_by_the_host });
    let (text, _) = output(
        &world,
        exec(&record.id, &["sh", "-c", "hostname; echo $$; ps | grep -c sleep; cat /proc/self/oom_score_adj"]),
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[3]), ("pod-host", "1000"));
    assert!(lines[1].parse::<u32>().unwrap() < 100, "a number of the container's PID namespace: {text}");
    world.end().await;
}

#[tokio::test]
async fn environment_folder_user_and_exit_code() {
    let world = World::new().await;
    let record = world.run("sleep 1000").await;
    let mut request = exec(&record.id, &["sh", "-c", "echo $A $HOSTNAME $PWD $(id -u):$(id -g); exit 9"]);
    request.env = vec!["A=added".into()];
    request.cwd = Some("/tmp".into());
    (request.user.uid, request.user.gid) = (Some(77), Some(78));
    let (text, exit) = output(&world, request).await;
    assert_eq!((text.as_str(), exit.code), ("added pod-host /tmp 77:78\n", 9));
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let world = World::new().await;
    let record = world.run("sleep 1000").await;
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let stdio = || Some([null(), null(), null()]);
    let error = world.monitor.exec(exec(&record.id, &["nothing"]), stdio()).await.unwrap_err().to_string();
    assert_eq!(error, "exec: exec: \"nothing\": executable file not found in $PATH");
    let mut request = exec(&record.id, &["true"]);
    request.cwd = Some("/no/such/folder".into());
    let error = world.monitor.exec(request, stdio()).await.unwrap_err().to_string();
    assert!(error.contains("chdir to /no/such/folder"), "{error}");
    let error = world.monitor.exec(exec(&record.id, &["true"]), None).await.unwrap_err().to_string();
    assert!(error.contains("needs 3 descriptors"), "{error}");
    let nobody = ContainerId::new("f".repeat(64)).unwrap();
    let error = world.monitor.exec(exec(&nobody, &["true"]), stdio()).await.unwrap_err().to_string();
    assert!(error.contains("no container"), "{error}");
    world.end().await;
}

#[tokio::test]
async fn a_late_exec_is_killed() {
    let world = World::new().await;
    let record = world.run("sleep 1000").await;
    let mut request = exec(&record.id, &["sh", "-c", "sleep 1000; true"]);
    request.timeout_ms = Some(200);
    let (_, exit) = output(&world, request).await;
    assert_eq!((exit.timed_out, exit.signal), (true, Some(9)));
    world.end().await;
}

#[tokio::test]
async fn a_terminal_works_both_ways() {
    let world = World::new().await;
    let record = world.run("sleep 1000").await;
    let mut request =
        exec(&record.id, &["sh", "-c", "test -t 0 && test -t 1 && read x && echo got:$x:$TERM && stty size"]);
    request.tty = true;
    let handle = world.monitor.exec(request, None).await.unwrap();
    let mut master = File::from(handle.master.expect("a terminal's master"));
    let reading = tokio::task::spawn_blocking(move || {
        master.write_all(b"word\n").unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 256]);
        // The end of a terminal is EIO.
        while let Ok(more @ 1..) = master.read(&mut buffer) {
            text.extend_from_slice(&buffer[..more]);
        }
        String::from_utf8(text).unwrap()
    });
    let text = tokio::time::timeout(SOON, reading).await.unwrap().unwrap();
    assert!(text.contains("got:word:xterm"), "{text:?}");
    assert_eq!(tokio::time::timeout(SOON, handle.exit).await.unwrap().unwrap().code, 0);
    world.end().await;
}

#[tokio::test]
async fn many_callers_at_once_each_get_their_own_answer() {
    let world = World::new().await;
    let record = world.run("sleep 1000").await;
    let calls = (0..20).map(|n| {
        let (world, id) = (&world, &record.id);
        async move {
            let (text, exit) = output(world, exec(id, &["sh", "-c", &format!("echo {n}; exit {n}")])).await;
            assert_eq!((text, exit.code), (format!("{n}\n"), n));
        }
    });
    let mut set = Vec::new();
    for call in calls {
        set.push(Box::pin(call));
    }
    for call in set {
        call.await;
    }
    let (a, b) = tokio::join!(
        output(&world, exec(&record.id, &["echo", "a"])),
        output(&world, exec(&record.id, &["echo", "b"]))
    );
    assert_eq!((a.0.as_str(), b.0.as_str()), ("a\n", "b\n"));
    world.end().await;
}
