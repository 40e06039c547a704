//! `GET /job/{id}/logs`: the output of a job, as bytes or line by line, and more as it comes.
//!
//! ```text
//!   begin ─▶ Search ─▶ Read ─▶ over           slice by slice, as the client takes them
//!            (tail)     ▲ │ follow: everything was read
//!                       └─┘ the job has written more
//! ```
//!
//! A reader is a cursor into the one copy of the output that the job keeps. A slow reader may find
//! that output was dropped; line by line it learns how many lines it has lost.

use std::io::Write;

use super::{Pending, Slice, Source, stream};
use crate::api::json::write_text;
use crate::api::{ApiError, query};
use crate::calendar::format_rfc3339;
use crate::http::{Connection, ContentType, Head, Reply, Status};
use crate::job::{Cursor, LogFilter, LogItem, LogPlace, Stream, Tail};
use crate::supervisor::{Job, JobKey, Supervisor, Topic};
use crate::time::{Now, Wall};

/// The output of a job, being read.
#[derive(Debug)]
pub(in crate::api) struct Logs {
    job: JobKey,
    asked: Asked,
    filter: LogFilter,
    progress: Progress,
    /// Without `follow`, where the log ended at the beginning.
    until: Option<LogPlace>,
}

/// The query.
#[derive(Clone, Copy, Debug)]
struct Asked {
    format: Format,
    stream: Option<Stream>,
    follows: bool,
    run: Option<u64>,
    tail: Option<u64>,
    after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The bytes as they were written.
    Bytes,
    /// A JSON object for each line.
    Lines,
}

#[derive(Debug)]
enum Progress {
    /// The beginning of the last lines is still to be found; it is after this place.
    Search(Tail, LogPlace),
    Read(Cursor),
}

impl Asked {
    fn of(head: &Head) -> Result<Asked, ApiError> {
        let format = match query::one_of(head, "format", &["raw", "ndjson"])? {
            Some("ndjson") => Format::Lines,
            Some(_) | None => Format::Bytes,
        };
        let stream = match query::one_of(head, "stream", &["stdout", "stderr"])? {
            Some("stdout") => Some(Stream::Stdout),
            Some(_) => Some(Stream::Stderr),
            None => None,
        };
        let asked = Asked {
            format,
            stream,
            follows: query::flag(head, "follow")?.unwrap_or(false),
            run: query::whole(head, "run", u64::MAX)?,
            tail: query::whole(head, "tail", query::MOST)?,
            after: query::whole(head, "after", u64::MAX)?,
        };
        let bad = |error: &str| Err(ApiError::new(Status::BadRequest, error));
        match asked.after {
            Some(_) if format == Format::Bytes => {
                bad("after: needs format=ndjson, which numbers the lines")
            }
            Some(_) if asked.tail.is_some() => bad("tail: cannot be given with after"),
            Some(_) | None => Ok(asked),
        }
    }
}

impl Logs {
    /// Reads the query, for this job.
    pub(in crate::api) fn of(head: &Head, job: &Job) -> Result<Logs, ApiError> {
        let asked = Asked::of(head)?;
        if let Some(run) = asked.run.filter(|run| job.log_of(*run).is_none()) {
            return Err(not_kept(run, job));
        }
        let newest = job.logged_runs().map_or(0, |(_, last)| last);
        let (first_run, last_run) = match (asked.run, asked.after) {
            (Some(run), _) => (run, run),
            (None, Some(_)) => (0, u64::MAX),
            (None, None) if asked.follows => (newest, u64::MAX),
            (None, None) => (newest, newest),
        };
        let filter = LogFilter { first_run, last_run, stream: asked.stream };
        let progress = Progress::begin(asked, filter, job);
        let until = (!asked.follows).then_some(job.log_end().place());
        Ok(Logs { job: job.key(), asked, filter, progress, until })
    }

    /// Begins to answer.
    pub(in crate::api) fn begin(self, connection: &mut Connection, now: Now) -> Option<Pending> {
        let content_type = match self.asked.format {
            Format::Bytes => ContentType::Bytes,
            Format::Lines => ContentType::Ndjson,
        };
        let reply = Reply { is_live: self.asked.follows, ..Reply::new(Status::Ok, content_type) };
        stream::Stream::begin(reply, Source::Logs(self), connection, now)
    }

    pub(super) fn job(&self) -> JobKey {
        self.job
    }

