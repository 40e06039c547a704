//! Writes the object of one job, slice by slice.
//!
//! ```text
//!   begin ─▶ state ─▶ specification ─▶ ( a result ─▶ stdout ─▶ stderr ─▶ counts )… ─▶ ]}
//!                     └ a slice may end in it, after a result, or in its output ┘
//! ```
//!
//! A run may have as much output as the whole budget, and there may be a hundred thousand runs. So
//! they are neither copied at once nor kept for slow readers. Each slice looks up what is still
//! there, and together the slices are valid JSON that is true:
//!
//! - The fields of the job are those of the beginning.
//! - The results are those of the beginning, so that the object of a job that restarts all the time
//!   ends. A result that was dropped before its turn is left out, and so are all of a removed job.
//! - Output that is dropped while it is written ends there, and is marked as truncated. A slice
//!   never splits a character, so that the slices make the same text as the whole.

use super::json::{TEXT_BYTES, close_object, open_object, slice_of_text, write_text};
use super::specification::{Specification, room_after};
use super::view::{AwaitedView, JobView, OutputView, ResultView, Shown};
use crate::job::{Captured, RunRecord, Stream};
use crate::supervisor::{Job, JobKey, Supervisor};
use crate::time::Now;

/// What is still to be written of a job's object.
#[derive(Debug)]
pub(super) struct Object {
    job: JobKey,
    has_output: bool,
    /// What is still to be written of the specification.
    specification: Option<Specification>,
    /// The newest result at the beginning, if it is shown.
    last: Option<Mark>,
    /// The result that was written last, or whose output is being written; before the first, the
    /// newest result that is not shown.
    current: Option<Mark>,
    is_first: bool,
    output: Option<Output>,
}

/// A result, and its index when it was last found.
#[derive(Debug)]
struct Mark {
    index: usize,
    run: u64,
}

/// The output of a result that is being written.
#[derive(Debug)]
struct Output {
    stream: Stream,
    stdout: Text,
    stderr: Text,
}

/// The output of a stream, in bytes.
#[derive(Debug)]
struct Text {
    /// How much the run wrote.
    written: u64,
    /// How much of the kept output was written.
    shown: usize,
}

/// Whether the object is so small that it is written at once. It may be longer than this estimates,
/// because bytes that JSON escapes take up to six.
pub(super) fn is_small(job: &Job, shown: &Shown) -> bool {
    let Some(mut room) = room_after(job.spec(), SMALL_BYTES) else { return false };
    job.results().skip(shown.left_out(job)).all(|record| {
        let output = record.stdout.bytes().len().saturating_add(record.stderr.bytes().len());
        let size = RESULT_BYTES.saturating_add(if shown.output { output } else { 0 });
        let left = room.checked_sub(size);
        room = left.unwrap_or(0);
        left.is_some()
    })
}

impl Object {
    /// Begins an object, and writes until `out` is `until` bytes long, or a little longer. Returns
    /// what is still to be written.
    pub(super) fn begin(
        supervisor: &Supervisor,
        job: &Job,
        shown: &Shown,
        out: &mut Vec<u8>,
        until: usize,
        now: Now,
    ) -> Option<Object> {
        let message = supervisor.message_to(&shown.visible, job, now);
        let waiting_for = supervisor
            .waiting_for(job)
            .filter(|(id, _)| shown.visible.has(id.as_str()))
            .map(|(id, condition)| AwaitedView { job: id.as_str(), condition: condition.name() });
        let waiting_for = waiting_for.collect();
        open_object(out, &JobView { job, message: &message, waiting_for, now });
        let left_out = shown.left_out(job);
        let before = |index: usize| {
            let index = index.checked_sub(1)?;
            Some(Mark::of(index, job.result_at(index)?))
        };
        let (current, last) = (before(left_out), before(job.results().len()));
        let last = last.filter(|last| last.index >= left_out);
        let specification = Some(Specification::new(job.shared_spec()));
        let (has_output, is_first, output) = (shown.output, true, None);
        let mut object =
            Object { job: job.key(), has_output, specification, last, current, is_first, output };
        (!object.write(Some(job), out, until)).then_some(object)
    }

