//! ConfigMaps, Secrets and tokens of an API server in pods' files and variables.

use orlop_apiserver::{Fault, Patch, Status};
use orlop_tests::{Cluster, config_map, container, object, pod};
use serde_json::json;

const FILES: &str = "
    volumes:
    - {name: m, configMap: {name: m, defaultMode: 288}}
    - {name: s, secret: {secretName: s, items: [{key: password, path: deep/pw, mode: 256}]}}
    - {name: p, projected: {sources: [{configMap: {name: m}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}
    - {name: o, configMap: {name: perhaps, optional: true}}
    containers:
    - name: c
      image: IMAGE
      command: IDLE
      env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: m, key: colour}}}]
      envFrom: [{secretRef: {name: s}}]
      volumeMounts: [{name: m, mountPath: /m}, {name: s, mountPath: /s}, {name: p, mountPath: /p}, {name: o, mountPath: /o}]";

fn secret() -> String {
    object("Secret", "{name: s}", "data: {password: aHVudGVyMg==}")
}

fn set(cluster: &Cluster, key: &str, value: &str) {
    let patch = Patch::Merge(json!({"data": {key: value}}));
    cluster.server.patch("configmaps", "default", "m", &patch).expect("the server takes it");
}

#[test]
fn files_and_variables_are_made_of_objects_and_follow_them() {
    let cluster = Cluster::new();
    cluster.create(&(config_map("m", "colour", "blue") + &secret()));
    cluster.create(&pod("p", FILES));
    cluster.wait_ready_object("p");
    assert_eq!(
        cluster.sh("p", "cat /m/colour /s/deep/pw /p/colour; echo; echo $COLOUR $password").ok(),
        "bluehunter2blue\nblue hunter2"
    );
    assert_eq!(cluster.sh("p", "stat -Lc %a /m/colour /s/deep/pw; ls /o").ok(), "440\n400");
    let wait_text = |script: &str, text: &str| {
        cluster.wait_until(&format!("{script} says {text}"), || (cluster.sh("p", script).ok() == text).then_some(()));
    };
    set(&cluster, "colour", "green");
    wait_text("cat /m/colour /p/colour", "greengreen");
    assert_eq!(cluster.sh("p", "echo $COLOUR").ok(), "blue");
    cluster.create(&pod_label());
    cluster.create(&config_map("perhaps", "a", "b"));
    wait_text("cat /o/a", "b");
    cluster
        .server
        .patch("pods", "default", "p", &Patch::Merge(json!({"metadata": {"labels": {"tier": "front"}}})))
        .unwrap();
    wait_text("cat /p/labels", "tier=\"front\"");
}

#[test]
fn after_a_restart_of_the_agent_files_still_follow() {
    let mut cluster = Cluster::new();
    cluster.create(&(config_map("m", "colour", "blue") + &secret()));
    cluster.create(&pod("p", FILES));
    cluster.wait_ready_object("p");
    cluster.kill();
    set(&cluster, "colour", "green");
    // Nor does it need the API server at the start.
    cluster.server.stop();
    cluster.start();
    cluster.wait_ready("p");
    assert_eq!(cluster.sh("p", "cat /m/colour").ok(), "blue");
    cluster.server.start_again();
    let wait = |text: &str| {
        cluster.wait_until(text, || (cluster.sh("p", "cat /m/colour").ok() == text).then_some(()));
    };
    wait("green");
    set(&cluster, "colour", "red");
    wait("red");
    assert_eq!(cluster.pod("p").container("c").restarts, 0);
}

/// Another pod that uses the same objects.
fn pod_label() -> String {
    pod("q", FILES)
}

#[test]
fn a_reader_never_sees_half_an_update() {
    let cluster = Cluster::new();
    cluster.create(&object("ConfigMap", "{name: m}", "data: {a: '0', b: '0'}"));
    let reader = r#"
        volumes: [{name: m, configMap: {name: m}}]
        containers:
        - name: c
          image: IMAGE
          command: [sh, -c, "while true; do cd -P /m/..data && x=$(cat a b) && case $x in 00|11|22|33|44) ;; *) echo torn $x;; esac; done 2>/dev/null"]
          volumeMounts: [{name: m, mountPath: /m}]"#;
    cluster.create(&pod("p", reader));
    cluster.wait_ready_object("p");
    for value in ["1", "2", "3", "4"] {
        let both = Patch::Merge(json!({"data": {"a": value, "b": value}}));
        cluster.server.patch("configmaps", "default", "m", &both).unwrap();
        cluster.wait_until("the update is there", || {
            (cluster.sh("p", "cat /m/a /m/b").ok() == format!("{value}{value}")).then_some(())
        });
    }
    assert_eq!(cluster.orlop(&["logs", "p"]).ok(), "");
}

