//! Follows a collection and prints what happens: `follow KUBECONFIG pods|nodes|services|… [FIELD_SELECTOR]`.

use orlop_apiclient::{
    CONFIG_MAPS, Client, ENDPOINT_SLICES, Kubeconfig, LEASES, NODES, PODS, Resource, SECRETS, SERVICES, Selectors,
    WatchEvent, WatchOptions, watch,
};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Any {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    namespace: String,
    name: String,
    resource_version: String,
}

fn resource(plural: &str) -> Option<Resource> {
    let all = [PODS, NODES, SERVICES, ENDPOINT_SLICES, CONFIG_MAPS, SECRETS, LEASES];
    all.into_iter().find(|resource| resource.plural == plural)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, config, plural, selector @ ..] = args.as_slice() else {
        return Err("usage: follow KUBECONFIG PLURAL [FIELD_SELECTOR]".into());
    };
    let resource = resource(plural).ok_or("not one of the kinds that are known here")?;
    let config = Kubeconfig::read(Path::new(config))?;
    config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let client = Client::new(config.settings()?)?;
    let options = WatchOptions::new(Selectors::fields(selector.first().cloned().unwrap_or_default()));
    let mut events = watch::<Any>(&client, resource.everywhere(), options);
    let health = events.health();
    while let Some(event) = events.next().await {
        let (what, object) = match &event {
            WatchEvent::Begin => ("begin", None),
            WatchEvent::Item(object) => ("item", Some(object)),
            WatchEvent::Done => ("done", None),
            WatchEvent::Applied(object) => ("applied", Some(object)),
            WatchEvent::Deleted(object) => ("deleted", Some(object)),
        };
        match object {
            Some(Any { metadata }) => {
                println!("{what} {}/{} {}", metadata.namespace, metadata.name, metadata.resource_version);
            }
            None => println!("{what} {:?}", health.state()),
        }
    }
    Ok(())
}
