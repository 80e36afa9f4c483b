//! What a registry wants to see before it answers (RFC 9110 `WWW-Authenticate`, and
//! distribution's token specification).

use http_auth::parser::ChallengeParser;
use serde::Deserialize;

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from the server at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The one to answer of all challenges of a response: a token rather than the password itself.
pub(super) fn choose_challenge<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for challenge in headers.into_iter().flat_map(ChallengeParser::new).filter_map(Result::ok) {
        let param = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
        };
        if challenge.scheme.eq_ignore_ascii_case("Bearer")
            && let Some(realm) = param("realm")
        {
            return Some(Challenge::Bearer { realm, service: param("service"), scope: param("scope") });
        }
        if challenge.scheme.eq_ignore_ascii_case("Basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// A token server's answer. Some write the one name, some the other, some both.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl TokenAnswer {
    pub(super) fn token(self) -> Option<String> {
        self.token.filter(|token| !token.is_empty()).or(self.access_token).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], want: Option<Challenge>) {
        assert_eq!(choose_challenge(headers.iter().copied()), want, "{headers:?}");
    }

    #[test]
    fn challenges() {
        let bearer = |service: Option<&str>, scope: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: "https://a.example/t".into(), service: own(service), scope: own(scope) })
        };
        check(&[], None);
        check(&["Negotiate"], None);
        check(&["Basic realm=\"x\""], Some(Challenge::Basic));
        check(&["bearer realm=\"https://a.example/t\""], bearer(None, None));
        check(
            &[r#"Bearer realm="https://a.example/t",service="r",scope="repository:a/b:pull,push""#],
            bearer(Some("r"), Some("repository:a/b:pull,push")),
        );
        check(&["Basic realm=\"x\"", "Bearer realm=\"https://a.example/t\""], bearer(None, None));
        check(&["Basic realm=\"x\", Bearer realm=\"https://a.example/t\""], bearer(None, None));
        check(&["Bearer service=\"no realm\""], None);
        check(&["Bearer realm=\"unclosed"], None);
    }

    #[test]
    fn token_answers() {
        for (text, want) in [
            (r#"{"token":"a"}"#, Some("a")),
            (r#"{"access_token":"b"}"#, Some("b")),
            (r#"{"token":"","access_token":"b","expires_in":300}"#, Some("b")),
            ("{}", None),
        ] {
            let answer: TokenAnswer = serde_json::from_str(text).unwrap();
            assert_eq!(answer.token().as_deref(), want, "{text}");
        }
    }
}
