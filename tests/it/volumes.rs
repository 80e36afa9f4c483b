//! Volumes and the files that every pod has.

use orlop_tests::{World, config_map, object, pod};
use std::fs;

#[test]
fn empty_dirs_are_shared_and_bounded() {
    let world = World::new();
    let mounts = "volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]";
    world.apply(
        "empty",
        &pod(
            "empty",
            &format!(
                "volumes: [{{name: disk, emptyDir: {{}}}}, {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}]
                 containers:
                 - {{name: a, image: IMAGE, command: IDLE, {mounts}}}
                 - {{name: b, image: IMAGE, command: IDLE, {mounts}}}"
            ),
        ),
    );
    world.wait_ready("empty");
    world.sh_in("empty", "a", "echo one > /disk/f; echo two > /memory/f").ok();
    assert_eq!(world.sh_in("empty", "b", "cat /disk/f /memory/f").ok(), "one\ntwo");
    assert_eq!(world.sh_in("empty", "b", "grep ' /memory ' /proc/mounts | cut -d' ' -f3").ok(), "tmpfs");
    let full = world.sh_in("empty", "a", "dd if=/dev/zero of=/memory/big bs=1M count=2").fails(1);
    assert!(full.contains("No space left"), "{full}");
}

#[test]
fn host_paths_are_of_the_type_they_say() {
    let world = World::new();
    let dir = world.folder("host");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "content").unwrap();
    let mounted = |name: &str, below: &str, kind: &str| {
        let spec = format!(
            "volumes: [{{name: v, hostPath: {{path: {}/{below}, type: {kind}}}}}]
             containers: [{{name: c, image: IMAGE, command: IDLE, volumeMounts: [{{name: v, mountPath: /v}}]}}]",
            dir.display()
        );
        world.apply(name, &pod(name, &spec));
    };
    mounted("file", "file", "File");
    mounted("made", "new/deep", "DirectoryOrCreate");
    mounted("wrong", "file", "Directory");
    mounted("missing", "later", "Directory");
    for name in ["file", "made"] {
        world.wait_ready(name);
    }
    assert_eq!(world.sh("file", "cat /v").ok(), "content");
    world.sh("made", "echo from inside > /v/f").ok();
    assert_eq!(fs::read_to_string(dir.join("new/deep/f")).unwrap(), "from inside\n");
    world.wait_event("wrong", "FailedMount", &dir.join("file").display().to_string());
    let waits = world.wait_event("missing", "FailedMount", "later");
    assert_eq!((waits.pod.phase.as_str(), waits.pod.ready), ("Pending", false));
    // What was missing may come: it is tried again by itself.
    fs::create_dir(dir.join("later")).unwrap();
    world.wait_ready("missing");
}

#[test]
fn config_maps_and_secrets_follow_their_objects() {
    let world = World::new();
    let secret = |value: &str| object("Secret", "{name: s}", &format!("stringData: {{key: {value}}}"));
    world.apply("objects", &(config_map("settings", "colour", "blue") + &secret("first")));
    world.apply(
        "web",
        &pod(
            "web",
            "volumes:
             - {name: all, configMap: {name: settings}}
             - {name: one, configMap: {name: settings, items: [{key: colour, path: deep/name, mode: 0400}]}}
             - {name: secret, secret: {secretName: s}}
             containers:
             - name: c
               image: IMAGE
               command: IDLE
               volumeMounts:
               - {name: all, mountPath: /all}
               - {name: one, mountPath: /one}
               - {name: secret, mountPath: /secret}
               - {name: all, mountPath: /etc/colour, subPath: colour}",
        ),
    );
    let first = world.wait_ready("web");
    let files = "cat /all/colour; echo; cat /one/deep/name; echo; cat /secret/key; echo; cat /etc/colour";
    assert_eq!(world.sh("web", files).ok(), "blue\nblue\nfirst\nblue");
    assert_eq!(world.sh("web", "stat -L -c %a /one/deep/name /all/colour").ok(), "400\n644");
    assert_eq!(world.sh("web", "grep ' /secret ' /proc/mounts | cut -d' ' -f3").ok(), "tmpfs");
    assert_ne!(world.sh("web", "echo no > /all/colour").code, 0, "such volumes are read-only");

    world.apply("objects", &(config_map("settings", "colour", "green") + &secret("second")));
    // A subPath mount shows the file as it was, as everywhere in Kubernetes.
    let expected = "green\ngreen\nsecond\nblue";
    world.wait_until("the files follow", || (world.sh("web", files).stdout.trim_end() == expected).then_some(()));
    let now = world.pod("web");
    assert_eq!((&now.container("c").id, now.container("c").restarts), (&first.container("c").id, 0));
}

