//! The API and a peer that may send anything.

use super::exposition::{self, Format};
use super::service::Service;

/// Whatever the bytes are: each request has one answer, which is JSON and a newline, or metrics,
/// and no fault of k1s's own; and who does not show the token changes nothing and learns nothing.
pub(super) fn check_api(data: &[u8]) {
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
    data.windows(7).any(|part| part.eq_ignore_ascii_case(b"bearer "))
}
