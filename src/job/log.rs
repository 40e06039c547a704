//! The log of a job: the kept output of all its runs, in the order in which it was read.
//!
//! ```text
//!   lines       1    2  3        4     5   6            7
//!   run 1 out  ────────┐        ┌───────┐               the place of a read: how many lines had
//!   run 1 err          └────────┘       └──┐            ended before it, and a number that
//!   run 2 out                              └──────────  distinguishes reads between two ends
//! ```
//!
//! Lines are numbered in the order in which they end, from 1, over both streams and all runs; a
//! number is never used again, whatever is dropped. So a reader is only a [`Cursor`], and all
//! readers share one copy of the output. A reader that falls behind sees from the numbers how many
//! lines it has lost. Each step of a reader is limited by a budget in bytes.

use std::collections::VecDeque;

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

use super::lines::MOST_BYTES as MOST_LINE_BYTES;
use super::output::Kept;
use super::read::{LogEnd, LogPlace, Read};
use super::{Capture, RunRecord, Stream};
use crate::time::Wall;

/// How far a log was read: everything before `place`, and so many bytes of the read at that place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    place: LogPlace,
    seen: u64,
    /// The number of the last line that was read or reported as lost.
    line: u64,
}

/// The kept output of one run.
#[derive(Clone, Copy, Debug)]
pub struct RunLog<'a> {
    /// Which run.
    pub number: u64,
    streams: [StreamLog<'a>; 2],
}

/// The kept output of one stream of one run.
#[derive(Clone, Copy, Debug)]
struct StreamLog<'a> {
    written: u64,
    kept: Option<&'a Kept>,
}

/// A line, or a piece of one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number in the log.
    pub number: u64,
    /// When its end was read.
    pub at: Wall,
    /// The run that has written it.
    pub run: u64,
    /// The stream.
    pub stream: Stream,
    /// Its bytes, without the newline.
    pub text: &'a [u8],
    /// The line goes on in the next piece.
    pub is_partial: bool,
}

/// What a reader of lines gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogItem<'a> {
    /// The next line.
    Line(Line<'a>),
    /// So many lines were dropped, wholly or in part.
    Lost(u64),
}

/// Which output a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The first run.
    pub first_run: u64,
    /// The last run.
    pub last_run: u64,
    /// The stream; `None`: both.
    pub stream: Option<Stream>,
}

impl LogFilter {
    fn has(&self, part: &Part<'_>) -> bool {
        (self.first_run..=self.last_run).contains(&part.run)
            && self.stream.is_none_or(|stream| stream == part.stream)
    }
}

impl<'a> RunLog<'a> {
    /// The output of a run that has not ended.
    pub fn of_live(number: u64, stdout: &'a Capture, stderr: &'a Capture) -> RunLog<'a> {
        RunLog::new(number, stdout.parts(), stderr.parts())
    }

    /// The output of a run that has ended.
    pub fn of_record(record: &'a RunRecord) -> RunLog<'a> {
        RunLog::new(record.number, record.stdout.parts(), record.stderr.parts())
    }

    /// The offset of the first byte that is kept of a stream.
    #[cfg(feature = "properties")]
    pub fn kept_from(&self, stream: Stream) -> u64 {
        let [stdout, stderr] = &self.streams;
        match stream {
            Stream::Stdout => stdout.begin(),
            Stream::Stderr => stderr.begin(),
        }
    }

    fn new(number: u64, stdout: (u64, Option<&'a Kept>), stderr: (u64, Option<&'a Kept>)) -> Self {
        let stream = |(written, kept)| StreamLog { written, kept };
        RunLog { number, streams: [stream(stdout), stream(stderr)] }
    }
}

impl<'a> StreamLog<'a> {
    /// The offset of the first byte that is kept.
    fn begin(&self) -> u64 {
        let kept = self.kept.map_or(0, |kept| kept.bytes.len());
        self.written.saturating_sub(kept as u64)
    }

