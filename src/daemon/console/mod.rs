//! k1s's own stdout and stderr: what jobs print, and the messages of k1s itself.
//!
//! ```text
//!   a job's pipe ─▶ Forwarder ─ raw ─────────────────────────────▶ Channel ─▶ stdout
//!                        └ prefix, json: Lines ─▶ whole lines ──▶ (Queue)  ─▶ stderr
//!   the daemon ─▶ Log ─ a line for each message ─────────────────────┘
//! ```
//!
//! Nothing here blocks. What a reader does not take is queued up to a bound; beyond it whole lines
//! are dropped and counted, and a notice stands in their place. When both streams are the same
//! file, as with `2>&1` or on a terminal, they are one channel, so that no line is cut by another.

mod channel;
mod forward;
mod lines;
mod queue;

use std::fmt::{self, Display};
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};

use self::channel::{Channel, Trouble};
use self::queue::Lost;
use super::log::{Log, Message};
use crate::calendar::format_rfc3339;
use crate::config::{Forward, LogLevel};
use crate::job::Stream;
use crate::os;
use crate::time::{Mono, Now, Wall};

pub(super) use self::forward::Forwarder;

/// k1s's own stdout and stderr.
#[derive(Debug)]
pub(super) struct Console {
    log: Log,
    /// Whether notices on stdout are JSON, like the lines around them.
    has_json_lines: bool,
    stderr: Channel,
    /// `None` when it is the same file as stderr.
    stdout: Option<Channel>,
}

impl Console {
    /// The two files that k1s was started with. `forward` is the default for jobs.
    pub(super) fn new(log: Log, forward: Forward) -> Console {
        let stdout = (!os::console::is_one_file())
            .then(|| Channel::new(os::OwnStream::new(Stream::Stdout), STDOUT));
        Console {
            log,
            has_json_lines: forward == Forward::Json,
            stderr: Channel::new(os::OwnStream::new(Stream::Stderr), STDERR),
            stdout,
        }
    }

    /// From now on messages are written so, and `forward` is the default for jobs.
    pub(super) fn adopt(&mut self, log: Log, forward: Forward) {
        self.log = log;
        self.has_json_lines = forward == Forward::Json;
    }

    /// Writes a message, if its level is on.
    pub(super) fn log(&mut self, message: &Message<'_>, now: Now) {
        if self.log.is_on(message.level) {
            self.say(message, now);
        }
    }

    /// Writes a message about k1s as a whole, if its level is on.
    pub(super) fn note(&mut self, level: LogLevel, text: &dyn Display, now: Now) {
        self.log(&Message::note(level, text), now);
    }

    /// Writes a message, whatever its level.
    pub(super) fn say(&mut self, message: &Message<'_>, now: Now) {
        let lines = self.log.lines(message, now.wall);
        lines
            .split_inclusive(|byte| *byte == b'\n')
            .for_each(|line| self.stderr.push_line(&[line]));
    }

    /// Writes what is queued, as far as it is taken. To be called once a turn, before the loop
    /// waits.
    pub(super) fn flush(&mut self, now: Now) {
        self.flush_one(Stream::Stdout, now);
        self.flush_one(Stream::Stderr, now);
    }

    /// Registers with the poll where something waits until it can be written.
    pub(super) fn settle(&mut self, registry: &Registry) {
        for channel in self.stdout.iter_mut().chain([&mut self.stderr]) {
            channel.settle(registry);
        }
    }

    /// Whether the event is for one of the two.
    pub(super) fn handle_event(&mut self, token: Token) -> bool {
        let mut channels = self.stdout.iter_mut().chain([&mut self.stderr]);
        let channel = channels.find(|channel| channel.token() == token);
        channel.map(Channel::handle_event).is_some()
    }

    /// Whether the reader of this stream is so far behind that writers with backpressure should
    /// wait.
    fn is_backed_up(&self, stream: Stream) -> bool {
        match (stream, &self.stdout) {
            (Stream::Stdout, Some(stdout)) => stdout.is_backed_up(),
            (Stream::Stdout, None) | (Stream::Stderr, _) => self.stderr.is_backed_up(),
        }
    }

