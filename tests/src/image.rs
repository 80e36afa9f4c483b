//! The one image that pods of a test run: Debian's static busybox.

use orlop_image::build::{ImageBuilder, LayerBuilder, Packing, write_archive, write_layout};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;

/// Its name.
pub const IMAGE: &str = "busybox:it";
/// Debian's package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// The layout that worlds of this process share; it goes with the last of them.
static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());

fn builder(name: &str) -> ImageBuilder {
    let listed = Command::new(BUSYBOX).arg("--list").output().expect("run /bin/busybox (package busybox-static)");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let applets: Vec<&str> = listed.lines().collect();
    let mut image = ImageBuilder::busybox(name, Path::new(BUSYBOX), &applets).expect("read /bin/busybox");
    // Packing takes longer than it saves.
    image.layers = image.layers.into_iter().map(|layer| layer.packing(Packing::Plain)).collect();
    image
}

/// A folder with the layout of [`IMAGE`] in it.
pub(crate) fn shared_layout(base: &Path) -> Arc<TempDir> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(dir) = shared.upgrade() {
        return dir;
    }
    let dir = tempfile::Builder::new().prefix("oimages").tempdir_in(base).expect("make a folder for images");
    write_layout(&dir.path().join("busybox"), &[builder(IMAGE)]).expect("write the image");
    let dir = Arc::new(dir);
    *shared = Arc::downgrade(&dir);
    dir
}

/// Writes the layout of an image that has a file `/own` besides.
pub(crate) fn write_layout_with(dir: &Path, own: &str) {
    let mut image = builder("unnamed:1");
    image.layers.push(LayerBuilder::new().file("own", 0o644, own));
    write_layout(dir, &[image]).expect("write the image");
}

/// Writes an archive of an image with this name for `orlop load`.
pub fn write_image(archive: &Path, name: &str) {
    write_archive(archive, &[builder(name)], Packing::Plain).expect("write the archive");
}
