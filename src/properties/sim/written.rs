//! What the runs of a job have written, byte by byte, and what of it is kept.

use std::collections::BTreeMap;

use crate::job::{LogPlace, Stream};
use crate::supervisor::Job;
use crate::time::Now;

use super::rng::Rng;

/// The whole output of a job, in order.
#[derive(Default)]
pub(super) struct Written {
    /// Number 1 is the first.
    pub(super) lines: Vec<Line>,
    pub(super) writes: Vec<Write>,
    streams: BTreeMap<Place, Text>,
}

/// A stream of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) run: u64,
    is_stderr: bool,
}

/// A line, or a piece of a long one: where its text is in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) from: usize,
    to: usize,
    pub(super) at: Now,
    pub(super) is_partial: bool,
}

/// What was written at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) place: Place,
    pub(super) from: usize,
    pub(super) to: usize,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    /// Where the line begins that has not ended.
    begin: usize,
}

/// Of each stream of each run of which something is kept, the offset of the first such byte.
#[derive(Debug)]
pub(super) struct Kept(BTreeMap<Place, u64>);

impl Place {
    pub(super) fn new(run: u64, stream: Stream) -> Place {
        Place { run, is_stderr: stream == Stream::Stderr }
    }

    pub(super) fn stream(self) -> Stream {
        if self.is_stderr { Stream::Stderr } else { Stream::Stdout }
    }
}

impl Written {
    pub(super) fn add(&mut self, run: u64, stream: Stream, bytes: &[u8], at: Now) {
        let place = Place::new(run, stream);
        let text = self.streams.entry(place).or_default();
        let before = text.bytes.len();
        text.bytes.extend_from_slice(bytes);
        let mut next = before;
        while let Some((to, ends_here)) = text.line_end(next) {
            let from = text.begin;
            self.lines.push(Line { place, from, to, at, is_partial: !ends_here });
            next = if ends_here { to + 1 } else { to };
            text.begin = next;
        }
        let to = text.bytes.len();
        self.writes.push(Write { place, from: before, to });
    }

    /// A run is over, and with it the lines that have begun.
    pub(super) fn end(&mut self, run: u64, at: Now) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let place = Place::new(run, stream);
            let Some(text) = self.streams.get_mut(&place) else { continue };
            let (from, to) = (text.begin, text.bytes.len());
            if from < to {
                text.begin = to;
                self.lines.push(Line { place, from, to, at, is_partial: false });
            }
        }
    }

    pub(super) fn text(&self, line: &Line) -> &[u8] {
        self.bytes(line.place, line.from, line.to)
    }

    pub(super) fn bytes(&self, place: Place, from: usize, to: usize) -> &[u8] {
        &self.streams[&place].bytes[from..to]
    }

    pub(super) fn last_line(&self) -> u64 {
        self.lines.len() as u64
    }
}

impl Text {
    /// The first end of a line from this offset on, and whether there is a newline.
    fn line_end(&self, next: usize) -> Option<(usize, bool)> {
        let newline = self.bytes[next..].iter().position(|byte| *byte == b'\n');
        let newline = newline.map(|index| next + index);
        let last = newline.unwrap_or(self.bytes.len());
        let full = next.max(self.begin + FULL);
        let is_cut = |at: &usize| *at >= self.begin + FULL + 3 || self.bytes[*at] & 0xc0 != 0x80;
        match (full..last).find(is_cut) {
            Some(cut) => Some((cut, false)),
            None => newline.map(|newline| (newline, true)),
        }
    }
}

impl Kept {
    pub(super) fn of(job: &Job) -> Kept {
        let (mut kept, mut begin) = (BTreeMap::new(), LogPlace::default());
        loop {
            let (runs, until) = job.logs_from(begin);
            for run in runs {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    kept.insert(Place::new(run.number, stream), run.kept_from(stream));
                }
            }
            if until <= begin || until >= job.log_end().place() {
                return Kept(kept);
            }
            begin = until;
        }
    }

    /// The offset from which on the stream is kept; `usize::MAX`: nothing of it is.
    pub(super) fn from(&self, place: Place) -> usize {
        self.0.get(&place).map_or(usize::MAX, |from| *from as usize)
    }
}

/// Something to write: lines with numbers that never come again, parts of lines, long lines, and
/// bytes that are no text.
pub(super) fn something(count: &mut u64, rng: &mut Rng) -> Vec<u8> {
    *count += 1;
    match rng.below(12) {
        0..=3 => format!("{count}\n").into_bytes(),
        4 => format!("{count}").into_bytes(),
        5 => format!(" {count} goes on\n{count} begins").into_bytes(),
        6 => b"\n".to_vec(),
        7 => b"\xff\0\xe2\x82\xac\"\\\n\xf0\x9f".to_vec(),
        8 => (0..rng.below(300)).map(|line| format!("{count}.{line}\n")).collect::<String>().into(),
        9 => vec![b'x'; rng.pick(&[1, 10, 1_000, 5_000])],
        10 => {
            let long = rng.pick(&[FULL - 1, FULL, FULL + 1, 40_000]);
            [vec![b'y'; long], b"\xe2\x82\xac\n".to_vec()].concat()
        }
        _ => format!("{count}\r\n\n\n").into_bytes(),
    }
}

/// A line is cut behind so many bytes, where a character begins.
const FULL: usize = 16 * 1024;
