//! Images by reference: pulled for pods and for the command line.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orlop_tests::{Cluster, ImageRegistry, Role, World, object, pod};
use std::io::Read;
use std::net::{TcpListener, TcpStream};

fn with_image(world: &World, name: &str, image: &str) {
    world.apply(name, &pod(name, &format!("containers: [{{name: c, image: '{image}', command: IDLE}}]")));
}

#[test]
fn by_tag_and_by_digest() {
    let world = World::new();
    let registry = world.image_registry(false);
    let digest = registry.push("team/app", "1", "pulled");
    let place = format!("{}/team/app", registry.host());
    with_image(&world, "tag", &format!("{place}:1"));
    let tagged = world.wait_ready("tag");
    assert_eq!(world.sh("tag", "cat /own").ok(), "pulled");
    assert_eq!(tagged.container("c").image_id.as_deref(), Some(format!("{place}@{digest}").as_str()));
    let detail = world.wait_event("tag", "Pulled", &format!("Successfully pulled image \"{place}:1\" in "));
    assert!(detail.events("Pulled")[0].message.contains(" including waiting). Image size: "), "{detail:?}");
    assert!(detail.events("Pulling")[0].message.ends_with(&format!("Pulling image \"{place}:1\"")), "{detail:?}");

    with_image(&world, "digest", &format!("{place}@{digest}"));
    world.wait_ready("digest");
    world.wait_event("digest", "Pulled", "already present on machine and can be accessed by the pod");
    let images = world.orlop(&["images"]).ok();
    let row = images.lines().find(|line| line.contains("team/app:1")).unwrap_or_else(|| panic!("{images}"));
    assert!(row.ends_with('2'), "two pods use it: {row}");
}

#[test]
fn what_is_not_there_yet_runs_once_it_is() {
    let world = World::new();
    let registry = world.image_registry(false);
    let image = format!("{}/late:1", registry.host());
    with_image(&world, "late", &image);
    let why = format!("{}: manifest 1 of late: ", registry.host());
    world.wait_event("late", "Failed", &format!("Failed to pull image \"{image}\": {why}"));
    world.wait_event("late", "Failed", "Error: ErrImagePull");
    let waits = world.wait_pod("late", "backs off", |pod| pod.status == "ImagePullBackOff");
    let message = waits.container("c").message.clone().unwrap_or_default();
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: {why}")), "{message}");
    world.wait_event("late", "BackOff", &format!("Back-off pulling image \"{image}\""));
    world.wait_event("late", "Failed", "Error: ImagePullBackOff");
    let _ = registry.push("late", "1", "late");
    world.wait_ready("late");
    assert_eq!(world.sh("late", "cat /own").ok(), "late");
}

#[test]
fn always_asks_again_at_each_start() {
    let world = World::new();
    let registry = world.image_registry(false);
    let _ = registry.push("app", "1", "first");
    let image = format!("{}/app:1", registry.host());
    let spec = format!(
        "containers: [{{name: c, image: '{image}', imagePullPolicy: Always,
           command: [sh, -c, 'cat /own; grep -q second /own && sleep 1000; exit 1']}}]"
    );
    world.apply("app", &pod("app", &spec));
    world.wait_pod("app", "has ended", |pod| pod.container("c").restarts > 0);
    let _ = registry.push("app", "1", "second");
    world.wait_ready("app");
    assert_eq!(world.sh("app", "cat /own").ok(), "second");
    let pulls = world.detail("app").unwrap();
    assert!(pulls.events("Pulling")[0].count >= 3, "{pulls:?}");
}

