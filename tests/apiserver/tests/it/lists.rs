//! Lists.

use crate::client::{Asker, pod, server};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn pages_show_one_moment_and_expire() {
    let server = server();
    let admin = Asker::admin(&server);
    for name in ["a", "b", "c"] {
        server.create("pods", pod(name)).expect(name);
    }
    let (_, first) = admin.get(&format!("{PODS}?limit=2")).await;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    server.create("pods", pod("d")).expect("d");
    let (_, second) = admin.get(&format!("{PODS}?limit=2&continue={token}")).await;
    assert_eq!(second["items"].as_array().map(Vec::len), Some(1), "d came later");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    server.compact();
    let (code, gone) = admin.get(&format!("{PODS}?limit=2&continue={token}")).await;
    assert_eq!((code, gone["reason"].as_str()), (410, Some("Expired")));
    let fresh = gone["metadata"]["continue"].as_str().expect("a token that goes on");
    let (_, rest) = admin.get(&format!("{PODS}?limit=2&continue={fresh}")).await;
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(2), "c and d, inconsistently");
}

#[tokio::test]
async fn selectors_and_versions() {
    let server = server();
    let admin = Asker::admin(&server);
    server.create("pods", pod("a")).expect("a");
    let before = server.resource_version();
    server.create("pods", pod("b")).expect("b");
    server.bind("default", "b", "n1").expect("bound");
    for (query, names) in [
        ("labelSelector=app%20in%20(a,z)", vec!["a"]),
        ("fieldSelector=spec.nodeName%3Dn1", vec!["b"]),
        ("resourceVersion=0", vec!["a", "b"]),
        ("resourceVersion=0&limit=1", vec!["a", "b"]),
        (&format!("resourceVersion={before}&resourceVersionMatch=Exact"), vec!["a"]),
        (&format!("resourceVersion={before}&resourceVersionMatch=NotOlderThan"), vec!["a", "b"]),
    ] {
        let (code, list) = admin.get(&format!("/api/v1/pods?{query}")).await;
        assert_eq!(code, 200, "{query}: {list}");
        let items = list["items"].as_array().expect("items");
        let found: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
        assert_eq!(found, names, "{query}");
        assert!(items.iter().all(|item| item.get("kind").is_none()), "items of a list have no type");
    }
    let (code, late) = admin.get("/api/v1/pods?resourceVersion=99999999&resourceVersionMatch=NotOlderThan").await;
    assert_eq!((code, late["details"]["causes"][0]["reason"].as_str()), (504, Some("ResourceVersionTooLarge")));
}