#[test]
fn a_pod_waits_for_the_objects_it_names() {
    let world = World::new();
    world.apply(
        "waits",
        &pod(
            "waits",
            "volumes: [{name: v, configMap: {name: late}}]
             containers: [{name: c, image: IMAGE, command: IDLE, volumeMounts: [{name: v, mountPath: /v}]}]",
        ),
    );
    world.apply(
        "env",
        &pod(
            "env",
            "containers: [{name: c, image: IMAGE, command: IDLE, env: [{name: A, valueFrom: {configMapKeyRef: {name: late, key: a}}}]}]",
        ),
    );
    world.wait_event("waits", "FailedMount", "late");
    world.wait_event("env", "Failed", "late");
    world.wait_pod("env", "says why", |pod| pod.status == "CreateContainerConfigError");
    world.apply("late", &config_map("late", "a", "here"));
    for name in ["waits", "env"] {
        world.wait_ready(name);
    }
    assert_eq!(world.sh("waits", "cat /v/a").ok(), "here");
    assert_eq!(world.sh("env", "echo $A").ok(), "here");
}

#[test]
fn sub_paths_are_folders_of_their_volume() {
    let world = World::new();
    world.apply(
        "sub",
        &pod(
            "sub",
            "volumes: [{name: v, emptyDir: {}}]
             containers:
             - {name: whole, image: IMAGE, command: IDLE, volumeMounts: [{name: v, mountPath: /v}]}
             - name: part
               image: IMAGE
               command: IDLE
               volumeMounts: [{name: v, mountPath: /mine, subPath: a/b}, {name: v, mountPath: /named, subPath: me, readOnly: true}]",
        ),
    );
    world.wait_ready("sub");
    world.sh_in("sub", "part", "echo hello > /mine/f").ok();
    assert_eq!(world.sh_in("sub", "whole", "cat /v/a/b/f; ls /v").ok(), "hello\na\nme");
    assert_ne!(world.sh_in("sub", "part", "touch /named/f").code, 0, "it is mounted read-only");
}

#[test]
fn every_pod_has_its_hosts_hostname_and_resolv_conf() {
    let world = World::new();
    world.apply(
        "files",
        &pod(
            "files",
            "hostname: me
             hostAliases: [{ip: 192.0.2.9, hostnames: [far, away]}]
             dnsPolicy: None
             dnsConfig: {nameservers: [192.0.2.53], searches: [example.test], options: [{name: ndots, value: '3'}]}
             containers: [{name: c, image: IMAGE, command: IDLE}]",
        ),
    );
    let ready = world.wait_ready("files");
    assert_eq!(world.sh("files", "hostname; cat /etc/hostname").ok(), "me\nme");
    let resolv = world.sh("files", "cat /etc/resolv.conf").ok();
    for line in ["nameserver 192.0.2.53", "search example.test", "options ndots:3"] {
        assert!(resolv.lines().any(|had| had == line), "no {line:?} in {resolv:?}");
    }
    let hosts = world.sh("files", "cat /etc/hosts").ok();
    let has =
        |ip: &str, name: &str| hosts.lines().any(|l| l.starts_with(ip) && l.split_whitespace().any(|w| w == name));
    assert!(has(&ready.ips[0], "me") && has("192.0.2.9", "away") && has("127.0.0.1", "localhost"), "{hosts}");
}