    /// How many bytes are queued for both.
    pub(super) fn waiting_bytes(&self) -> usize {
        let channels = self.stdout.iter().chain([&self.stderr]);
        channels.map(Channel::waiting_bytes).sum()
    }

    /// Writes what is still queued when the loop has ended. The reader has [`LAST_WAIT`] to take
    /// it, or until `until` if that is later.
    pub(super) fn finish(&mut self, poll: &mut Poll, until: Mono, mut now: Now) {
        let mut events = Events::with_capacity(16);
        let deadline = until.max(now.mono + LAST_WAIT);
        loop {
            now.mono = os::clock::mono();
            self.flush(now);
            let is_waiting =
                self.stderr.is_waiting() || self.stdout.as_ref().is_some_and(Channel::is_waiting);
            if !is_waiting || now.mono >= deadline {
                return;
            }
            self.settle(poll.registry());
            let _ = poll.poll(&mut events, Some(deadline.since(now.mono)));
            for event in &events {
                self.handle_event(event.token());
            }
        }
    }

    /// Writes a whole line that a job printed, including its newline.
    fn line(&mut self, stream: Stream, parts: &[&[u8]], now: Now) {
        let channel = self.channel(stream);
        channel.push_line(parts);
        if channel.is_flush_due() {
            self.flush_one(stream, now);
        }
    }

    /// Writes what a job printed, as it is; with `may_drop` bytes are dropped when too much is
    /// queued.
    fn raw(&mut self, stream: Stream, bytes: &[u8], may_drop: bool, now: Now) {
        self.channel(stream).push_raw(bytes, may_drop, now.mono);
    }

    fn channel(&mut self, stream: Stream) -> &mut Channel {
        match (stream, &mut self.stdout) {
            (Stream::Stdout, Some(stdout)) => stdout,
            (Stream::Stdout, None) | (Stream::Stderr, _) => &mut self.stderr,
        }
    }

    fn flush_one(&mut self, stream: Stream, now: Now) {
        let (log, has_json_lines) = (self.log, self.has_json_lines);
        let Some(stdout) = self.stdout.as_mut().filter(|_| stream == Stream::Stdout) else {
            let notice = |lost| {
                let text = &Dropped { stream: Stream::Stderr, lost };
                log.lines(&Message::note(LogLevel::Warn, text), now.wall)
            };
            self.stderr.flush(notice, now.mono);
            // The notice is in its place already, and there is nowhere to say that stderr is
            // broken.
            self.stderr.poll_trouble();
            return;
        };
        stdout.flush(|lost| notice_on_stdout(lost, has_json_lines, now.wall), now.mono);
        match stdout.poll_trouble() {
            None => {}
            Some(Trouble::Lost(lost)) => {
                let text = Dropped { stream: Stream::Stdout, lost };
                self.note(LogLevel::Warn, &text, now);
            }
            Some(Trouble::Broken(error)) => {
                let text = format_args!(
                    "cannot write to stdout: {error}; output of jobs to it is dropped"
                );
                self.note(LogLevel::Warn, &text, now);
            }
        }
    }
}

/// What was dropped, for people.
struct Dropped {
    stream: Stream,
    lost: Lost,
}

impl Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Lost { lines, bytes }, name) = (self.lost, name(self.stream));
        write!(f, "{lines} lines ({bytes} bytes) for {name} were dropped: its reader is too slow")
    }
}

/// The notice of what was dropped, in its place among the lines of jobs.
fn notice_on_stdout(lost: Lost, is_json: bool, at: Wall) -> Vec<u8> {
    if !is_json {
        return format!("k1s: {}\n", Dropped { stream: Stream::Stdout, lost }).into();
    }
    let (Lost { lines, bytes }, at) = (lost, format_rfc3339(at));
    let counts = format_args!(r#""droppedLines":{lines},"droppedBytes":{bytes}"#);
    format!("{{\"time\":\"{at}\",\"stream\":\"stdout\",{counts}}}\n").into()
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

const STDOUT: Token = Token(4);
const STDERR: Token = Token(5);
/// How long k1s waits at its end for a reader that has not taken everything yet.
const LAST_WAIT: Duration = Duration::from_millis(500);