    /// The kept bytes from one offset to another, in the two parts that they are stored in.
    fn bytes(&self, from: u64, to: u64) -> [&'a [u8]; 2] {
        let Some(kept) = self.kept else { return [&[], &[]] };
        let (one, two) = kept.bytes.as_slices();
        let index = |offset: u64| {
            usize::try_from(offset.saturating_sub(self.begin())).unwrap_or(usize::MAX)
        };
        let (from, to) = (index(from), index(to));
        let of = |part: &'a [u8], skipped: usize| {
            let (from, to) = (from.saturating_sub(skipped), to.saturating_sub(skipped));
            part.get(from.min(part.len())..to.min(part.len())).unwrap_or_default()
        };
        [of(one, 0), of(two, one.len())]
    }

    /// The offset of the first newline there.
    fn newline(&self, from: u64, to: u64) -> Option<u64> {
        let [one, two] = self.bytes(from, to);
        let at = match memchr(b'\n', one) {
            Some(at) => at,
            None => one.len() + memchr(b'\n', two)?,
        };
        Some(from + at as u64)
    }

    /// How many newlines there are.
    fn newlines(&self, from: u64, to: u64) -> u64 {
        let count = |part| memchr_iter(b'\n', part).count() as u64;
        self.bytes(from, to).map(count).iter().sum()
    }

    /// The beginning of the line at this offset; `None` if it is not kept. A cut at the offset
    /// itself counts if it `was_read`.
    fn line_begin(&self, offset: u64, was_read: bool) -> Option<u64> {
        let from = offset.saturating_sub(MOST_LINE_BYTES as u64 + 1).max(self.begin());
        let [one, two] = self.bytes(from, offset);
        let newline = match memrchr(b'\n', two) {
            Some(at) => Some(from + (one.len() + at) as u64 + 1),
            None => memrchr(b'\n', one).map(|at| from + at as u64 + 1),
        };
        let cuts = self.cuts();
        let before = |cut: &u64| *cut < offset || (was_read && *cut == offset);
        let cut = cuts.partition_point(before).checked_sub(1);
        let cut = cut.and_then(|index| cuts.get(index).copied()).filter(|cut| *cut >= from);
        let begins = |kept: &Kept| kept.begins_line && from == self.begin();
        newline.max(cut).or_else(|| self.kept.is_some_and(begins).then_some(from))
    }

    fn cuts(&self) -> &'a [u64] {
        self.kept.map(|kept| kept.cuts.as_slice()).unwrap_or_default()
    }

    fn reads(&self) -> Option<&'a VecDeque<Read>> {
        self.kept.map(|kept| &kept.reads)
    }

    /// The offset at which a read begins, even if that is not kept.
    fn read_begin(&self, index: usize) -> u64 {
        let Some(kept) = self.kept else { return self.written };
        let length = |read: &Read| read.length() as u64;
        if index < kept.reads.len() / 2 {
            let before: u64 = kept.reads.range(..index).map(length).sum();
            self.begin().saturating_sub(kept.hidden as u64) + before
        } else {
            let after: u64 = kept.reads.range(index..).map(length).sum();
            self.written.saturating_sub(after)
        }
    }
}

/// A read of a stream.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    run: u64,
    stream: Stream,
    log: StreamLog<'a>,
    read: Read,
    /// The offsets at which it begins and ends.
    begin: u64,
    end: u64,
    /// How many of its first bytes were dropped, and how many lines ended in them.
    hidden: u64,
    hidden_ends: u64,
}

/// A position in a part.
#[derive(Clone, Copy, Debug)]
struct At {
    offset: u64,
    /// The number of the last line that ended before.
    line: u64,
    /// Whether a cut at the offset itself was read.
    cut_was_read: bool,
}

impl<'a> Part<'a> {
    /// Where a reader goes on.
    fn at(&self, cursor: &Cursor) -> At {
        let kept = self.begin + self.hidden;
        let first = self.read.place.lines() + self.hidden_ends;
        let seen = self.begin + cursor.seen;
        if cursor.place != self.read.place || cursor.seen == 0 || seen < kept {
            return At { offset: kept, line: first, cut_was_read: false };
        }
        At { offset: seen.min(self.end), line: cursor.line.max(first), cut_was_read: true }
    }

