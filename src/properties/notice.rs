//! A datagram of sd_notify(3), as any process of a run may send it.
//!
//! ```text
//!   bytes ─▶ notices ─▶ written again ─▶ the same notices
//! ```

use crate::job::notice::{Notice, parse};

/// However many lines there are, they say a handful of things; what is read can be written and read again; a status is
/// bounded and contains no control character; and the lines of two datagrams mean the same in one.
pub(super) fn check_notices(data: &[u8]) {
    let notices = parse(data);
    assert!(notices.len() <= 5, "{notices:?}");
    assert_eq!(parse(&written(&notices)), notices);
    for notice in &notices {
        if let Notice::Status(text) = notice {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() <= 1024 && text.trim() == text, "{text:?}");
        }
    }
    let middle = data.split_at(data.len() / 2);
    let apart = [parse(middle.0), parse(middle.1)].concat();
    let together = parse(&[middle.0, b"\n", middle.1].concat());
    assert!(together == parse(&written(&apart)) || data.contains(&0));
}

fn written(notices: &[Notice]) -> Vec<u8> {
    notices.iter().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// The line that means this notice.
fn line(notice: &Notice) -> String {
    match notice {
        Notice::Ready => "READY=1".to_owned(),
        Notice::Status(text) => format!("STATUS={text}"),
        Notice::Reloading => "RELOADING=1".to_owned(),
        Notice::Stopping => "STOPPING=1".to_owned(),
        Notice::Watchdog => "WATCHDOG=1".to_owned(),
        Notice::WatchdogTrigger => "WATCHDOG=trigger".to_owned(),
        Notice::ExtendTimeout(time) => format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()),
        Notice::Newline => unreachable!("no line of a datagram means it"),
    }
}