    pub(super) fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
    ) -> Slice {
        let Some((job, is_gone)) = supervisor.followed(self.job) else { return Slice::Over };
        let Logs { asked, filter, .. } = *self;
        let mut lines = Writer::default();
        let cursor = match &mut self.progress {
            Progress::Read(cursor) => cursor,
            Progress::Search(tail, first) => {
                let runs = job.log_of_run(filter.first_run);
                *budget = 0;
                if let Some(cursor) = tail.search(runs, filter, *first, SEARCHED_BYTES) {
                    self.progress = Progress::Read(cursor);
                }
                return Slice::Part;
            }
        };
        let end = self.until.unwrap_or(job.log_end().place());
        // A single run may have ended, at a known place in the log.
        let run_end = match asked.run.map(|run| job.log_of(run)) {
            None => None,
            // It was dropped, and so was the place of its end: later output may be from it.
            Some(None) => {
                if asked.format == Format::Lines {
                    let nothing = std::iter::empty();
                    cursor.read_lines(nothing, filter, end, 0, |item| lines.write(out, item));
                }
                return Slice::Over;
            }
            Some(Some((_, end))) => end,
        };
        let end = run_end.map_or(end, |run_end| run_end.min(end));
        *budget = budget.saturating_sub(SLICE_BYTES);
        let (runs, until) = job.logs_from(cursor.place());
        let until = until.min(end);
        let is_all = match asked.format {
            Format::Bytes => cursor.read_bytes(runs, filter, until, SLICE_BYTES, |bytes| {
                out.extend_from_slice(bytes);
            }),
            Format::Lines => cursor.read_lines(runs, filter, until, SLICE_BYTES, |item| {
                lines.write(out, item);
            }),
        };
        if !is_all {
            return Slice::Part;
        }
        if until < end {
            cursor.skip_to(until);
            return Slice::Part;
        }
        if is_gone || run_end.is_some() || !asked.follows {
            return Slice::Over;
        }
        Slice::Idle { topic: Topic::Output(self.job), until: None }
    }
}

impl Progress {
    fn begin(asked: Asked, filter: LogFilter, job: &Job) -> Progress {
        let end = job.log_end();
        let first = job.log_of(filter.first_run).map_or(end.place(), |(first, _)| first);
        match (asked.after, asked.tail) {
            // A line with a higher number than any is from another log, such as that of an earlier
            // k1s.
            (Some(line), _) if line > end.place().lines() => Progress::Read(Cursor::after(0)),
            (Some(line), _) => Progress::Read(Cursor::after(line)),
            (None, None) => Progress::Read(Cursor::at(first)),
            (None, Some(lines)) => {
                let is_bytes = asked.format == Format::Bytes;
                Progress::Search(Tail::new(lines, is_bytes, end), first)
            }
        }
    }
}

/// Writes lines. Most have all in common with the one before but their number and their text.
#[derive(Debug, Default)]
struct Writer {
    of: Option<(Wall, u64, Stream)>,
    /// What stands between number and text.
    middle: String,
}

impl Writer {
    fn write(&mut self, out: &mut Vec<u8>, item: LogItem<'_>) {
        let line = match item {
            LogItem::Line(line) => line,
            LogItem::Lost(count) => {
                // Writing to memory cannot fail.
                let _ = writeln!(out, "{{\"lost\":{count}}}");
                return;
            }
        };
        let (at, run, stream) = (line.at, line.run, line.stream);
        if self.of != Some((at, run, stream)) {
            self.of = Some((at, run, stream));
            let (at, stream) = (format_rfc3339(at), name(stream));
            self.middle =
                format!(",\"time\":\"{at}\",\"run\":{run},\"stream\":\"{stream}\",\"line\":\"");
        }
        let _ = write!(out, "{{\"seq\":{}", line.number);
        out.extend_from_slice(self.middle.as_bytes());
        write_text(out, line.text);
        let end: &[u8] = if line.is_partial { b"\",\"partial\":true}\n" } else { b"\"}\n" };
        out.extend_from_slice(end);
    }
}

fn not_kept(run: u64, job: &Job) -> ApiError {
    let kept = match job.logged_runs() {
        None => "it has not run yet".to_owned(),
        Some((first, last)) if first == last => format!("run {first} is"),
        Some((first, last)) => format!("those of {first} to {last} are"),
    };
    let error = format!("The output of run {run} is not kept; {kept}");
    ApiError::new(Status::NotFound, error)
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// How much output is read at a time.
const SLICE_BYTES: usize = 16 * 1024;
/// How much output is searched at a time for the last lines, which takes 0.1 ms.
const SEARCHED_BYTES: usize = 1 << 20;