#[test]
fn a_missing_object_holds_the_pod_until_it_is_there() {
    let cluster = Cluster::new();
    let volume = "volumes: [{name: m, configMap: {name: m}}]\ncontainers: [{name: c, image: IMAGE, command: IDLE, volumeMounts: [{name: m, mountPath: /m}]}]";
    let variable = "containers: [{name: c, image: IMAGE, command: IDLE, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: password}}}]}]";
    cluster.create(&pod("volume", volume));
    cluster.create(&pod("variable", variable));
    cluster.wait_event("volume", "FailedMount", "configmap \"m\" not found");
    let waiting = |reason: &'static str| {
        move |pod: &serde_json::Value| container(pod, "c")["state"]["waiting"]["reason"] == reason
    };
    cluster.wait_object("volume", "waiting", waiting("ContainerCreating"));
    let held = cluster.wait_object("variable", "waiting", waiting("CreateContainerConfigError"));
    assert_eq!(container(&held, "c")["state"]["waiting"]["message"], "secret \"s\" not found");
    cluster.create(&config_map("m", "a", "b"));
    cluster.create(&secret());
    for name in ["volume", "variable"] {
        cluster.wait_ready_object(name);
        assert_eq!(cluster.pod(name).container("c").restarts, 0);
    }
}

#[test]
fn one_watch_an_object_as_long_as_a_pod_uses_it() {
    let cluster = Cluster::new();
    cluster.create(&(config_map("m", "colour", "blue") + &secret()));
    for name in ["a", "b", "c"] {
        cluster.create(&pod(name, FILES));
    }
    for name in ["a", "b", "c"] {
        cluster.wait_ready_object(name);
    }
    let asked = |name: &'static str| {
        cluster.server.count(move |one| one.verb == "watch" && one.resource == "configmaps" && one.name == name)
    };
    assert_eq!(asked("m"), 1);
    // By force or gracefully: the last one that goes ends the watch.
    cluster.delete_pod("a", None);
    cluster.delete_pod("b", Some(0));
    cluster.delete_pod("c", Some(0));
    for name in ["a", "b", "c"] {
        cluster.wait_all_gone(name);
    }
    // Whoever comes next asks anew: nobody watched any more.
    cluster.create(&pod("d", FILES));
    cluster.wait_ready_object("d");
    assert_eq!(asked("m"), 2);
}

#[test]
fn tokens_are_there_or_say_why_not() {
    let cluster = Cluster::new();
    let rule = cluster.server.faults().on(
        "create",
        "serviceaccounts/token",
        Fault::Refuse(Status::new(403, "Forbidden", "tokens are not for you")),
        None,
    );
    let made = cluster.create(&pod("p", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    cluster.wait_event("p", "FailedMount", "tokens are not for you");
    assert!(cluster.server.faults().remove(rule) > 0);
    cluster.server.forget_requests();
    let ready = cluster.wait_ready_object("p");
    assert_eq!(cluster.asked("create", "serviceaccounts/token"), 1);
    assert_eq!(ready["metadata"]["uid"], made["metadata"]["uid"]);
    let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(cluster.sh("p", &format!("cat {folder}/namespace")).ok(), "default");
    assert_eq!(cluster.sh("p", &format!("cat {folder}/token | tr . ' ' | wc -w")).ok(), "3");
    assert_eq!(cluster.sh("p", &format!("cat {folder}/ca.crt")).ok(), cluster.server.ca_pem().trim());
}

#[test]
fn a_server_that_hears_of_a_binding_late_is_asked_again() {
    let cluster = Cluster::new();
    let late = Status::new(403, "Forbidden", "node requested token bound to a pod scheduled on a different node");
    let rule = cluster.server.faults().on("create", "serviceaccounts/token", Fault::Refuse(late), Some(2));
    cluster.create(&pod("p", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    cluster.wait_ready_object("p");
    assert_eq!(cluster.server.faults().remove(rule), 2);
    let detail = cluster.detail("p").expect("the pod");
    assert!(detail.events("FailedMount").is_empty(), "{:?}", detail.events("FailedMount"));
}