    /// Goes on until `out` is `until` bytes long, or a little longer. Returns whether the object is
    /// complete.
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        until: usize,
    ) -> bool {
        self.write(supervisor.job_of(self.job), out, until)
    }

    fn write(&mut self, job: Option<&Job>, out: &mut Vec<u8>, until: usize) -> bool {
        while out.len() < until {
            if let Some(specification) = &mut self.specification {
                if specification.write(out, until) {
                    self.specification = None;
                    out.extend_from_slice(b",\"results\":[");
                }
            } else if self.output.is_some() {
                self.write_output(job, out);
            } else if let Some((mark, record)) = job.and_then(|job| self.next_result(job)) {
                self.begin_result(mark, record, out);
            } else {
                out.extend_from_slice(b"]}");
                return true;
            }
        }
        false
    }

    /// The result after the current one. If that was dropped, so were all before it.
    fn next_result<'a>(&mut self, job: &'a Job) -> Option<(Mark, &'a RunRecord)> {
        let last = self.last.as_mut()?.find(job)?;
        let current = self.current.as_mut().and_then(|mark| mark.find(job));
        let index = current.map_or(0, |index| index + 1);
        let record = job.result_at(index).filter(|_| index <= last)?;
        Some((Mark::of(index, record), record))
    }

    fn begin_result(&mut self, mark: Mark, record: &RunRecord, out: &mut Vec<u8>) {
        self.current = Some(mark);
        if !std::mem::replace(&mut self.is_first, false) {
            out.push(b',');
        }
        open_object(out, &ResultView::of(record));
        if !self.has_output {
            return close_object(
                out,
                &OutputView {
                    stdout_bytes: record.stdout.written(),
                    stderr_bytes: record.stderr.written(),
                    stdout_truncated: record.stdout.is_truncated(),
                    stderr_truncated: record.stderr.is_truncated(),
                },
            );
        }
        out.extend_from_slice(b",\"stdout\":\"");
        self.output = Some(Output {
            stream: Stream::Stdout,
            stdout: Text::of(&record.stdout),
            stderr: Text::of(&record.stderr),
        });
    }

    /// Writes a part of the output of the current result, and what follows it.
    fn write_output(&mut self, job: Option<&Job>, out: &mut Vec<u8>) {
        let record =
            job.zip(self.current.as_mut()).and_then(|(job, mark)| job.result_at(mark.find(job)?));
        let Some(output) = &mut self.output else { return };
        match output.stream {
            Stream::Stdout => {
                if output.stdout.write(record.map(|record| &record.stdout), out) {
                    out.extend_from_slice(b"\",\"stderr\":\"");
                    output.stream = Stream::Stderr;
                }
            }
            Stream::Stderr => {
                if output.stderr.write(record.map(|record| &record.stderr), out) {
                    out.push(b'"');
                    close_object(out, &output.counts());
                    self.output = None;
                }
            }
        }
    }
}

impl Mark {
    fn of(index: usize, record: &RunRecord) -> Mark {
        Mark { index, run: record.number }
    }

    /// The index of the result now: it only decreases, as results before it are dropped. The number
    /// of the run does not help, because runs that overlap end in any order.
    fn find(&mut self, job: &Job) -> Option<usize> {
        let is_it =
            |index: &usize| job.result_at(*index).is_some_and(|record| record.number == self.run);
        self.index = (0..=self.index).rev().find(is_it)?;
        Some(self.index)
    }
}

impl Output {
    fn counts(&self) -> OutputView {
        OutputView {
            stdout_bytes: self.stdout.written,
            stderr_bytes: self.stderr.written,
            stdout_truncated: self.stdout.is_truncated(),
            stderr_truncated: self.stderr.is_truncated(),
        }
    }
}

impl Text {
    fn of(captured: &Captured) -> Text {
        Text { written: captured.written(), shown: 0 }
    }

    fn is_truncated(&self) -> bool {
        self.written > self.shown as u64
    }

    /// Writes more of the output, if it is still kept; returns whether that was all.
    fn write(&mut self, captured: Option<&Captured>, out: &mut Vec<u8>) -> bool {
        let kept = captured.map(Captured::bytes).unwrap_or_default();
        let rest = kept.get(self.shown..).unwrap_or_default();
        let slice = slice_of_text(rest, TEXT_BYTES);
        write_text(out, slice);
        self.shown += slice.len();
        slice.len() == rest.len()
    }
}

/// The size that most answers do not exceed.
const SMALL_BYTES: usize = 16 * 1024;