    /// The same, but at least after the line with the cursor's number; `None` if the whole part is
    /// before that.
    fn after_line(&self, cursor: &Cursor) -> Option<At> {
        let mut at = self.at(cursor);
        if at.line < cursor.line && at.line + self.count_ends(at) <= cursor.line {
            return None;
        }
        while at.line < cursor.line {
            (_, at) = self.next_end(at)?;
        }
        Some(at)
    }

    /// The first end of a line from there on. A cut belongs to the read that contains the next
    /// byte, or after the last byte of a stream, to an empty read.
    fn next_end(&self, at: At) -> Option<(LineEndAt, At)> {
        let cuts = self.log.cuts();
        let before = |cut: &u64| *cut < at.offset || (at.cut_was_read && *cut == at.offset);
        let cut = cuts.get(cuts.partition_point(before)).copied();
        let cut = cut.filter(|cut| *cut < self.end || self.begin == self.end);
        let newline = self.log.newline(at.offset, self.end);
        let (offset, is_cut) = match (newline, cut) {
            (Some(newline), Some(cut)) if cut <= newline => (cut, true),
            (Some(newline), _) => (newline, false),
            (None, cut) => (cut?, true),
        };
        let next = At {
            offset: if is_cut { offset } else { offset + 1 },
            line: at.line + 1,
            cut_was_read: true,
        };
        Some((LineEndAt { offset, is_cut }, next))
    }

    /// The line with this number, which ends there. At the end of its stream it is complete.
    fn line<'t>(&self, text: &'t [u8], end: LineEndAt, number: u64) -> Line<'t> {
        let (at, run, stream) = (self.read.at(), self.run, self.stream);
        let is_partial = end.is_cut && self.begin < self.end;
        Line { number, at, run, stream, text, is_partial }
    }

    /// Whether its last byte, if there is one, does not end a line.
    fn ends_partially(&self) -> bool {
        let [one, two] = self.log.bytes(self.begin + self.hidden, self.end);
        two.last().or(one.last()).is_some_and(|byte| *byte != b'\n')
    }

    /// How many lines end from there on.
    fn count_ends(&self, at: At) -> u64 {
        self.cuts(at).len() as u64 + self.log.newlines(at.offset, self.end)
    }

    /// The ends of lines from there on, the last first.
    fn ends_back(&self, at: At) -> impl Iterator<Item = LineEndAt> + 'a {
        let [one, two] = self.log.bytes(at.offset, self.end);
        let in_two = memrchr_iter(b'\n', two).map(|index| one.len() + index);
        let newlines = in_two.chain(memrchr_iter(b'\n', one));
        let mut newlines = newlines.map(move |index| at.offset + index as u64).peekable();
        let mut cuts = self.cuts(at).iter().rev().copied().peekable();
        std::iter::from_fn(move || {
            let is_cut = match (newlines.peek(), cuts.peek()) {
                (Some(newline), Some(cut)) => newline < cut,
                (newline, _) => newline.is_none(),
            };
            let offset = if is_cut { cuts.next()? } else { newlines.next()? };
            Some(LineEndAt { offset, is_cut })
        })
    }

    /// Where lines are cut from there on.
    fn cuts(&self, at: At) -> &'a [u64] {
        let cuts = self.log.cuts();
        let is_before = |cut: &u64| *cut < at.offset || (at.cut_was_read && *cut == at.offset);
        let is_in = |cut: &u64| *cut < self.end || self.begin == self.end;
        let rest = cuts.get(cuts.partition_point(is_before)..).unwrap_or_default();
        rest.get(..rest.partition_point(is_in)).unwrap_or_default()
    }

    fn cursor(&self, at: At) -> Cursor {
        let seen = at.offset.saturating_sub(self.begin);
        Cursor { place: self.read.place, seen, line: at.line }
    }
}

/// The end of a line in its stream.
#[derive(Clone, Copy, Debug)]
struct LineEndAt {
    offset: u64,
    is_cut: bool,
}

impl LineEndAt {
    /// Where the next line begins.
    fn next(self) -> u64 {
        if self.is_cut { self.offset } else { self.offset + 1 }
    }
}

/// The reads of several streams in the order of their places, forwards or backwards.
struct Walk<'a> {
    heads: Vec<Head<'a>>,
}

