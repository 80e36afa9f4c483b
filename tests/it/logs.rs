//! Logs: the CRI format, rotation, and what `orlop logs` makes of them.

use orlop_tests::{Options, World, pod};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// The folder of a container's log.
fn log_folder(world: &World, pod: &str, container: &str) -> PathBuf {
    world.folder("log").join(format!("default_{pod}_{}", world.pod(pod).uid)).join(container)
}

fn lines_from(first: usize, text: &str) {
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line.split(' ').next(), Some((first + number).to_string().as_str()), "in {text}");
    }
}

#[test]
fn lines_are_in_the_cri_format() {
    let world = World::new();
    let script = "echo one; echo two >&2; printf three; sleep 1; printf ' more'";
    world.apply(
        "talks",
        &pod(
            "talks",
            &format!("restartPolicy: Never\ncontainers: [{{name: c, image: IMAGE, command: [sh, -c, \"{script}\"]}}]"),
        ),
    );
    world.wait_pod("talks", "Succeeded", |pod| pod.phase == "Succeeded");
    let text = fs::read_to_string(log_folder(&world, "talks", "c").join("0.log")).unwrap();
    let mut whole = [String::new(), String::new()];
    for line in text.lines() {
        // TIME STREAM TAG CONTENT; P is a part of a line, F its end (KEP-1916's CRI log format).
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        assert!(fields[0].len() >= 20 && fields[0].contains('T') && fields[0].contains(':'), "{line}");
        let stream = ["stdout", "stderr"].iter().position(|name| *name == fields[1]).expect("a stream's name");
        whole[stream] += fields[3];
        match fields[2] {
            "F" => whole[stream].push('|'),
            tag => assert_eq!(tag, "P", "{line}"),
        }
    }
    assert_eq!(whole[0].trim_end_matches('|'), "one|three more", "{text}");
    assert_eq!(whole[1], "two|");
    let printed = world.orlop(&["logs", "talks"]);
    assert_eq!((printed.stdout.trim_end(), printed.stderr.trim_end()), ("one\nthree more", "two"));
    assert_eq!(world.orlop(&["logs", "talks", "--tail", "1"]).stdout.trim_end(), "three more");
}

/// Numbers with some fat, so that a few hundred fill several files.
const COUNT: &str =
    "i=$n; while [ $i -lt $((n+300)) ]; do echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done";

fn small_files(count: u32) -> World {
    World::with(Options {
        config: Some(format!("containerLogMaxSize: 8192\ncontainerLogMaxFiles: {count}")),
        ..Options::default()
    })
}

#[test]
fn files_rotate_and_are_read_as_one() {
    let world = small_files(3);
    world.apply(
        "count",
        &pod(
            "count",
            &format!(
                "containers: [{{name: c, image: IMAGE, command: [sh, -c, \"n=0; {COUNT}; n=300; {COUNT}; echo done; sleep inf\"]}}]"
            ),
        ),
    );
    world.wait_until("the last line is written", || {
        world.orlop(&["logs", "count"]).stdout.ends_with("done\n").then_some(())
    });
    let folder = log_folder(&world, "count", "c");
    let files: Vec<u64> = fs::read_dir(&folder).unwrap().flatten().map(|file| file.metadata().unwrap().len()).collect();
    assert!(files.len() > 1 && files.len() <= 3, "{files:?}");
    assert!(files.iter().all(|size| *size <= 8192 + 256), "{files:?}");
    let text = world.orlop(&["logs", "count"]).ok();
    let first = text.split(' ').next().unwrap().parse().unwrap();
    assert!(first > 0, "the oldest file has gone");
    lines_from(first, text.strip_suffix("\ndone").unwrap());
}

#[test]
fn following_goes_on_across_rotation_and_restart() {
    let world = small_files(5);
    // The first attempt ends after its lines, the second stays.
    let script = format!(
        "if [ -e /d/again ]; then n=300; {COUNT}; sleep inf; fi; until [ -e /d/go ]; do usleep 10000; done; n=0; {}; touch /d/again; exit 5",
        COUNT.replace("i=$((i+1))", "i=$((i+1)); usleep 500")
    );
    world.apply(
        "count",
        &pod(
            "count",
            &format!(
                "volumes: [{{name: d, emptyDir: {{}}}}]
                 containers: [{{name: c, image: IMAGE, volumeMounts: [{{name: d, mountPath: /d}}], command: [sh, -c, \"{script}\"]}}]"
            ),
        ),
    );
    world.wait_ready("count");
    let mut follower = world.orlop_child(&["logs", "-f", "count"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // Nothing was written yet: the follower is there first.
    world.sh("count", "touch /d/go").ok();
    let text: Vec<String> = lines.by_ref().take(600).map(Result::unwrap).collect();
    lines_from(0, &text.join("\n"));
    assert_eq!(world.pod("count").container("c").restarts, 1);
    let before = world.orlop(&["logs", "--previous", "count"]).ok();
    assert!(before.lines().last().unwrap().starts_with("299 "), "{before}");
    world.delete("count");
    // It ends when the pod is gone for good.
    world.wait_gone("count");
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}
