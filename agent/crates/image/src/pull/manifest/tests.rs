use super::*;
use serde_json::{Value, json};

fn machine() -> Machine {
    Machine { architecture: "amd64", variants: vec!["v1", "v3", "v2"] }
}

fn digest(name: &str) -> String {
    Digest::of(name.as_bytes()).to_string()
}

/// An index of these platforms, each `os/architecture[/variant]` or empty for none.
fn index(platforms: &[&str]) -> Value {
    let entry = |platform: &&str| {
        let mut entry = json!({"mediaType": OCI_IMAGE_MEDIA_TYPE, "digest": digest(platform), "size": 7});
        let mut parts = platform.split('/');
        if let (Some(os), Some(architecture)) = (parts.next(), parts.next()) {
            entry["platform"] = json!({"os": os, "architecture": architecture});
            if let Some(variant) = parts.next() {
                entry["platform"]["variant"] = variant.into();
            }
        }
        entry
    };
    json!({"schemaVersion": 2, "manifests": platforms.iter().map(entry).collect::<Vec<_>>()})
}

#[track_caller]
fn chooses(platforms: &[&str], machine: &Machine, want: Result<&str, &str>) {
    let got = read(index(platforms).to_string().as_bytes(), machine);
    match want {
        Ok(platform) => {
            let blob = Blob { digest: Digest::of(platform.as_bytes()), size: 7 };
            assert_eq!(got.unwrap(), Document::Choose(blob), "{platforms:?}");
        }
        Err(words) => assert_eq!(got.unwrap_err().to_string(), words, "{platforms:?}"),
    }
}

#[test]
fn the_best_of_an_index() {
    let arm = Machine { architecture: "arm64", variants: vec!["v8"] };
    chooses(&["linux/arm64", "linux/amd64"], &machine(), Ok("linux/amd64"));
    chooses(&["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], &machine(), Ok("linux/amd64"));
    chooses(&["linux/amd64/v2", "linux/amd64/v3"], &machine(), Ok("linux/amd64/v3"));
    chooses(&["linux/arm64/v8", "linux/amd64"], &arm, Ok("linux/arm64/v8"));
    chooses(&["", "linux/amd64"], &machine(), Ok("linux/amd64"));
    chooses(&["linux/arm64", ""], &machine(), Ok(""));
    chooses(
        &["windows/amd64", "linux/arm64/v8", "linux/arm/v7", "unknown/unknown"],
        &machine(),
        Err("image has nothing for linux/amd64, only for linux/arm/v7, linux/arm64/v8, windows/amd64"),
    );
    chooses(&["linux/amd64/v4"], &machine(), Err("image has nothing for linux/amd64, only for linux/amd64/v4"));
    chooses(&[], &machine(), Err("image has nothing for linux/amd64, only for nothing"));
}

fn image(layers: &[(&str, Value)]) -> Value {
    let layer = |(kind, extra): &(&str, Value)| {
        let mut layer = json!({"mediaType": kind, "digest": digest("layer"), "size": 9});
        for (key, value) in extra.as_object().into_iter().flatten() {
            layer[key] = value.clone();
        }
        layer
    };
    json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest("config"), "size": 5},
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

#[track_caller]
fn refused(document: &Value, words: &str) {
    let error = read(document.to_string().as_bytes(), &machine()).unwrap_err().to_string();
    assert!(error.contains(words), "{error} should say {words}");
}

#[test]
fn images_of_both_families() {
    for kind in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ] {
        let got = read(image(&[(kind, Value::Null)]).to_string().as_bytes(), &machine()).unwrap();
        let want = Document::Image {
            config: Blob { digest: Digest::of(b"config"), size: 5 },
            layers: vec![Blob { digest: Digest::of(b"layer"), size: 9 }],
        };
        assert_eq!(got, want, "{kind}");
    }
}

#[test]
fn what_is_refused_and_why() {
    let oci = "application/vnd.oci.image.layer.v1.tar";
    for (kind, words) in [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "may not be distributed"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "may not be distributed"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
        ("application/vnd.wasm.content.layer.v1+wasm", "artifact"),
        ("application/vnd.oci.image.layer.v1.tar+lz4", "packed in a way"),
    ] {
        refused(&image(&[(kind, Value::Null)]), words);
    }
    refused(&image(&[(oci, json!({"urls": ["https://elsewhere.example/x"]}))]), "may not be distributed");
    refused(&image(&[(oci, json!({"size": -1}))]), "size of -1");
    refused(&image(&[(oci, json!({"size": i64::MAX}))]), "not between 0 and");
    refused(&image(&[(oci, json!({"digest": "sha512:00"}))]), "sha256");
    refused(&image(&vec![(oci, Value::Null); LAYERS_MAX + 1]), "more than 500");
    refused(&json!({"schemaVersion": 1, "name": "x", "fsLayers": []}), "schema version 1");
    refused(&json!({"schemaVersion": 2}), "neither an image manifest nor an index");
    refused(&json!({"errors": []}), "no schemaVersion");
    let mut both = image(&[]);
    both["manifests"] = json!([]);
    refused(&both, "an image and an index at once");
    assert!(read(b"<html>", &machine()).unwrap_err().to_string().contains("no JSON"));
}
