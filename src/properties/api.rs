//! The API and a peer that may send anything.

use super::exposition::{self, Format};
use super::service::Service;
use crate::access::Scope;
use crate::supervisor::Job;

/// Whatever the bytes are: each request has one answer, which is JSON and a newline, or metrics,
/// and no fault of k1s's own; and who does not show the token changes nothing and learns nothing.
pub(super) fn check_api(data: &[u8]) {
    check_hidden(data);
    let mut service = Service::default();
    let answers = service.talk(data);
    for (status, body) in &answers {
        let text = String::from_utf8_lossy(body);
        assert!((200..=299).contains(status) || (400..=599).contains(status), "{status}");
        assert_ne!(*status, 500, "{text}");
        if body.is_empty() {
            continue;
        }
        assert!(text.ends_with('\n'), "no newline at the end of {text}");
        if *status == 200 && text.starts_with("# ") {
            let is_open = text.ends_with("# EOF\n");
            exposition::parse(&text, if is_open { Format::OpenMetrics } else { Format::Text });
        } else {
            check_json(*status, &text);
        }
        if !shows_the_token(data) {
            assert!(*status >= 400 || text == "{\"status\":\"ok\"}\n", "a stranger is told {text}");
        }
    }
    if !shows_the_token(data) {
        assert!(service.supervisor.job_after(None).is_none(), "a stranger creates a job");
    }
}

fn check_json(status: u16, text: &str) {
    let json = serde_json::from_str::<serde_json::Value>(text);
    let Ok(json) = json else {
        unreachable!("{json:?}: {text}");
    };
    assert_eq!(json["error"].is_string(), status >= 400, "{status} {text}");
}

/// Whether the bytes can contain the token, `t`, with its scheme.
fn shows_the_token(data: &[u8]) -> bool {
    data.windows(SCHEME.len()).any(|part| part.eq_ignore_ascii_case(SCHEME))
}

/// The same from somebody with less: there is a job that is not there for them, and others that have
/// to do with it. They are not told of it, and do nothing to it.
fn check_hidden(data: &[u8]) {
    for (token, scope) in [(b'r', Scope::Read), (b'u', Scope::Run), (b'a', Scope::Admin)] {
        let mut service = Service::of_jobs(6);
        for (id, fields) in [
            (HIDDEN, r#""type":"continuous","executable":"x","readiness":{"notify":true}"#),
            ("a", r#""type":"one-off","executable":"x","dependsOn":{"HIDDEN":"ready"}"#),
            ("b", r#""type":"continuous","executable":"x","dependsOn":{"HIDDEN":"started"}"#),
            ("c", r#""type":"cron","executable":"x","onFailure":"HIDDEN","schedule":"* * * * *""#),
        ] {
            let fields = fields.replace("HIDDEN", HIDDEN);
            let body = format!("{{{fields}}}");
            let head = format!("PUT /job/{id} HTTP/1.1\r\nHost: k\r\nAuthorization: Bearer t\r\n");
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let answers = service.talk(request.as_bytes());
            assert!(matches!(answers[..], [(200, _)]), "{answers:?}");
        }
        let before = service.supervisor.job(HIDDEN).map(Job::key);
        for (status, body) in service.talk(&with_token(data, token)) {
            let text = String::from_utf8_lossy(&body);
            let other = text
                .replace(&format!("{{\"{HIDDEN}\":"), "")
                .replace(&format!("\"onFailure\":\"{HIDDEN}\""), "");
            assert!(!other.contains(HIDDEN), "{} is told {status} {text}", scope.name());
        }
        let job = service.supervisor.job(HIDDEN);
        assert_eq!(job.map(Job::key), before, "it is removed");
        assert!(job.is_some_and(|job| !job.is_kill_requested()), "it is killed");
        let ids = ["a", "b", "c"].map(|id| service.supervisor.job(id).is_some());
        assert!(scope == Scope::Admin || ids == [true; 3], "{} removes a job", scope.name());
    }
}

/// The same bytes with another token, unless they themselves have the id of the hidden job.
fn with_token(data: &[u8], token: u8) -> Vec<u8> {
    let mut data = data.to_vec();
    if data.windows(HIDDEN.len()).any(|part| part == HIDDEN.as_bytes()) {
        data.clear();
    }
    for at in SCHEME.len()..data.len() {
        let (before, rest) = data.split_at_mut(at);
        if before.get(at - SCHEME.len()..).is_some_and(|end| end.eq_ignore_ascii_case(SCHEME))
            && let Some(first) = rest.first_mut().filter(|first| **first == b't')
        {
            *first = token;
        }
    }
    data
}

const SCHEME: &[u8] = b"bearer ";
/// The id of a job that is there for the token `t` alone.
const HIDDEN: &str = "zq7x";