#[derive(Clone, Copy)]
struct Head<'a> {
    run: u64,
    stream: Stream,
    log: StreamLog<'a>,
    reads: &'a VecDeque<Read>,
    /// The next read forwards, which is the one after the next read backwards.
    index: usize,
    /// Where that read begins.
    begin: u64,
}

impl<'a> Walk<'a> {
    /// Begins at a place: [`Walk::next`] returns reads from there on, [`Walk::next_back`] reads
    /// before it.
    fn new(runs: impl Iterator<Item = RunLog<'a>>, place: LogPlace) -> Walk<'a> {
        let mut heads = Vec::new();
        for run in runs {
            for (stream, log) in [Stream::Stdout, Stream::Stderr].into_iter().zip(run.streams) {
                let Some(reads) = log.reads() else { continue };
                let index = reads.partition_point(|read| read.place < place);
                let begin = log.read_begin(index);
                heads.push(Head { run: run.number, stream, log, reads, index, begin });
            }
        }
        Walk { heads }
    }

    fn next(&mut self) -> Option<Part<'a>> {
        let place = |head: &&mut Head<'a>| head.reads.get(head.index).map(|read| read.place);
        let heads = self.heads.iter_mut().filter(|head| place(head).is_some());
        let head = heads.min_by_key(|head| place(head))?;
        let part = head.part(head.index, head.begin)?;
        head.index += 1;
        head.begin = part.end;
        Some(part)
    }

    fn next_back(&mut self) -> Option<Part<'a>> {
        let last = |head: &Head<'a>| head.reads.get(head.index.checked_sub(1)?).copied();
        let heads = self.heads.iter_mut().filter(|head| last(head).is_some());
        let head = heads.max_by_key(|head| last(head).map(|read| read.place))?;
        let begin = head.begin.saturating_sub(last(head)?.length() as u64);
        let part = head.part(head.index.checked_sub(1)?, begin)?;
        head.index -= 1;
        head.begin = begin;
        Some(part)
    }
}

impl<'a> Head<'a> {
    fn part(&self, index: usize, begin: u64) -> Option<Part<'a>> {
        let (read, kept) = (*self.reads.get(index)?, self.log.kept?);
        let (hidden, hidden_ends) = match index {
            0 => (kept.hidden as u64, kept.hidden_ends),
            _ => (0, 0),
        };
        let (run, stream, log) = (self.run, self.stream, self.log);
        let end = begin + read.length() as u64;
        Some(Part { run, stream, log, read, begin, end, hidden, hidden_ends })
    }
}

impl Cursor {
    /// A cursor at this place.
    pub fn at(place: LogPlace) -> Cursor {
        Cursor { place, seen: 0, line: place.lines() }
    }

    /// A cursor after the line with this number, even if that is not kept.
    pub fn after(line: u64) -> Cursor {
        Cursor { line, ..Cursor::default() }
    }

    /// The place up to which everything was read. A run that ended before it has nothing more.
    pub fn place(&self) -> LogPlace {
        self.place.max(LogPlace::of(self.line))
    }

    /// Moves the cursor to this place.
    pub fn skip_to(&mut self, place: LogPlace) {
        if self.place < place {
            (self.place, self.seen) = (place, 0);
        }
    }

