//! Forwards one stream of one run to the same stream of k1s.
//!
//! | mode | a line; the pieces of a line longer than 16 KiB |
//! |---|---|
//! | prefix | `id \| line`; `id + more of it` |
//! | json | `{"time":…,"job":"id","run":1,"stream":"stdout","line":"…"}`; all pieces but the last also have `"partial":true` |
//! | raw | the bytes, at once |

use super::lines::{Lines, Piece};
use super::{Console, name};
use crate::calendar::format_rfc3339;
use crate::config::Forward;
use crate::daemon::log::push_json_string;
use crate::job::{JobId, Stream};
use crate::time::Now;

/// Forwards what a run writes to one of its streams.
#[derive(Debug)]
pub(in crate::daemon) struct Forwarder {
    mode: Forward,
    is_on: bool,
    /// A slow reader of k1s slows the run down, as a pipe between them would; otherwise what the
    /// reader does not take is dropped.
    has_backpressure: bool,
    job: JobId,
    run: u64,
    stream: Stream,
    lines: Lines,
}

impl Forwarder {
    /// Forwards in this mode; `is_on` is the job's `output.forward`.
    pub(in crate::daemon) fn new(
        mode: Forward,
        is_on: bool,
        has_backpressure: bool,
        job: JobId,
        run: u64,
        stream: Stream,
    ) -> Forwarder {
        let lines = Lines::default();
        Forwarder { mode, is_on, has_backpressure, job, run, stream, lines }
    }

    /// Whether to read no more until k1s's own reader has caught up.
    pub(in crate::daemon) fn must_wait(&self, console: &Console) -> bool {
        self.has_backpressure && self.is_on && console.is_backed_up(self.stream)
    }

    /// Forwards what was read: whole lines, or all of it in raw mode. Returns how many lines were
    /// written one by one, each of which costs more than its bytes.
    pub(in crate::daemon) fn pass(
        &mut self,
        bytes: &[u8],
        console: &mut Console,
        now: Now,
    ) -> usize {
        if !self.is_on {
            return 0;
        }
        let mut count = 0;
        match self.mode {
            Forward::None => {}
            Forward::Raw => console.raw(self.stream, bytes, !self.has_backpressure, now),
            Forward::Prefix => {
                let (stream, prefix) = (self.stream, self.job.as_str().as_bytes());
                self.lines.push(bytes, &mut |piece| {
                    count += 1;
                    prefixed(piece, prefix, stream, console, now);
                });
            }
            Forward::Json => {
                let mut write = json_writer(&self.job, self.run, self.stream, console, now);
                self.lines.push(bytes, &mut |piece| {
                    count += 1;
                    write(piece);
                });
            }
        }
        count
    }

    /// The stream has ended: also forwards a last line that has no newline.
    pub(in crate::daemon) fn finish(&mut self, console: &mut Console, now: Now) {
        match self.mode {
            Forward::None | Forward::Raw => {}
            Forward::Prefix => {
                let (stream, prefix) = (self.stream, self.job.as_str().as_bytes());
                self.lines.finish(&mut |piece| prefixed(piece, prefix, stream, console, now));
            }
            Forward::Json => {
                let mut write = json_writer(&self.job, self.run, self.stream, console, now);
                self.lines.finish(&mut write);
            }
        }
    }

    /// The default mode: that of the main job of `k1s init`, or of others.
    pub(in crate::daemon) fn default_mode(is_main: bool) -> Forward {
        if is_main { Forward::Raw } else { Forward::Prefix }
    }

    /// Forwards in this mode from now on, or in the default one.
    pub(in crate::daemon) fn change(
        &mut self,
        mode: Option<Forward>,
        console: &mut Console,
        now: Now,
    ) {
        // Only the main job has backpressure.
        let mode = mode.unwrap_or(Forwarder::default_mode(self.has_backpressure));
        if self.mode != mode {
            self.finish(console, now);
            self.mode = mode;
        }
    }

    /// The job's `output.forward` has changed.
    pub(in crate::daemon) fn switch(&mut self, is_on: bool, console: &mut Console, now: Now) {
        if std::mem::replace(&mut self.is_on, is_on) && !is_on {
            self.finish(console, now);
        }
    }
}

fn prefixed(piece: Piece<'_>, id: &[u8], stream: Stream, console: &mut Console, now: Now) {
    let mark: &[u8] = if piece.is_continued { b" + " } else { b" | " };
    console.line(stream, &[id, mark, piece.text, b"\n"], now);
}

/// Writes pieces as JSON. Their time is when they were read.
fn json_writer<'a>(
    job: &'a JobId,
    run: u64,
    stream: Stream,
    console: &'a mut Console,
    now: Now,
) -> impl FnMut(Piece<'_>) + 'a {
    // An id contains nothing that JSON escapes.
    let (at, name) = (format_rfc3339(now.wall), name(stream));
    let head = format!(
        "{{\"time\":\"{at}\",\"job\":\"{}\",\"run\":{run},\"stream\":\"{name}\",\"line\":",
        job.as_str()
    );
    let mut line = Vec::new();
    move |piece| {
        line.clear();
        line.extend_from_slice(head.as_bytes());
        push_json_string(&mut line, piece.text);
        let end = if piece.is_partial { ",\"partial\":true}\n" } else { "}\n" };
        line.extend_from_slice(end.as_bytes());
        console.line(stream, &[&line], now);
    }
}
