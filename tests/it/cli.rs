//! The command line against a real agent.

use orlop_tests::{World, pod, pod_in, write_image};
use std::io::{Read, Write};

#[test]
fn listings_and_exit_codes() {
    let mut world = World::new();
    world.apply(
        "web",
        &pod("web", "containers: [{name: c, image: IMAGE, command: IDLE}, {name: d, image: IMAGE, command: IDLE}]"),
    );
    world.apply("db", &pod_in("prod", "db", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    world.wait_ready("web");
    world.wait_until("both run", || (world.pods().iter().filter(|pod| pod.ready).count() == 2).then_some(()));
    let table = world.orlop(&["ps"]).ok();
    let row = table.lines().find(|line| line.contains("web")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("2/2") && row.contains("Running"), "{row}");
    assert!(!world.orlop(&["ps", "-n", "prod"]).ok().contains("web"));
    let ids = world.orlop(&["ps", "-c"]).ok();
    assert_eq!(ids.lines().filter(|line| line.contains("busybox:it")).count(), 3, "{ids}");
    let described = world.orlop(&["describe", "prod/db"]).ok();
    for part in ["Namespace:        prod", "Status:           Running", "Start Phases:", "Started"] {
        assert!(described.contains(part), "no {part:?} in {described}");
    }
    assert!(world.orlop(&["describe", "web", "-o", "yaml"]).ok().contains("name: web"));
    assert!(world.orlop(&["node"]).ok().contains("10.244.7.0/24"));

    assert_eq!(world.sh("web", "exit 7").code, 7);
    assert_eq!(world.sh("web", "kill -9 $$").code, 137);
    assert_eq!(world.sh_in("web", "d", "echo out; echo err >&2").stderr, "err\n");
    let missing = world.orlop(&["exec", "web", "--", "/nowhere"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("/nowhere"), "{missing:?}");
    let unknown = world.orlop(&["describe", "nobody"]).fails(3);
    assert!(unknown.contains("default/nobody not found"), "{unknown}");
    assert!(world.orlop(&["describe", "db"]).fails(3).contains("namespace prod"));
    assert!(world.orlop(&["exec", "web", "-c", "e", "--", "true"]).fails(3).contains("no container e"));
    assert!(world.orlop(&["logs", "web"]).fails(2).contains("c, d"));
    assert!(world.orlop(&["nonsense"]).fails(2).contains("nonsense"));

    world.stop();
    let unreachable = world.orlop(&["ps"]).fails(4);
    assert!(unreachable.contains("orlop.sock"), "{unreachable}");
    world.start();
    assert!(world.orlop(&["ps"]).ok().contains("Running"));
}

#[test]
fn images_are_loaded_by_name() {
    let world = World::new();
    let archive = world.folder("other.tar");
    write_image(&archive, "example.test/other:1");
    assert!(!world.orlop(&["images"]).ok().contains("other"));
    let loaded = world.orlop(&["load", archive.to_str().unwrap()]).ok();
    assert!(loaded.contains("example.test/other"), "{loaded}");
    assert!(world.orlop(&["images"]).ok().contains("example.test/other"));
    assert!(world.orlop(&["load", "/nowhere.tar"]).fails(1).contains("/nowhere.tar"));
    let text = world.folder("text.tar");
    std::fs::write(&text, "no archive").unwrap();
    assert!(world.orlop(&["load", text.to_str().unwrap()]).fails(1).contains("text.tar"));
    world.apply("other", &pod("other", "containers: [{name: c, image: 'example.test/other:1', command: IDLE}]"));
    world.wait_ready("other");
}

#[test]
fn exec_carries_stdin_and_terminals() {
    let world = World::new();
    world.apply("web", &pod("web", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    world.wait_ready("web");
    let mut counted = world.orlop_child(&["exec", "-i", "web", "--", "sha256sum"]);
    let mut stdin = counted.stdin.take().unwrap();
    let bytes = vec![b'x'; 3 << 20];
    stdin.write_all(&bytes).unwrap();
    drop(stdin);
    let output = counted.wait_with_output().unwrap();
    // Of three MiB of x, as coreutils' sha256sum has it.
    let here = {
        let mut sum = std::process::Command::new("sha256sum");
        let mut child = sum.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&here.stdout));

    // Without -i its stdin is empty.
    assert_eq!(world.orlop(&["exec", "web", "--", "cat"]).ok(), "");
    let terminal =
        world.orlop(&["exec", "-t", "web", "--", "sh", "-c", "tty; test -t 0 && test -t 1 && echo yes; exit 4"]);
    assert_eq!(terminal.code, 4, "{terminal:?}");
    assert!(terminal.stdout.contains("/dev/pts/") && terminal.stdout.contains("yes"), "{terminal:?}");

    let mut shell = world.orlop_child(&["exec", "-it", "web", "--", "sh"]);
    shell.stdin.take().unwrap().write_all(b"echo $((6 * 7)); exit 3\n").unwrap();
    let mut seen = String::new();
    shell.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(3), "{seen}");
    assert!(seen.lines().any(|line| line.trim() == "42"), "{seen}");
}
