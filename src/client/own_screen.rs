//! A screen of its own on the terminal, for commands that read keys.

use std::io::{self, Write};
use std::time::Duration;

use super::Failure;
use super::session::{in_background, print};
use crate::os::signals::Interrupts;
use crate::os::terminal::{RawMode, suspend};

/// The other screen of a terminal, whose keys come one by one. The terminal is as it was before when
/// this is dropped, when a signal ends the process, and while it is stopped.
#[derive(Debug)]
pub(super) struct OwnScreen(RawMode);

impl OwnScreen {
    /// Begins it, if there is a terminal.
    pub(super) fn begin() -> Result<Option<OwnScreen>, Failure> {
        let Some(mode) = RawMode::of_stdin() else { return Ok(None) };
        let interrupts = Interrupts::hold()
            .map_err(|error| Failure::Refused(format!("cannot wait for signals: {error}")))?;
        let screen = OwnScreen(mode.clone());
        mode.begin();
        print(ENTER)?;
        in_background(move || {
            while let Some(interrupt) = interrupts.wait() {
                // Nothing is drawn any more after it was left.
                let mut stdout = io::stdout().lock();
                mode.end();
                let _ = stdout.write_all(LEAVE.as_bytes()).and_then(|()| stdout.flush());
                interrupt.obey();
            }
        })?;
        Ok(Some(screen))
    }

    /// Waits for a key for so long. After a Ctrl-Z it is to be drawn again.
    pub(super) fn key(&self, pause: Duration) -> Result<Option<u8>, Failure> {
        let key = self.0.key(pause);
        if key == Some(CTRL_Z) {
            self.0.end();
            print(LEAVE)?;
            suspend();
            self.0.begin();
            print(ENTER)?;
        }
        Ok(key)
    }
}

impl Drop for OwnScreen {
    fn drop(&mut self) {
        self.0.end();
        let _ = print(LEAVE);
    }
}

const CTRL_Z: u8 = 26;
/// ECMA-48 and xterm: another screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
