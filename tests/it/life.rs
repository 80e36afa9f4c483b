//! The life of pods.

use orlop_tests::{World, pod};

/// A pod that does nothing for as long as it may.
const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";

#[test]
fn smoke() {
    let world = World::new();
    world.apply("web", &pod("web", SLEEP));
    world.wait_ready("web");
    assert_eq!(world.sh("web", "echo hello").ok(), "hello");
}
