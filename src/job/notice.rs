//! What a run says about itself: by sd_notify(3), or by a newline on a descriptor.
//!
//! ```text
//!   "READY=1\nSTATUS=3 workers\nMAINPID=7" ─▶ parse ─▶ Ready, Status("3 workers")
//! ```
//!
//! A datagram is a list of lines. Those that k1s does not know mean nothing to it, and so does
//! `MAINPID`: the first process of a run stays the first.

use std::mem::discriminant;
use std::time::Duration;

/// One thing that a run says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`: it has started, or has loaded its configuration again.
    Ready,
    /// `STATUS=…`: what it is doing, a line for people. Empty: nothing to say any more.
    Status(String),
    /// `RELOADING=1`: it loads its configuration again, and says when it is ready.
    Reloading,
    /// `STOPPING=1`: it is about to end.
    Stopping,
    /// `WATCHDOG=1`: it is well.
    Watchdog,
    /// `WATCHDOG=trigger`: it is not well, and is to be treated as if it had fallen silent.
    WatchdogTrigger,
    /// `EXTEND_TIMEOUT_USEC=…`: it needs at least so much more time for what it is doing, from now
    /// on.
    ExtendTimeout(Duration),
    /// A newline on the descriptor that it was given: it has started.
    Newline,
}

/// Reads a datagram of sd_notify(3). A text with a NUL byte says nothing, except that one at its
/// end is cut. Of lines that say the same thing, and of those that say where it stands, the last
/// counts, as for systemd: so a datagram says a handful of things, however many lines it has.
pub fn parse(datagram: &[u8]) -> Vec<Notice> {
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    let mut notices: Vec<Notice> = Vec::new();
    if text.contains(&0) {
        return notices;
    }
    for notice in text.split(|byte| *byte == b'\n').filter_map(parse_line) {
        notices.retain(|earlier| !notice.replaces(earlier));
        notices.push(notice);
    }
    notices
}

impl Notice {
    /// Whether one that came earlier in the same datagram says nothing any more.
    fn replaces(&self, earlier: &Notice) -> bool {
        let is_stage =
            |it: &Notice| matches!(it, Notice::Ready | Notice::Reloading | Notice::Stopping);
        discriminant(self) == discriminant(earlier) || (is_stage(self) && is_stage(earlier))
    }
}

fn parse_line(line: &[u8]) -> Option<Notice> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (line.get(..equals)?, line.get(equals + 1..)?);
    match (name, value) {
        (b"READY", b"1") => Some(Notice::Ready),
        (b"STATUS", text) => Some(Notice::Status(shown(text))),
        (b"RELOADING", b"1") => Some(Notice::Reloading),
        (b"STOPPING", b"1") => Some(Notice::Stopping),
        (b"WATCHDOG", b"1") => Some(Notice::Watchdog),
        (b"WATCHDOG", b"trigger") => Some(Notice::WatchdogTrigger),
        (b"EXTEND_TIMEOUT_USEC", number) => microseconds(number).map(Notice::ExtendTimeout),
        _ => None,
    }
}

/// A status as it is shown: bounded, with U+FFFD for what is not UTF-8 and for control characters.
fn shown(text: &[u8]) -> String {
    let replaced = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = String::from_utf8_lossy(text).trim().chars().map(replaced).collect();
    let (most, _) = text.split_at(text.floor_char_boundary(MAX_STATUS_BYTES));
    most.trim_end().to_owned()
}

fn microseconds(number: &[u8]) -> Option<Duration> {
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(number).ok().filter(|_| is_number)?.parse().ok()?;
    Some(Duration::from_micros(number).min(LONGEST_EXTENSION))
}

/// As the longest of a job's own times: a hundred years.
const LONGEST_EXTENSION: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
/// More of a status is not kept.
const MAX_STATUS_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datagram: &[u8], expected: &[Notice]) {
        assert_eq!(parse(datagram), expected, "{}", String::from_utf8_lossy(datagram));
    }

    #[test]
    fn each_line_that_is_known_is_a_notice() {
        let status = |text: &str| Notice::Status(text.to_owned());
        check(b"READY=1", &[Notice::Ready]);
        check(
            b"STATUS=3 workers = ok\nREADY=1\nMAINPID=7\n",
            &[status("3 workers = ok"), Notice::Ready],
        );
        check(b"RELOADING=1\nMONOTONIC_USEC=1", &[Notice::Reloading]);
        check(b"STOPPING=1\nSTATUS=", &[Notice::Stopping, status("")]);
        check(b"WATCHDOG=1\nWATCHDOG=trigger", &[Notice::Watchdog, Notice::WatchdogTrigger]);
        let extended = Notice::ExtendTimeout(Duration::from_millis(1500));
        check(b"EXTEND_TIMEOUT_USEC=1500000", &[extended]);
    }

    #[test]
    fn of_lines_that_say_the_same_the_last_counts() {
        let status = |text: &str| Notice::Status(text.to_owned());
        check(b"READY=1\nSTATUS=a\nSTATUS=b\nREADY=1", &[status("b"), Notice::Ready]);
        check(b"READY=1\nSTOPPING=1", &[Notice::Stopping]);
        check(b"RELOADING=1\nREADY=1", &[Notice::Ready]);
        let extended = |seconds| Notice::ExtendTimeout(Duration::from_secs(seconds));
        let twice = b"EXTEND_TIMEOUT_USEC=2000000\nEXTEND_TIMEOUT_USEC=1000000";
        check(twice, &[extended(1)]);
        check(
            &b"STOPPING=1\nREADY=1\nWATCHDOG=1\n".repeat(150),
            &[Notice::Ready, Notice::Watchdog],
        );
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for datagram in [
            "",
            "\n\n",
            "READY",
            "READY=0",
            "READY= 1",
            "ready=1",
            " READY=1",
            "READY=1\r",
            "WATCHDOG=2",
            "WATCHDOG_USEC=1",
            "EXTEND_TIMEOUT_USEC=",
            "EXTEND_TIMEOUT_USEC=-1",
            "EXTEND_TIMEOUT_USEC=1.5",
            "EXTEND_TIMEOUT_USEC=99999999999999999999",
            "READY=1\0STATUS=x",
            "X_VENDOR=1\nFDSTORE=1\nBARRIER=1\nERRNO=2",
        ] {
            check(datagram.as_bytes(), &[]);
        }
        check(b"READY=1\0", &[Notice::Ready]);
    }

    #[test]
    fn numbers_and_texts_of_any_size_are_bounded() {
        let longest = Notice::ExtendTimeout(LONGEST_EXTENSION);
        check(b"EXTEND_TIMEOUT_USEC=18446744073709551615", &[longest]);
        let long = [b"STATUS=".as_slice(), &[b'x'; 5000]].concat();
        check(&long, &[Notice::Status("x".repeat(MAX_STATUS_BYTES))]);
        check(b"STATUS= \xffa\x1b[1m\t ", &[Notice::Status("\u{fffd}a\u{fffd}[1m".to_owned())]);
    }
}
