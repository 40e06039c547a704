//! Signals by name and number, as signal(7) lists them for Linux on x86-64 and arm64.
//!
//! Nothing here sends a signal; `os` does.

use std::fmt;

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// SIGHUP.
    pub const HUP: Signal = Signal(1);
    /// SIGINT.
    pub const INT: Signal = Signal(2);
    /// SIGQUIT.
    pub const QUIT: Signal = Signal(3);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGCONT.
    pub const CONT: Signal = Signal(18);

    /// The signal with this number; `None` outside of 1 to 64.
    pub fn from_number(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=64).contains(n)).map(Signal)
    }

    /// The signal with this name: `SIGTERM`, `TERM`, `SIGRTMIN+3`, `SIGRTMAX-1`; upper case only.
    pub fn from_name(name: &str) -> Option<Signal> {
        let short = name.strip_prefix("SIG").unwrap_or(name);
        if let Some(index) = NAMES.iter().position(|known| *known == short) {
            return u8::try_from(index + 1).ok().map(Signal);
        }
        let number = if let Some(up) = short.strip_prefix("RTMIN") {
            i32::from(RTMIN) + offset(up, '+')?
        } else {
            i32::from(RTMAX) - offset(short.strip_prefix("RTMAX")?, '-')?
        };
        Signal::from_number(number).filter(|s| s.0 >= RTMIN)
    }

    /// The number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

/// Writes the name: `SIGTERM`, `SIGRTMIN`, `SIGRTMIN+3`, or `SIG32` for a number without one.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0).wrapping_sub(1)) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn offset(text: &str, sign: char) -> Option<i32> {
    match text.strip_prefix(sign) {
        None => text.is_empty().then_some(0),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        Some(_) => None,
    }
}

/// The C library uses 32 and 33 itself.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::from_name(&signal.to_string()), Some(signal), "{number}");
        }
        assert_eq!(Signal::from_name("TERM"), Some(Signal::TERM));
        assert_eq!(Signal::from_name("SIGRTMAX"), Signal::from_number(64));
        assert_eq!(Signal::from_name("RTMAX-1"), Signal::from_number(63));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for name in [
            "", "SIG", "SIGFOO", "sigterm", "15", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+",
            "RTMIN++1",
        ] {
            assert_eq!(Signal::from_name(name), None, "{name}");
        }
        assert_eq!(Signal::from_number(0), None);
        assert_eq!(Signal::from_number(65), None);
    }
}