    /// Reads bytes of these runs up to the place `until`, in order. Returns false if the budget, in
    /// bytes, is used up before that.
    pub fn read_bytes<'a>(
        &mut self,
        runs: impl Iterator<Item = RunLog<'a>>,
        filter: LogFilter,
        until: LogPlace,
        mut budget: usize,
        mut take: impl FnMut(&[u8]),
    ) -> bool {
        let mut walk = Walk::new(runs, self.place);
        while let Some(part) = walk.next().filter(|part| part.read.place < until) {
            if budget == 0 {
                return false;
            }
            let at = part.at(self);
            let mut end = part.end;
            if filter.has(&part) {
                end = end.min(at.offset.saturating_add(budget as u64));
                part.log.bytes(at.offset, end).into_iter().for_each(&mut take);
                budget = budget.saturating_sub(end.saturating_sub(at.offset) as usize);
            }
            let before = *self;
            self.go_to(&part, At { offset: end, ..at });
            if end < part.end {
                return false;
            }
            if *self != before {
                budget = budget.saturating_sub(BYTES_A_PART);
            }
        }
        true
    }

    /// Reads lines of these runs up to the place `until`. Lines of other runs are skipped, and
    /// missing ones are reported as lost, whichever run they were of. Returns false if the budget,
    /// in bytes, is used up before that.
    pub fn read_lines<'a>(
        &mut self,
        runs: impl Iterator<Item = RunLog<'a>>,
        filter: LogFilter,
        until: LogPlace,
        mut budget: usize,
        mut take: impl FnMut(LogItem<'_>),
    ) -> bool {
        let mut walk = Walk::new(runs, self.place);
        let mut lost = 0;
        let mut is_all = true;
        while let Some(part) = walk.next().filter(|part| part.read.place < until) {
            let before = *self;
            is_all = budget > 0 && self.read_part(&part, filter, &mut budget, &mut lost, &mut take);
            if !is_all {
                break;
            }
            // The first may have been read already.
            if *self != before {
                budget = budget.saturating_sub(BYTES_A_PART);
            }
        }
        if is_all {
            lost += until.lines().saturating_sub(self.line);
            self.line = self.line.max(until.lines());
        }
        if lost > 0 {
            take(LogItem::Lost(lost));
        }
        is_all
    }

    /// Reads lines of a part. Returns whether all were read.
    fn read_part(
        &mut self,
        part: &Part<'_>,
        filter: LogFilter,
        budget: &mut usize,
        lost: &mut u64,
        take: &mut impl FnMut(LogItem<'_>),
    ) -> bool {
        let end = At { offset: part.end, line: self.line, cut_was_read: true };
        let Some(mut at) = part.after_line(self) else {
            self.go_to(part, end);
            return true;
        };
        *lost += at.line.saturating_sub(self.line);
        if !filter.has(part) {
            let length = usize::try_from(part.end - at.offset).unwrap_or(usize::MAX);
            *budget = budget.saturating_sub(length / BYTES_COUNTED_AS_ONE);
            self.go_to(part, At { line: at.line + part.count_ends(at), ..end });
            return true;
        }
        let mut begin = part.log.line_begin(at.offset, at.cut_was_read);
        let mut joined = Vec::new();
        while let Some((end, next)) = part.next_end(at) {
            match begin.map(|begin| part.log.bytes(begin, end.offset)) {
                None => *lost += 1,
                Some([one, two]) => {
                    if *lost > 0 {
                        take(LogItem::Lost(std::mem::take(lost)));
                    }
                    let text = if two.is_empty() { one } else { join(&mut joined, one, two) };
                    take(LogItem::Line(part.line(text, end, next.line)));
                    *budget = budget.saturating_sub(text.len() + BYTES_A_LINE);
                }
            }
            (at, begin) = (next, Some(next.offset));
            self.go_to(part, at);
            if *budget == 0 {
                return false;
            }
        }
        self.go_to(part, At { line: at.line, ..end });
        true
    }

    fn go_to(&mut self, part: &Part<'_>, at: At) {
        *self = Cursor { line: at.line.max(self.line), ..part.cursor(at) };
    }
}

/// A search for the beginning of the last lines of a log, backwards from its end.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    /// How many ends of lines are still to find.
    left: u64,
    before: LogPlace,
    /// What was written last is not found yet; it may be the beginning of a line that counts.
    may_be_partial: bool,
}

impl Tail {
    /// A search for the last `lines` lines before this place. With `counts_partial`, the beginning
    /// of a line that has not ended counts as a line.
    pub fn new(lines: u64, counts_partial: bool, end: LogEnd) -> Tail {
        let left = lines.saturating_add(1);
        Tail { left, before: end.place(), may_be_partial: counts_partial }
    }

