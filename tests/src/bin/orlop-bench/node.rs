//! The node that a bench measures.

use orlop_tests::{Options, World, pod};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// A node whose agent writes no more into its log than a user's.
pub fn quiet() -> World {
    World::with(Options { log_level: "info", ..Options::default() })
}

/// A pod whose only container makes the file `mark` in `folder` and then sleeps.
pub fn marking_pod(name: &str, mark: &str, folder: &Path) -> String {
    let folder = folder.display();
    pod(
        name,
        &format!(
            "
            terminationGracePeriodSeconds: 0
            containers:
            - name: c
              image: IMAGE
              command: [/bin/busybox, sh, -c, ': > /mark/{mark}; exec /bin/busybox sleep 3600']
              volumeMounts: [{{name: mark, mountPath: /mark}}]
            volumes: [{{name: mark, hostPath: {{path: {folder}}}}}]
            "
        ),
    )
}

/// Puts manifest files into place one after the other, and says when it began.
///
/// # Panics
/// They cannot be written.
pub fn appear(world: &World, manifests: &[(String, String)]) -> Instant {
    let folder = world.folder("manifests");
    for (name, yaml) in manifests {
        fs::write(folder.join(format!(".{name}.new")), yaml).expect("write a manifest");
    }
    let began = Instant::now();
    for (name, _) in manifests {
        let (from, to) = (folder.join(format!(".{name}.new")), folder.join(format!("{name}.yaml")));
        fs::rename(from, to).expect("rename a manifest");
    }
    began
}
