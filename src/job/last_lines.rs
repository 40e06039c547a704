//! The last lines that a run wrote, for those who tell of its failure.

use std::collections::VecDeque;
use std::iter::once;
use std::rc::Rc;

use super::{LogEnd, LogFilter, LogItem, RunLog, RunRecord, Tail};

/// The last lines of a run, of both streams in the order in which they ended: at most
/// [`LastLines::MOST`] in at most [`LastLines::MOST_BYTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLines(Rc<str>);

impl LastLines {
    /// How many lines are kept.
    pub const MOST: usize = 20;
    /// How many bytes are kept, newlines included.
    pub const MOST_BYTES: usize = 2048;

    /// The last lines of a run that is over, whose job's log ends there.
    pub fn of(record: &RunRecord, log_end: LogEnd) -> LastLines {
        let filter = LogFilter { first_run: 0, last_run: u64::MAX, stream: None };
        let runs = || once(RunLog::of_record(record));
        // Fewer are found sooner, where lines are long or were written bit by bit.
        let begin = [LastLines::MOST as u64, 4, 1].into_iter().find_map(|lines| {
            let mut tail = Tail::new(lines, false, log_end);
            tail.search(runs(), filter, record.log_begin, MOST_SEARCHED_BYTES)
        });
        let (Some(mut cursor), mut kept) = (begin, Kept::default()) else {
            return LastLines::default();
        };
        // No more is read than was searched.
        cursor.read_lines(runs(), filter, log_end.place(), usize::MAX, |item| match item {
            LogItem::Line(line) => kept.add(line.text),
            LogItem::Lost(_) => {}
        });
        LastLines(String::from_iter(kept.lines).into())
    }

    /// The lines, without their newlines, oldest first. What is not UTF-8 is U+FFFD; of one that
    /// is too long, only its end is there, behind `…`.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines()
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> LastLines {
        LastLines(text.into())
    }
}

/// Lines, each with its newline.
#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Kept {
    fn add(&mut self, line: &[u8]) {
        let newest = line.len().saturating_sub(LastLines::MOST_BYTES);
        let text = String::from_utf8_lossy(line.get(newest..).unwrap_or_default());
        // A replacement may be longer than what it stands for.
        let surplus = (text.len() + ELLIPSIS.len() + 1).saturating_sub(LastLines::MOST_BYTES);
        let is_cut = newest > 0 || text.len() >= LastLines::MOST_BYTES;
        let line = match text.get(text.ceil_char_boundary(surplus)..) {
            Some(end) if is_cut => format!("{ELLIPSIS}{end}\n"),
            Some(_) | None => format!("{text}\n"),
        };
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > LastLines::MOST_BYTES || self.lines.len() > LastLines::MOST {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }
}

const ELLIPSIS: &str = "…";
/// How much is searched for them.
const MOST_SEARCHED_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{Capture, ExitStatus, Reason, RunEnd, Stream, Trigger};
    use crate::time::Wall;

    fn last_lines(writes: &[(Stream, &[u8])], limit: usize) -> Vec<String> {
        let (mut log_end, at) = (LogEnd::default(), Wall(1_774_656_000_000));
        let mut captures = [Capture::new(limit), Capture::new(limit)];
        for (stream, bytes) in writes {
            captures[*stream as usize].append(bytes, &mut log_end, at);
        }
        let [stdout, stderr] = captures.map(|capture| capture.finish(&mut log_end, at));
        let record = RunRecord {
            number: 1,
            trigger: Trigger::Created,
            end: RunEnd::Process(ExitStatus::Code(1)),
            reason: Reason::Exited,
            success: false,
            started_at: at,
            finished_at: at,
            duration: Duration::ZERO,
            log_begin: LogEnd::default().place(),
            log_end: log_end.place(),
            beside: 0,
            stdout,
            stderr,
        };
        let last = LastLines::of(&record, log_end);
        assert!(last.size() <= LastLines::MOST_BYTES, "{}", last.size());
        assert!(last.lines().count() <= LastLines::MOST);
        last.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(written: &[u8], wanted: &[&str]) {
        assert_eq!(last_lines(&[(Stream::Stderr, written)], 1 << 20), wanted);
    }

    #[test]
    fn the_last_lines_are_there_as_they_were_written() {
        check(b"", &[]);
        check(b"a", &["a"]);
        check(b"a\n\nb\r\n\tc", &["a", "", "b", "\tc"]);
        check(b"a\xff\n", &["a\u{fffd}"]);
        let numbers: Vec<String> = (1..=30).map(|number| number.to_string()).collect();
        let last: Vec<&str> = numbers.iter().skip(10).map(String::as_str).collect();
        check(numbers.join("\n").as_bytes(), &last);
        check((numbers.join("\n") + "\n").as_bytes(), &last);
    }

    #[test]
    fn both_streams_are_in_the_order_in_which_their_lines_ended() {
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let writes: [(Stream, &[u8]); 5] =
            [(out, b"1\n"), (err, b"2\n3"), (out, b"4\n"), (err, b"\n"), (out, b"5")];
        assert_eq!(last_lines(&writes, 100), ["1", "2", "4", "3", "5"]);
    }

    #[test]
    fn there_are_no_more_bytes_than_are_told() {
        let long = "x".repeat(600);
        check(
            format!("{long}1\n{long}2\n{long}3\n{long}4\n").as_bytes(),
            &[&format!("{long}2"), &format!("{long}3"), &format!("{long}4")],
        );
        let fits = "x".repeat(2047);
        check(fits.as_bytes(), &[&fits]);
        let end = format!("…{}", "x".repeat(2044));
        check("x".repeat(2048).as_bytes(), &[&end]);
        check("x".repeat(5000).as_bytes(), &[&end]);
        check("\u{20ac}".repeat(900).as_bytes(), &[&format!("…{}", "\u{20ac}".repeat(681))]);
        check(&[0xff; 1000], &[&format!("…{}", "\u{fffd}".repeat(681))]);
    }

    #[test]
    fn little_is_searched_where_lines_are_long_or_of_many_reads() {
        let long = [vec![b'x'; 300_000], b"\nlast".to_vec()].concat();
        check(&long, &["last"]);
        let bits: Vec<(Stream, &[u8])> = [b'x'; 10_000]
            .iter()
            .enumerate()
            .map(|(index, byte)| {
                let stream = if index % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
                (stream, std::slice::from_ref(byte))
            })
            .collect();
        assert_eq!(last_lines(&bits, 1 << 20).len(), 1);
    }

    #[test]
    fn a_line_whose_beginning_is_not_kept_is_left_out() {
        assert_eq!(last_lines(&[(Stream::Stdout, b"first\nsecond\n")], 9), ["second"]);
        assert_eq!(last_lines(&[(Stream::Stdout, b"first\n")], 0), [""; 0]);
    }
}