    /// Goes on in these runs; `None` when the budget, in bytes, is used up before it has found
    /// them. If there are fewer lines, they begin at `first`.
    pub fn search<'a>(
        &mut self,
        runs: impl Iterator<Item = RunLog<'a>>,
        filter: LogFilter,
        first: LogPlace,
        mut budget: usize,
    ) -> Option<Cursor> {
        let mut walk = Walk::new(runs, self.before);
        while let Some(part) = walk.next_back() {
            if budget == 0 {
                return None;
            }
            budget = budget.saturating_sub(BYTES_A_PART);
            self.before = part.read.place;
            if !filter.has(&part) {
                continue;
            }
            budget = budget.saturating_sub((part.end - part.begin) as usize);
            let at = part.at(&Cursor::default());
            let count = part.count_ends(at);
            if std::mem::take(&mut self.may_be_partial) && part.ends_partially() {
                self.left = self.left.saturating_sub(1);
            }
            if self.left == 0 {
                let line = at.line + count;
                return Some(part.cursor(At { offset: part.end, line, cut_was_read: true }));
            }
            if count >= self.left {
                let back = usize::try_from(self.left - 1).unwrap_or(usize::MAX);
                let end = part.ends_back(at).nth(back).map_or(part.begin, LineEndAt::next);
                let line = at.line + count - (self.left - 1);
                return Some(part.cursor(At { offset: end, line, cut_was_read: true }));
            }
            self.left -= count;
        }
        Some(Cursor::at(first))
    }
}

fn join<'a>(joined: &'a mut Vec<u8>, one: &[u8], two: &[u8]) -> &'a [u8] {
    joined.clear();
    joined.extend_from_slice(one);
    joined.extend_from_slice(two);
    joined
}