fn docker_config(registry: &ImageRegistry<'_>) -> String {
    format!(r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#, registry.host())
}

#[test]
fn private_images_of_an_api_server() {
    let cluster = Cluster::new();
    let registry = cluster.image_registry(true);
    let digest = registry.push("own", "1", "secret");
    let image = format!("{}/own:1", registry.host());
    let spec =
        format!("imagePullSecrets: [{{name: mine}}]\ncontainers: [{{name: c, image: '{image}', command: IDLE}}]");
    cluster.create(&pod("private", &spec));
    cluster.wait_event("private", "FailedToRetrieveImagePullSecret", "(mine)");
    let secret = format!(
        "type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{}'}}",
        docker_config(&registry)
    );
    cluster.create(&object("Secret", "{name: mine}", &secret));
    let ready = cluster.wait_ready_object("private");
    let shown = ready["status"]["containerStatuses"][0]["imageID"].as_str().unwrap_or_default();
    assert_eq!(shown, format!("{}/own@{digest}", registry.host()));
}

#[test]
fn private_images() {
    let world = World::new();
    let registry = world.image_registry(true);
    let _ = registry.push("own", "1", "secret");
    let image = format!("{}/own:1", registry.host());
    let spec = |name: &str| {
        format!(
            "imagePullSecrets: [{{name: {name}}}]\ncontainers: [{{name: c, image: '{image}', command: IDLE, imagePullPolicy: Always}}]"
        )
    };
    world.apply("without", &pod("without", &spec("nowhere")));
    world.wait_event("without", "Failed", "authentication required");
    let told = world.wait_event("without", "FailedToRetrieveImagePullSecret", "");
    assert_eq!(
        told.events("FailedToRetrieveImagePullSecret")[0].message,
        "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed."
    );
    let secret = format!(
        "type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{}'}}",
        docker_config(&registry)
    );
    world.apply("secret", &object("Secret", "{name: mine}", &secret));
    world.apply("with", &pod("with", &spec("mine")));
    world.wait_ready("with");

    world.apply(
        "bad",
        &object("Secret", "{name: bad}", "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: 'no'}"),
    );
    world.apply("broken", &pod("broken", &spec("bad")));
    world.wait_event("broken", "Failed", "Secret bad: .dockerconfigjson: it is no docker configuration");

    std::fs::write(world.folder("root").join("config.json"), docker_config(&registry)).unwrap();
    // Its back-off is over after ten seconds at first.
    world.wait_ready("without");
}

#[test]
fn the_command_line_pulls() {
    let world = World::new();
    let registry = world.image_registry(true);
    let digest = registry.push("team/app", "1", "mine");
    let place = format!("{}/team/app", registry.host());
    let image = format!("{place}:1");
    assert!(world.orlop(&["pull", &image]).fails(1).contains("authentication required"));
    assert!(world.orlop(&["pull", &image, "--creds", "u:wrong"]).fails(1).contains("authentication required"));
    assert!(world.orlop(&["pull", "Not:a:name"]).fails(2).contains("Not:a:name"));
    let unknown = world.orlop(&["pull", &format!("{place}:2"), "--creds", "u:p"]).fails(3);
    assert!(unknown.contains("manifest 2 of team/app: manifest unknown"), "{unknown}");
    let output = world.orlop(&["pull", &image, "--creds", "u:p", "-o", "json"]);
    assert!(output.stderr.contains(": done"), "{output:?}");
    let pulled: serde_json::Value = serde_json::from_str(&output.ok()).unwrap();
    assert_eq!((&pulled["name"], &pulled["image_id"]), (&image.as_str().into(), &format!("{place}@{digest}").into()));
    let mut asked = world.orlop_child(&["pull", &image, "--creds", "u"]);
    std::io::Write::write_all(&mut asked.stdin.take().unwrap(), b"p\n").unwrap();
    let output = asked.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(&digest), "{output:?}");
    assert!(!world.agent_log().contains("u:p"));
    with_image(&world, "app", &image);
    world.wait_ready("app");
}

/// Blocks until the other side has closed the connection.
fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn a_pull_ends_with_who_wanted_it() {
    let world = World::new();
    // A registry that says nothing.
    let silent = world.run(Role::Node, || TcpListener::bind("127.0.0.1:5001")).unwrap();
    let mut child = world.orlop_child(&["pull", "127.0.0.1:5001/app:1"]);
    let (stream, _) = silent.accept().unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    closed(stream);
    assert!(!child.wait().unwrap().success());

    with_image(&world, "waits", "127.0.0.1:5001/app:1");
    let (stream, _) = silent.accept().unwrap();
    world.delete("waits");
    closed(stream);
    world.wait_gone("waits");
}
