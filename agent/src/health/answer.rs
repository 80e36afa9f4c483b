//! What the health checks say, to the byte what kube-proxy says
//! (`pkg/proxy/healthcheck/service_health.go` of v1.36). Pure.

use orlop_model::ServiceKey;
use serde_json::Value;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub kind: &'static str,
    /// `X-Load-Balancing-Endpoint-Weight`: how much of the traffic this node wants.
    pub weight: Option<u32>,
    /// The body.
    pub body: String,
}

/// A Service's own check: this node has endpoints of it, and their number.
pub(super) fn service(key: &ServiceKey, local: u32, healthy: bool) -> Answer {
    // Names of objects have nothing that JSON and Go would quote differently.
    let text = |text: &str| Value::from(text).to_string();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {local},\n\t\
         \"serviceProxyHealthy\": {healthy}\n}}",
        text(key.namespace()),
        text(key.name()),
    );
    let status = if local != 0 && healthy { 200 } else { 503 };
    Answer { status, kind: "application/json", weight: Some(local), body }
}

/// A path that is not there, in the words of Go's `http.NotFound`.
pub(super) fn not_found() -> Answer {
    Answer { status: 404, kind: "text/plain; charset=utf-8", weight: None, body: "404 page not found\n".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_check_is_kube_proxys_to_the_byte() {
        let key = ServiceKey::new("prod", "web").unwrap();
        let body = |local, healthy| {
            format!(
                r#"{{
	"service": {{
		"namespace": "prod",
		"name": "web"
	}},
	"localEndpoints": {local},
	"serviceProxyHealthy": {healthy}
}}"#
            )
        };
        for (local, healthy, status) in [(2, true, 200), (0, true, 503), (2, false, 503)] {
            let answer = service(&key, local, healthy);
            assert_eq!((answer.status, answer.weight), (status, Some(local)));
            assert_eq!(answer.body, body(local, healthy));
        }
    }
}
