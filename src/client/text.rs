//! Text for people: nothing that a terminal would obey, and times as they are said.

use std::fmt;
use std::time::Duration;

/// A text of a job or a peer, of which a terminal obeys nothing: control characters and those that
/// change the direction of text are shown by their code, `\u{1b}`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in self.0.char_indices().filter(|(_, c)| is_obeyed(*c)) {
            write!(f, "{}{}", self.0.get(plain..at).unwrap_or_default(), c.escape_default())?;
            plain = at + c.len_utf8();
        }
        f.write_str(self.0.get(plain..).unwrap_or_default())
    }
}

/// Whether a terminal would not show a character, but do something.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// How many columns of a terminal a character takes: none if it is put on the one before, two if it
/// is East Asian or a picture (UAX #11), in wide ranges.
pub(super) fn columns_of(c: char) -> usize {
    match c {
        ..'\u{300}' => 1,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' => 0,
        '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{e0100}'..='\u{e01ef}' => 0,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' => 2,
        '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' => 2,
        '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}' => 2,
        '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1f9ff}' | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A length of time in two units at most: `450ms`, `12s`, `3m12s`, `5h4m`, `2d3h`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short(pub(super) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{}ms", self.0.subsec_millis()),
            1..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m{}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h{}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d{}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// What is shown in colour, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
    Faint,
    Bold,
}

impl Colour {
    /// What switches it on: ECMA-48, SGR.
    pub(super) fn on(self) -> &'static str {
        match self {
            Colour::Red => "\x1b[31m",
            Colour::Green => "\x1b[32m",
            Colour::Yellow => "\x1b[33m",
            Colour::Blue => "\x1b[34m",
            Colour::Magenta => "\x1b[35m",
            Colour::Cyan => "\x1b[36m",
            Colour::Faint => "\x1b[2m",
            Colour::Bold => "\x1b[1m",
        }
    }

    /// The colour of a state: green goes well, yellow is on its way, red needs somebody.
    pub(super) fn of_state(state: &str) -> Option<Colour> {
        Some(match state {
            "running" => Colour::Green,
            "failed" => Colour::Red,
            "waiting" | "starting" | "backoff" | "stopping" => Colour::Yellow,
            "scheduled" => Colour::Cyan,
            "killed" | "idle" | "succeeded" => Colour::Faint,
            _ => return None,
        })
    }
}

/// Text in a colour; `None`: as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Painted<T>(pub(super) T, pub(super) Option<Colour>);

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            None => self.0.fmt(f),
            Some(colour) => write!(f, "{}{}{OFF}", colour.on(), self.0),
        }
    }
}

/// Switches all colours off.
pub(super) const OFF: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing() {
        for (given, shown) in [
            ("plain ä €", "plain ä €"),
            ("a\x1b[31mb\n", "a\\u{1b}[31mb\\n"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("\u{7f}", "\\u{7f}"),
        ] {
            assert_eq!(Escaped(given).to_string(), shown);
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        for (text, columns) in [
            ("", 0),
            ("abc", 3),
            ("ä", 1),
            ("a\u{308}", 1),
            ("…", 1),
            ("日本", 4),
            ("🚀x", 3),
            ("한", 2),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
    }

    #[test]
    fn times_are_short() {
        for (millis, shown) in [
            (0, "0ms"),
            (450, "450ms"),
            (12_999, "12s"),
            (192_000, "3m12s"),
            (18_240_000, "5h4m"),
            (183_600_000, "2d3h"),
        ] {
            assert_eq!(Short(Duration::from_millis(millis)).to_string(), shown);
        }
    }

    #[test]
    fn colours_end_where_they_should() {
        assert_eq!(Painted("x", Some(Colour::Red)).to_string(), "\x1b[31mx\x1b[0m");
        assert_eq!(Painted("x", None).to_string(), "x");
    }
}
