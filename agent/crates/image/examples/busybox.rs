//! Makes an OCI layout with one image from this machine's static busybox:
//!
//! ```text
//! cargo run -p orlop-image --example busybox -- localhost/busybox:demo FOLDER
//! ```

use std::path::Path;
use std::process::{Command, ExitCode};

use orlop_image::build::{ImageBuilder, write_layout};

/// Debian's package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

fn make(name: &str, folder: &Path) -> std::io::Result<()> {
    let listed = Command::new(BUSYBOX).arg("--list").output()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let applets: Vec<&str> = listed.lines().collect();
    let image = ImageBuilder::busybox(name, Path::new(BUSYBOX), &applets)?;
    write_layout(folder, &[image])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        eprintln!("usage: busybox IMAGE-NAME FOLDER");
        return ExitCode::from(2);
    };
    match make(name, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make {name} from {BUSYBOX} in {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}
