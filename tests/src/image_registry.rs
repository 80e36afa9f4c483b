//! Debian's docker-registry on a node's own loopback, and what is pushed to it.

use crate::{Role, World};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// Where it listens: the node's network namespace has nobody else.
const HOST: &str = "127.0.0.1:5000";
/// `u:p` with the smallest cost, as `htpasswd -nbB -C 4` writes it.
const HTPASSWD: &str = "u:$2b$04$NAK8Ewy30l0WnSEcqmqM/Oey7OpXQX5l2qlOuHOe5brDl5I/lPaKW\n";
/// The same for a request.
const AUTHORIZATION: &str = "Basic dTpw";

/// A registry of images; ends with its value, which has to be before its world's end.
#[derive(Debug)]
pub struct ImageRegistry<'a> {
    world: &'a World,
    child: Child,
}

impl Drop for ImageRegistry<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From PATH, or where `cargo xtask setup` unpacks it.
fn program() -> PathBuf {
    let unpacked = crate::agent::program_folder().join("../xtask/docker-registry/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([unpacked])
        .map(|dir| dir.join("docker-registry"))
        .find(|file| file.is_file())
        .expect("docker-registry is missing: run `cargo xtask setup`")
}

impl World {
    /// Starts a registry of images on the node, for whoever has the password `p` of user
    /// `u` where `private`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn image_registry(&self, private: bool) -> ImageRegistry<'_> {
        let dir = self.folder("registry");
        fs::create_dir_all(&dir).expect("make the registry's folder");
        fs::write(dir.join("htpasswd"), HTPASSWD).expect("write the passwords");
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {HOST}, secret: x}}\n",
            dir.join("data").display()
        );
        if private {
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.join("htpasswd").display());
        }
        let file = dir.join("config.yml");
        fs::write(&file, config).expect("write the registry's configuration");
        let log = fs::File::create(dir.join("log")).expect("make the registry's log");
        let mut command = self.node_command(program());
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("start docker-registry");
        let registry = ImageRegistry { world: self, child };
        self.wait_until("the registry listens", || self.run(Role::Node, || TcpStream::connect(HOST).ok().map(drop)));
        registry
    }
}

impl ImageRegistry<'_> {
    /// Host and port, the first part of its images' names.
    #[must_use]
    pub fn host(&self) -> &'static str {
        HOST
    }

    /// Pushes busybox with a file `/own` that holds `own`; the manifest's digest.
    ///
    /// # Panics
    /// The registry does not take it.
    #[must_use]
    pub fn push(&self, repository: &str, tag: &str, own: &str) -> String {
        let layout = self.world.folder(&format!("layout-{}-{tag}", repository.replace('/', "-")));
        crate::image::write_layout_with(&layout, own);
        let blob = |digest: &str| fs::read(layout.join("blobs").join(digest.replace(':', "/"))).expect("read a blob");
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("a document of the layout");
        let index = json(&fs::read(layout.join("index.json")).expect("read index.json"));
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let entry = &index["manifests"][0];
        let (digest, bytes) = (text(&entry["digest"]), blob(&text(&entry["digest"])));
        let manifest = json(&bytes);
        let parts = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
        for part in parts.map(|part| text(&part["digest"])) {
            let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[], 202);
            let location =
                begun.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a place to upload to");
            let path = location.trim().split_once(HOST).map_or(location.trim(), |(_, path)| path);
            let sign = if path.contains('?') { '&' } else { '?' };
            let _ =
                self.ask("PUT", &format!("{path}{sign}digest={part}"), "application/octet-stream", &blob(&part), 201);
        }
        let _ = self.ask("PUT", &format!("/v2/{repository}/manifests/{tag}"), &text(&entry["mediaType"]), &bytes, 201);
        digest
    }

    /// One request; what came before the body.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8], want: u16) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer = self.world.run(Role::Node, || {
            let mut stream = TcpStream::connect(HOST)?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            std::io::Result::Ok(answer)
        });
        let answer = String::from_utf8_lossy(&answer.expect("talk to the registry")).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{method} {path}: {answer}");
        answer.split_once("\r\n\r\n").map_or(answer.clone(), |(head, _)| head.to_owned())
    }
}