/// The cost of finding a part, and of returning a line, as the time to copy so many bytes.
const BYTES_A_PART: usize = 64;
const BYTES_A_LINE: usize = 32;
/// Counting lines takes less time than returning them.
const BYTES_COUNTED_AS_ONE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Captured, LineEnds};

    const ALL: LogFilter = LogFilter { first_run: 0, last_run: u64::MAX, stream: None };

    /// A job with runs that write at random, and what its log should contain.
    struct World {
        random: u64,
        end: LogEnd,
        now: i64,
        runs: Vec<[Source; 2]>,
        lines: Vec<Wanted>,
    }

    enum Source {
        Live { capture: Capture, ends: LineEnds, text: Vec<u8>, begin: usize },
        Over { captured: Captured, text: Vec<u8> },
    }

    /// A line that was written, and the place of its text in the stream.
    #[derive(Clone, Copy, Debug)]
    struct Wanted {
        run: usize,
        stream: usize,
        from: usize,
        to: usize,
        at: i64,
        is_partial: bool,
    }

    impl World {
        fn new(seed: u64) -> World {
            let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let (end, lines) = (LogEnd::default(), Vec::new());
            World { random, end, now: 1_774_656_000_000, runs: Vec::new(), lines }
        }

        fn below(&mut self, most: usize) -> usize {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random >> 33) as usize % most
        }

        fn step(&mut self) {
            self.now += [0, 0, 0, 1, 50][self.below(5)];
            let count = self.runs.len();
            let (run, stream) = (self.below(count.max(1)), self.below(2));
            match self.below(40) {
                0 => self.start(),
                1 if count > 0 => self.finish(run),
                2 if count > 0 && self.below(4) == 0 => match &mut self.runs[run][stream] {
                    Source::Live { capture, .. } => capture.discard(),
                    Source::Over { captured, .. } => captured.discard(),
                },
                3 if count > 0 => {
                    let limit = [0, 1, 10, 300, 40_000][self.below(5)];
                    if let Source::Live { capture, .. } = &mut self.runs[run][stream] {
                        capture.set_limit(limit);
                    }
                }
                _ if count > 0 => self.write(run, stream),
                _ => self.start(),
            }
        }

        fn start(&mut self) {
            let limit = [0, 5, 60, 1000, 50_000][self.below(5)];
            let source = || Source::Live {
                capture: Capture::new(limit),
                ends: LineEnds::default(),
                text: Vec::new(),
                begin: 0,
            };
            self.runs.push([source(), source()]);
        }

        fn bytes(&mut self) -> Vec<u8> {
            let length = [1, 2, 5, 20, 100, 20_000][self.below(6)];
            let newlines = [0, 3, 10][self.below(3)];
            let byte = |world: &mut World| match world.below(100) < newlines {
                true => b'\n',
                false => b'a' + world.below(26) as u8,
            };
            (0..length).map(|_| byte(self)).collect()
        }

        fn write(&mut self, run: usize, stream: usize) {
            let bytes = self.bytes();
            let at = self.now;
            let Source::Live { capture, ends, text, begin } = &mut self.runs[run][stream] else {
                return;
            };
            capture.append(&bytes, &mut self.end, Wall(at));
            let (mut rest, mut offset) = (bytes.as_slice(), text.len());
            while let Some(end) = ends.find(rest) {
                let (from, to, is_partial) = (*begin, offset + end.at, end.is_cut);
                self.lines.push(Wanted { run, stream, from, to, at, is_partial });
                *begin = offset + end.next();
                offset = *begin;
                rest = &rest[end.next()..];
            }
            text.extend_from_slice(&bytes);
        }

        fn finish(&mut self, run: usize) {
            for stream in [0, 1] {
                let source = &mut self.runs[run][stream];
                if let Source::Over { .. } = source {
                    return;
                }
                let over = Source::Over { captured: Captured::default(), text: Vec::new() };
                let Source::Live { capture, text, begin, .. } = std::mem::replace(source, over)
                else {
                    return;
                };
                if begin < text.len() {
                    let (from, to, at) = (begin, text.len(), self.now);
                    self.lines.push(Wanted { run, stream, from, to, at, is_partial: false });
                }
                let captured = capture.finish(&mut self.end, Wall(self.now));
                self.runs[run][stream] = Source::Over { captured, text };
            }
        }

        fn logs(&self) -> impl Iterator<Item = RunLog<'_>> + Clone {
            self.runs
                .iter()
                .zip(0..)
                .map(|([out, err], number)| RunLog::new(number, out.parts(), err.parts()))
        }

        fn is_kept(&self, line: &Wanted) -> bool {
            let (written, kept) = self.runs[line.run][line.stream].parts();
            let kept = kept.map_or(0, |kept| kept.bytes.len() as u64);
            line.from as u64 >= written - kept
        }

        /// Reads everything from this cursor on, and compares it with what was written.
        fn check(&self, cursor: &mut Cursor, filter: LogFilter, budget: usize) {
            let mut number = cursor.line;
            let until = self.end.place();
            let mut is_all = false;
            while !is_all {
                let runs = self.logs();
                is_all = cursor.read_lines(runs, filter, until, budget, |item| match item {
                    LogItem::Lost(count) => number += count,
                    LogItem::Line(line) => {
                        let wanted = &self.lines[line.number as usize - 1];
                        let text = self.runs[wanted.run][wanted.stream].text();
                        assert_eq!(line.text, &text[wanted.from..wanted.to], "{wanted:?}");
                        let place = (line.run as usize, line.stream as usize, line.at.0);
                        assert_eq!(place, (wanted.run, wanted.stream, wanted.at));
                        assert_eq!(line.is_partial, wanted.is_partial);
                        assert!(line.number > number, "{} after {number}", line.number);
                        if filter == ALL {
                            assert_eq!(line.number, number + 1);
                        }
                        number = line.number;
                    }
                });
            }
            if filter == ALL {
                assert_eq!(number, self.end.place().lines(), "all is told or known to be lost");
            }
            assert_eq!(cursor.line, self.end.place().lines());
        }

        fn kept_after(&self, number: u64, filter: LogFilter) -> Vec<u64> {
            let is_wanted = |line: &Wanted| {
                (filter.first_run..=filter.last_run).contains(&(line.run as u64))
                    && filter.stream.is_none_or(|stream| stream as usize == line.stream)
                    && self.is_kept(line)
            };
            let numbered = (1..).zip(&self.lines).skip(number as usize);
            numbered.filter(|(_, line)| is_wanted(line)).map(|(number, _)| number).collect()
        }

        fn read_all(&self, mut cursor: Cursor, filter: LogFilter) -> Vec<u64> {
            let (mut found, until) = (Vec::new(), self.end.place());
            cursor.read_lines(self.logs(), filter, until, usize::MAX, |item| {
                if let LogItem::Line(line) = item {
                    found.push(line.number);
                }
            });
            found
        }
    }

    impl Source {
        fn parts(&self) -> (u64, Option<&Kept>) {
            match self {
                Source::Live { capture, .. } => capture.parts(),
                Source::Over { captured, .. } => captured.parts(),
            }
        }

        fn text(&self) -> &[u8] {
            match self {
                Source::Live { text, .. } | Source::Over { text, .. } => text,
            }
        }
    }

    fn filter(world: &mut World) -> LogFilter {
        let stream = [None, None, Some(Stream::Stdout), Some(Stream::Stderr)][world.below(4)];
        let first_run = world.below(3) as u64;
        let last_run = [first_run, u64::MAX][world.below(2)];
        LogFilter { first_run, last_run, stream }
    }

    #[test]
    fn readers_miss_nothing_that_is_kept_and_are_told_what_is_not() {
        for seed in 1..60 {
            let mut world = World::new(seed);
            let mut readers = vec![(Cursor::default(), ALL)];
            for _ in 0..world.below(300) {
                world.step();
                assert_eq!(world.end.place().lines(), world.lines.len() as u64);
                let index = world.below(readers.len() * 3);
                let budget = [1, 100, 10_000, usize::MAX][world.below(4)];
                if let Some((cursor, filter)) = readers.get(index).copied() {
                    let mut next = cursor;
                    assert_eq!(
                        world.read_all(cursor, filter),
                        world.kept_after(cursor.line, filter),
                        "seed {seed}"
                    );
                    world.check(&mut next, filter, budget);
                    readers[index].0 = next;
                }
                if world.below(20) == 0 {
                    let line = world.below(world.lines.len() + 1) as u64;
                    let filter = filter(&mut world);
                    readers.push((Cursor::after(line), filter));
                }
            }
        }
    }

    #[test]
    fn bytes_come_in_the_order_in_which_they_were_read() {
        for seed in 1..60 {
            let mut world = World::new(seed);
            world.runs.clear();
            let source = || Source::Live {
                capture: Capture::new(1 << 20),
                ends: LineEnds::default(),
                text: Vec::new(),
                begin: 0,
            };
            world.runs.push([source(), source()]);
            let (mut written, mut read) = (Vec::new(), Vec::<u8>::new());
            let mut cursor = Cursor::default();
            for _ in 0..50 {
                world.now += world.below(2) as i64;
                let stream = world.below(2);
                let before = world.runs[0][stream].text().len();
                world.write(0, stream);
                written.extend_from_slice(&world.runs[0][stream].text()[before..]);
                let budget = [1, 100, 10_000, usize::MAX][world.below(4)];
                let until = world.end.place();
                cursor.read_bytes(world.logs(), ALL, until, budget, |bytes| read.extend(bytes));
            }
            let until = world.end.place();
            cursor.read_bytes(world.logs(), ALL, until, usize::MAX, |bytes| read.extend(bytes));
            assert_eq!(read, written, "seed {seed}");
        }
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        for seed in 1..100 {
            let mut world = World::new(seed);
            for _ in 0..world.below(200) {
                world.step();
            }
            let filter = filter(&mut world);
            let wanted = world.below(8);
            let mut tail = Tail::new(wanted as u64, false, world.end);
            let budget = [1, 100, usize::MAX][world.below(3)];
            let first = LogPlace::default();
            let cursor = loop {
                if let Some(cursor) = tail.search(world.logs(), filter, first, budget) {
                    break cursor;
                }
            };
            let all = world.kept_after(0, filter);
            let found = world.read_all(cursor, filter);
            let missing = all.len().saturating_sub(found.len());
            assert!(found.len() <= wanted, "seed {seed}: {found:?} of {wanted}");
            assert_eq!(found, all[missing..], "seed {seed}");
            // The first of them may have ended in what is kept, and begun before.
            assert!(found.len() + 3 >= wanted.min(all.len()), "seed {seed}: {found:?} of {all:?}");
        }
    }
}
