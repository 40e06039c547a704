//! What stdout is: how much fits on it, and how a whole screen is drawn.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use crate::os::terminal::window_size;

/// What stdout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// How many characters a line may have; `None`: any number.
    pub(super) width: Option<usize>,
    /// How many lines are shown at once.
    pub(super) height: usize,
    /// Whether it is a terminal on which a whole screen can be drawn again and again.
    pub(super) is_terminal: bool,
    /// Whether to use colours.
    pub(super) has_colours: bool,
}

impl Screen {
    /// What stdout is now: a window may change its size.
    pub(super) fn of_stdout() -> Screen {
        let number = |name| std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0);
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        let is_terminal = io::stdout().is_terminal() && !is_dumb;
        let size = window_size();
        Screen {
            width: number("COLUMNS").or(size.map(|(columns, _)| columns)),
            height: size.map(|(_, lines)| lines).filter(|lines| *lines > 0).unwrap_or(FEW_LINES),
            is_terminal,
            has_colours: is_terminal && !set("NO_COLOR"),
        }
    }

    /// What shows a text as a whole screen, without a flicker: each line replaces what stood there,
    /// and the rest is emptied. Lines that do not fit below are not shown.
    pub(super) fn filled(self, text: &str) -> String {
        let mut out = String::from(HOME);
        for (index, line) in text.lines().take(self.height).enumerate() {
            let _ = write!(out, "{}{line}{END_OF_LINE}", if index == 0 { "" } else { "\r\n" });
        }
        out.push_str(END_OF_SCREEN);
        out
    }
}

/// Empties the screen.
pub(super) const EMPTY: &str = "\x1b[H\x1b[2J";
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// The height of a screen that does not say it.
const FEW_LINES: usize = 10;