/// The approximate size of the fields of a result.
const RESULT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::job::{self, ExitStatus, JobId, Pid, Spelling};
    use crate::supervisor::{Action, RunKey, Settings};
    use crate::time::{Mono, Wall};

    #[test]
    fn slices_of_an_object_make_the_bytes_that_the_whole_would() {
        let mut world = World::new(100, 1 << 30);
        for size in [0, 1, TEXT_BYTES - 1, TEXT_BYTES, TEXT_BYTES + 1, 3 * TEXT_BYTES] {
            world.result(&b"\xe2\x82\xac".repeat(size / 3 + 1)[..size], &vec![0xff; size / 2]);
            world.result(b"", &vec![b'"'; size]);
        }
        for shown in [Shown::everything(), without_output(), newest(3), newest(0), newest(99)] {
            let mut whole = Vec::new();
            let left = Object::begin(
                &world.supervisor,
                world.job(),
                &shown,
                &mut whole,
                usize::MAX,
                world.now,
            );
            assert!(left.is_none());
            for length in [1, 100, 5000, 16_384, 100_000] {
                let slices = world.slices(&shown, length, |_, _| ());
                assert_eq!(slices.concat(), whole, "by {length}");
                assert!(slices.iter().all(|slice| slice.len() < length + 6 * TEXT_BYTES + 1000));
            }
        }
    }

    #[test]
    fn an_object_has_the_results_of_runs_in_the_order_in_which_they_ended() {
        let mut world = World::new(100, 1 << 30);
        let (first, second) = (world.start(), world.start());
        world.end(second, b"second", b"");
        world.end(first, b"first", b"err");
        let object = world.object(1, |_, _| ());
        let shows = |index: usize, name: &str| object["results"][index][name].clone();
        assert_eq!([shows(0, "run"), shows(1, "run")], [2, 1]);
        assert_eq!([shows(0, "stdout"), shows(1, "stdout")], ["second", "first"]);
        assert_eq!([shows(0, "stderr"), shows(1, "stderr")], ["", "err"]);
    }

    /// Whatever happens to the job before any slice, together they are an object that is true: some
    /// of the results at the beginning, and as much of each output as it says.
    fn check_between_slices(what: &str, happens: impl Fn(&mut World)) {
        for length in [1, 3000] {
            let count = World::with_results().slices(&Shown::everything(), length, |_, _| ()).len();
            for moment in 1..count {
                let mut world = World::with_results();
                let object = world.object(length, |world, slice| {
                    if slice == moment {
                        happens(world);
                    }
                });
                let results = object["results"].as_array().unwrap();
                let runs: Vec<_> = results.iter().map(|it| it["run"].as_u64().unwrap()).collect();
                let context = format!("{what} before slice {moment} by {length}: {runs:?}");
                assert!(runs.is_sorted_by(|one, next| one < next), "{context}");
                assert!(runs.iter().all(|run| (1..=RESULTS).contains(run)), "{context}");
                for result in results {
                    check_result(result, &context);
                }
            }
        }
    }

    fn check_result(result: &Value, context: &str) {
        let run = result["run"].as_u64().unwrap() as usize;
        for (stream, byte, size) in [("stdout", "o", stdout_size(run)), ("stderr", "e", 10)] {
            let shown = result[stream].as_str().unwrap();
            assert!(byte.repeat(size).starts_with(shown), "{context}");
            assert_eq!(result[format!("{stream}Bytes")], size, "{context}");
            assert_eq!(result[format!("{stream}Truncated")], shown.len() < size, "{context}");
        }
    }

    #[test]
    fn whatever_happens_between_slices_they_are_a_true_object() {
        let of = |fields: Value| move |world: &mut World| world.put(fields.clone());
        check_between_slices("nothing", |_| ());
        check_between_slices("it is removed", World::remove);
        check_between_slices("it is made anew", |world| {
            world.remove();
            world.put(json!({}));
            world.result(b"another", b"");
        });
        check_between_slices("it is replaced", of(json!({"arguments": ["other"]})));
        check_between_slices("no result is kept", of(json!({"output": {"historyLimit": 0}})));
        check_between_slices("two are kept", of(json!({"output": {"historyLimit": 2}})));
        check_between_slices("one more is kept, and all else dropped", |world| {
            world.put(json!({"output": {"historyLimit": 1}}));
            world.result(b"new", b"");
        });
        check_between_slices("a run ends", |world| world.result(b"new", b"new"));
        check_between_slices("many runs end", |world| {
            (0..20).for_each(|_| world.result(b"new", b"new"));
        });
        check_between_slices("output is dropped to make room", |world| {
            world.result(&vec![b'n'; World::BUDGET - 20_000], b"");
        });
        check_between_slices("all output is dropped to make room", |world| {
            world.result(&vec![b'n'; World::BUDGET], b"");
        });
    }

    #[test]
    fn what_is_dropped_before_its_turn_is_left_out_and_what_comes_later_too() {
        let mut world = World::with_results();
        let specification = world.slices_of_specification();
        let object = world.object(1, |world, slice| {
            if slice == specification + 2 {
                world.put(json!({"output": {"historyLimit": 3}}));
                world.result(b"new", b"");
            }
        });
        let runs: Vec<_> =
            object["results"].as_array().unwrap().iter().map(|it| &it["run"]).collect();
        assert_eq!(runs, [1, 4, 5], "the first was begun");
        let object = world.object(1, |world, slice| {
            if slice == specification + 2 {
                world.remove();
            }
        });
        let results = object["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["run"]), (1, &json!(4)));
    }

    #[test]
    fn output_that_is_dropped_while_it_is_written_ends_there() {
        let mut world = World::with_results();
        let specification = world.slices_of_specification();
        let object = world.object(1, |world, slice| {
            if slice == specification + 4 {
                world.result(&vec![b'n'; World::BUDGET], b"");
            }
        });
        let result = &object["results"][0];
        assert_eq!(result["stdout"].as_str().unwrap().len(), 2 * TEXT_BYTES);
        assert_eq!(
            (&result["stdoutBytes"], &result["stdoutTruncated"]),
            (&json!(20_000), &json!(true))
        );
        assert_eq!((&result["stderr"], &result["stderrTruncated"]), (&json!(""), &json!(true)));
    }

    #[test]
    fn an_object_is_small_by_what_it_shows() {
        let without = without_output();
        let mut world = World::new(1000, 1 << 30);
        world.result(&[b'x'; 14_000], b"");
        assert!(is_small(world.job(), &Shown::everything()));
        world.result(b"", &[b'x'; 1000]);
        assert!(!is_small(world.job(), &Shown::everything()));
        assert!(is_small(world.job(), &without));
        (0..100).for_each(|_| world.result(b"", b""));
        assert!(!is_small(world.job(), &without));
        assert!(is_small(world.job(), &newest(2)), "the large ones are left out");
    }

    /// The object would have begun after a result that was dropped: the newest one that is not
    /// shown.
    #[test]
    fn the_newest_results_are_those_of_the_beginning() {
        let runs = |count: usize, happens: fn(&mut World)| -> Vec<u64> {
            let mut world = World::with_results();
            let slices = world.slices(&newest(count), 1, |world, slice| {
                if slice == 1 {
                    happens(world);
                }
            });
            let object: Value = serde_json::from_slice(&slices.concat()).unwrap();
            let results = object["results"].as_array().unwrap();
            results.iter().map(|it| it["run"].as_u64().unwrap()).collect()
        };
        let none: [u64; 0] = [];
        assert_eq!(runs(0, |world| world.result(b"new", b"")), none);
        assert_eq!(runs(2, |_| ()), [4, 5]);
        assert_eq!(runs(5, |_| ()), [1, 2, 3, 4, 5]);
        assert_eq!(runs(usize::MAX, |_| ()), [1, 2, 3, 4, 5]);
        assert_eq!(runs(2, |world| world.result(b"new", b"")), [4, 5], "and none that is newer");
        let few = |world: &mut World| world.put(json!({"output": {"historyLimit": 2}}));
        assert_eq!(runs(2, few), [4, 5]);
        assert_eq!(runs(3, few), [4, 5], "what is dropped before its turn is left out");
        assert_eq!(runs(2, World::remove), none);
    }

    fn without_output() -> Shown {
        Shown { output: false, ..Shown::everything() }
    }

    fn newest(results: usize) -> Shown {
        Shown { results, ..Shown::everything() }
    }

    /// A supervisor with one job, `x`, whose runs can overlap.
    struct World {
        supervisor: Supervisor,
        now: Now,
        runs: i32,
    }

    impl World {
        const BUDGET: usize = 100_000;

        fn new(history: usize, output_memory: usize) -> World {
            let now = Now { mono: Mono(1_000), wall: Wall(1_774_656_000_000) };
            let settings = Settings {
                instance: "k".into(),
                job_limit: 2,
                output_memory,
                shutdown_timeout: Duration::from_secs(9),
                main: None,
            };
            let mut world = World { supervisor: Supervisor::new(settings, now), now, runs: 0 };
            world.put(json!({"output": {"historyLimit": history, "limitBytes": 1 << 20}}));
            world
        }

        fn with_results() -> World {
            let mut world = World::new(RESULTS as usize, World::BUDGET);
            for run in 1..=RESULTS as usize {
                world.result(&vec![b'o'; stdout_size(run)], &[b'e'; 10]);
            }
            world
        }

        fn job(&self) -> &Job {
            self.supervisor.job("x").unwrap()
        }

        fn put(&mut self, fields: Value) {
            let mut payload = json!({
                "type": "cron", "executable": "x", "scheduleInSeconds": 1_000_000,
                "concurrencyPolicy": "allow",
                "output": {"historyLimit": RESULTS, "limitBytes": 1 << 20},
            });
            payload.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let payload = serde_json::from_value(payload).unwrap();
            let spec = job::parse(payload, "/srv", Spelling::Camel).unwrap();
            self.supervisor.put(JobId::parse("x").unwrap(), spec, self.now).unwrap();
        }

        fn remove(&mut self) {
            self.supervisor.remove("x", self.now).unwrap();
            self.settle();
        }

        fn start(&mut self) -> (RunKey, Pid) {
            self.supervisor.run("x", self.now).unwrap();
            let launch = self.supervisor.poll_spawn().unwrap();
            let run = launch.run;
            self.runs += 1;
            self.supervisor.handle_spawned(launch, Pid(self.runs), self.now);
            (run, Pid(self.runs))
        }

        fn end(&mut self, (run, pid): (RunKey, Pid), stdout: &[u8], stderr: &[u8]) {
            self.supervisor.handle_output(run, Stream::Stdout, stdout, self.now);
            self.supervisor.handle_output(run, Stream::Stderr, stderr, self.now);
            self.supervisor.handle_exit(pid, ExitStatus::Code(0), false, self.now);
            self.settle();
        }

        fn settle(&mut self) {
            while let Some(action) = self.supervisor.poll_action() {
                if let Action::Survey { run, .. } = action {
                    self.supervisor.handle_survey(run, crate::supervisor::Left::Nothing, self.now);
                }
            }
        }

        fn result(&mut self, stdout: &[u8], stderr: &[u8]) {
            let run = self.start();
            self.end(run, stdout, stderr);
        }

        /// The slices of the job's object, each of this length or a little longer. `before` is
        /// called with the number of the next slice, from 1.
        fn slices(
            &mut self,
            shown: &Shown,
            length: usize,
            before: impl Fn(&mut World, usize),
        ) -> Vec<Vec<u8>> {
            let mut slices = vec![Vec::new()];
            let mut left = Object::begin(
                &self.supervisor,
                self.job(),
                shown,
                &mut slices[0],
                length,
                self.now,
            );
            while let Some(object) = &mut left {
                before(self, slices.len());
                let mut slice = Vec::new();
                if object.go_on(&self.supervisor, &mut slice, length) {
                    left = None;
                }
                slices.push(slice);
            }
            slices
        }

        /// How many slices of the shortest length come before the results.
        fn slices_of_specification(&self) -> usize {
            let mut specification = Specification::new(self.job().shared_spec());
            1 + (0..).take_while(|_| !specification.write(&mut Vec::new(), 1)).count()
        }

        fn object(&mut self, length: usize, before: impl Fn(&mut World, usize)) -> Value {
            let text = self.slices(&Shown::everything(), length, before).concat();
            serde_json::from_slice(&text)
                .unwrap_or_else(|error| unreachable!("{error}: {}", String::from_utf8_lossy(&text)))
        }
    }

    fn stdout_size(run: usize) -> usize {
        [0, 20_000, 3, 0, 9000, 17_000][run]
    }

    const RESULTS: u64 = 5;
}
