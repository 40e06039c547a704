//! Tests of log files over simulated time.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::job::{self, Spelling, Value};
use crate::supervisor::{Settings, Supervisor};

/// A directory, jobs that write to it, and their log files.
struct Place {
    path: PathBuf,
    supervisor: Supervisor,
    files: LogFiles,
    now: Now,
}

impl Place {
    fn new(name: &str) -> Place {
        let base = fs::canonicalize(std::env::temp_dir()).unwrap();
        let path = base.join(format!("k1s-logfiles-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let settings = Settings { job_limit: 1000, ..Settings::for_tests() };
        let now = Now { mono: Mono(1_000_000), ..Now::default() };
        let supervisor = Supervisor::new(settings, now);
        Place { path, supervisor, files: LogFiles::default(), now }
    }

    /// All files together may take so many bytes.
    fn limited(name: &str, bytes: u64) -> Place {
        let mut place = Place::new(name);
        place.files = LogFiles::with_limit(Some(bytes));
        place
    }

    /// The sizes of all files together.
    fn used(&self) -> u64 {
        let entries = fs::read_dir(&self.path).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    /// The log file of the first run of a new job.
    fn attach(&mut self, id: &str, file: &[(&str, Value)]) -> FileKey {
        let text = |text: &str| Value::String(text.to_owned());
        let table = |entries: &[(&str, Value)]| {
            let entries = entries.iter();
            Value::Table(entries.map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
        };
        let output = table(&[("file", table(file))]);
        let fields = [("type", text("one-off")), ("executable", text("x")), ("output", output)];
        let directory = self.path.to_str().unwrap();
        let spec = job::parse(table(&fields), directory, Spelling::Camel).unwrap();
        let id = JobId::parse(id).unwrap();
        self.supervisor.create(id.clone(), spec.clone(), self.now).unwrap();
        let run = self.supervisor.poll_spawn().unwrap().run;
        self.files.attach(run, &id, &spec).unwrap()
    }

    fn write(&mut self, key: FileKey, text: &str) {
        self.files.write(key, text.as_bytes(), self.now);
    }

    fn after(&mut self, seconds: u64) {
        self.now.mono = self.now.mono + Duration::from_secs(seconds);
        self.files.go_on(self.now);
    }

    /// In how many seconds the next try is.
    fn next_try(&self) -> Option<u64> {
        self.files.poll_timeout().map(|at| at.since(self.now.mono).as_secs())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    fn events(&mut self) -> Vec<LogFileEvent> {
        std::iter::from_fn(|| self.files.poll_event()).map(|(_, _, event)| event).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn path(path: &str) -> (&'static str, Value) {
    ("path", Value::String(path.to_owned()))
}

fn failed() -> LogFileEvent {
    let error = "its directory cannot be opened: No such file or directory (ENOENT)";
    LogFileEvent::Failed { error: error.to_owned() }
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again_and_gets_what_waited() {
    let mut place = Place::new("again");
    let key = place.attach("a", &[path("logs/{job}-{run}")]);
    place.write(key, "one\n");
    assert_eq!((place.events(), place.files.failing()), (vec![failed()], 1));
    for delay in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(place.next_try(), Some(delay));
        place.write(key, "more\n");
        place.after(delay);
    }
    fs::create_dir(place.path.join("logs")).unwrap();
    place.write(key, "last\n");
    assert_eq!(place.read("logs/a-1"), "", "it is not tried at each write");
    place.after(30);
    assert_eq!(place.read("logs/a-1"), format!("one\n{}last\n", "more\n".repeat(7)));
    assert_eq!(place.events(), [LogFileEvent::Recovered { missing: 0 }]);
    assert_eq!(place.next_try(), None);
    place.write(key, "now\n");
    assert!(place.read("logs/a-1").ends_with("last\nnow\n"));
    fs::remove_dir_all(place.path.join("logs")).unwrap();
    place.write(key, "gone\n");
    assert_eq!((place.events(), place.next_try()), (vec![failed()], Some(1)), "anew from 1 s");
}

#[test]
fn what_is_too_much_is_missing_and_said() {
    let mut place = Place::new("missing");
    let key = place.attach("a", &[path("logs/a")]);
    let line = format!("{}\n", "x".repeat(1023));
    for _ in 0..100 {
        place.write(key, &line);
    }
    fs::create_dir(place.path.join("logs")).unwrap();
    place.after(1);
    place.write(key, "after\n");
    let missing = 36 * 1024;
    assert_eq!(place.events(), [failed(), LogFileEvent::Recovered { missing }]);
    assert_eq!(place.read("logs/a"), format!("{}after\n", line.repeat(64)));
}

#[test]
fn all_files_together_wait_within_one_limit() {
    let mut place = Place::new("together");
    let chunk = "x".repeat(16 * 1024);
    let mut keys = Vec::new();
    for number in 0..100 {
        let key = place.attach(&format!("a{number}"), &[path("logs/{job}")]);
        for _ in 0..8 {
            place.write(key, &chunk);
        }
        keys.push(key);
    }
    assert_eq!(place.files.pending_bytes, MOST_PENDING_BYTES);
    fs::create_dir(place.path.join("logs")).unwrap();
    for _ in 0..100 {
        place.after(1);
    }
    assert_eq!((place.files.pending_bytes, place.next_try()), (0, None));
    for key in keys {
        place.write(key, "after\n");
    }
    let events = place.events().into_iter();
    let missing: u64 = events.filter_map(|event| event.missing()).sum();
    let written: usize = (0..100).map(|n| place.read(&format!("logs/a{n}")).len()).sum();
    assert_eq!(written + missing as usize, 100 * (8 * chunk.len() + 6));
    assert_eq!((place.files.failing(), place.files.missing_bytes()), (0, missing));
}

#[test]
fn what_nobody_writes_to_any_more_is_given_up_in_the_end() {
    let mut place = Place::new("given-up");
    let waits = place.attach("a", &[path("logs/a")]);
    let unused = place.attach("b", &[path("b")]);
    let again = place.attach("c", &[path("logs/a")]);
    assert_eq!(waits, again, "one path is one file");
    place.write(unused, "b\n");
    place.write(waits, "a\n");
    for key in [waits, again, unused] {
        assert_eq!(place.files.descriptors(), 2);
        place.files.release(key, place.now);
    }
    assert_eq!(place.files.descriptors(), 1, "the other is closed");
    while place.next_try().is_some() {
        place.after(1);
    }
    assert_eq!(place.events(), [failed(), LogFileEvent::GivenUp { missing: 2 }]);
    let waited = place.now.mono.since(Mono(1_000_000)).as_secs();
    assert!((600..=630).contains(&waited), "{waited}");
    assert_eq!((place.files.descriptors(), place.files.pending_bytes), (0, 0));
    assert_eq!(place.files.missing_bytes(), 2);
}

#[test]
fn k1s_tries_once_more_as_it_ends() {
    let mut place = Place::new("finish");
    let [a, b] = ["a", "b"].map(|name| place.attach(name, &[path("{job}/x")]));
    place.write(a, "a\n");
    place.write(b, "b\n");
    place.events();
    fs::create_dir(place.path.join("a")).unwrap();
    place.files.finish(place.now);
    assert_eq!(place.read("a/x"), "a\n");
    let events = place.events();
    let expected = [LogFileEvent::Recovered { missing: 0 }, LogFileEvent::GivenUp { missing: 2 }];
    assert_eq!(events, expected);
}

#[test]
fn a_file_that_cannot_be_rotated_grows_and_is_rotated_later() {
    let mut place = Place::new("not-rotated");
    let limits = [("maxBytes", Value::Integer(1024)), ("maxFiles", Value::Integer(2))];
    let key = place.attach("a", &[[path("a")].as_slice(), &limits].concat());
    fs::create_dir(place.path.join("a.1")).unwrap();
    fs::write(place.path.join("a.1/x"), "").unwrap();
    let line = format!("{}\n", "x".repeat(499));
    for _ in 0..4 {
        place.write(key, &line);
    }
    assert_eq!(place.read("a"), line.repeat(4));
    let events = place.events();
    assert!(
        matches!(&events[..], [LogFileEvent::NotRotated { error }] if error.starts_with("a cannot")),
        "{events:?}"
    );
    fs::remove_dir_all(place.path.join("a.1")).unwrap();
    place.write(key, &line);
    assert_eq!(place.read("a"), line.repeat(5), "too early");
    place.after(1);
    place.write(key, &line);
    assert_eq!((place.read("a"), place.read("a.1")), (line.clone(), line.repeat(5)));
    assert_eq!(place.events(), [LogFileEvent::RotatedAgain]);
}

#[test]
fn a_file_that_is_full_from_before_is_rotated_first() {
    let mut place = Place::new("full");
    let limits = [("maxBytes", Value::Integer(1024)), ("maxFiles", Value::Integer(3))];
    let key = place.attach("a", &[[path("a")].as_slice(), &limits].concat());
    let old = "x".repeat(2000) + "\n";
    fs::write(place.path.join("a"), &old).unwrap();
    place.write(key, "mine\n");
    assert_eq!((place.read("a"), place.read("a.1")), ("mine\n".to_owned(), old));
    // 205 lines fill a file.
    place.write(key, &"line\n".repeat(300));
    assert_eq!(place.read("a"), "line\n".repeat(300 - 203));
    assert_eq!(place.read("a.1"), format!("mine\n{}", "line\n".repeat(203)));
}

#[test]
fn requests_to_reopen_are_done_when_all_of_their_files_are() {
    let mut place = Place::new("reopen");
    let mut keys = Vec::new();
    for number in 0..100 {
        keys.push(place.attach(&format!("a{number}"), &[path("{job}")]));
    }
    // Two have never been written to.
    for key in &keys[2..] {
        place.write(*key, "old\n");
    }
    let rename = |place: &Place, to: &str| {
        fs::create_dir(place.path.join(to)).unwrap();
        for number in 2..100 {
            let name = format!("a{number}");
            fs::rename(place.path.join(&name), place.path.join(to).join(&name)).unwrap();
        }
    };
    let all = |place: &Place| (2..100).all(|number| place.path.join(format!("a{number}")).exists());
    rename(&place, "first");
    place.files.reopen(1);
    assert_eq!(place.files.poll_reopened(), None);
    place.write(keys[99], "new\n");
    assert_eq!(place.read("a99"), "new\n", "at once, although others come first");
    assert_eq!(place.read("first/a99"), "old\n");
    place.files.go_on(place.now);
    assert!(place.files.has_more());
    place.files.reopen(2);
    while place.files.poll_reopened() != Some((1, 98)) {
        place.files.go_on(place.now);
    }
    assert!(all(&place));
    rename(&place, "second");
    place.files.reopen(3);
    let mut done = Vec::new();
    while place.files.has_more() {
        place.files.go_on(place.now);
        done.extend(std::iter::from_fn(|| place.files.poll_reopened()));
    }
    assert!(all(&place));
    assert_eq!(done, [(2, 98), (3, 98)]);
    assert_eq!((place.read("a0"), place.path.join("a0").exists()), (String::new(), false));
}

#[test]
fn to_reopen_tries_again_what_cannot_be_written() {
    let mut place = Place::new("reopen-again");
    let key = place.attach("a", &[path("logs/a")]);
    place.write(key, "a\n");
    place.files.reopen(1);
    place.files.go_on(place.now);
    assert_eq!((place.next_try(), place.files.poll_reopened()), (Some(2), Some((1, 1))));
    fs::create_dir(place.path.join("logs")).unwrap();
    place.files.reopen(2);
    place.files.go_on(place.now);
    assert_eq!(place.read("logs/a"), "a\n");
    assert_eq!(place.events(), [failed(), LogFileEvent::Recovered { missing: 0 }]);
}

#[test]
fn all_files_together_stay_within_their_limit() {
    let mut place = Place::limited("quota", 100_000);
    let limits = [("maxBytes", Value::Integer(8192)), ("maxFiles", Value::Integer(100))];
    let keys = ["a", "b", "c"].map(|name| {
        let file = [[path(name)].as_slice(), &limits].concat();
        place.attach(name, &file)
    });
    let line = format!("{}\n", "x".repeat(999));
    for number in 0..300 {
        place.now.wall.0 += 1;
        // One is quiet, and one writes more than the other.
        let key = [keys[0], keys[0], keys[1]][number % 3];
        place.write(key, &line);
        if number == 10 {
            place.write(keys[2], "quiet\n");
        }
        assert!(place.used() <= 100_000, "{number}: {}", place.used());
    }
    assert!(place.used() > 90_000, "{}", place.used());
    assert_eq!(place.read("c"), "quiet\n", "what was not rotated stays");
    let files = |name: &str| {
        (0..100).take_while(|n| place.path.join(format!("{name}.{}", n + 1)).exists()).count()
    };
    assert!(files("a") > files("b") && files("b") >= 3, "the oldest goes first, whose it is");
    assert_eq!(place.events(), []);
}

#[test]
fn one_file_may_take_a_quarter_of_the_limit_before_it_is_rotated() {
    let mut place = Place::limited("quarter", 40_000);
    let key = place.attach("a", &[path("a")]);
    for number in 0..1000 {
        place.write(key, &format!("{:099}\n", number));
    }
    let text: String = ["a.3", "a.2", "a.1", "a"].map(|name| place.read(name)).concat();
    let kept = 30_000..=40_000;
    assert!(kept.contains(&text.len()) && text.ends_with("999\n"), "{}", text.len());
    assert_eq!(place.read("a.1").len(), 10_000);
    assert_eq!(place.events(), []);
}

#[test]
fn a_file_that_is_not_rotated_is_emptied_in_the_end_and_that_is_said_once() {
    let mut place = Place::limited("emptied", 10_000);
    let file = [path("a"), ("maxBytes", Value::Integer(0))];
    let key = place.attach("a", &file);
    let line = format!("{}\n", "x".repeat(999));
    for _ in 0..25 {
        place.write(key, &line);
        assert!(place.used() <= 10_000);
    }
    assert_eq!(place.read("a"), line.repeat(5));
    assert_eq!(place.events(), [LogFileEvent::Emptied { bytes: 10_000 }]);
    // Files that another program has rotated belong to it.
    fs::write(place.path.join("a.1"), line.repeat(20)).unwrap();
    place.files.reopen(1);
    place.files.go_on(place.now);
    place.write(key, &line);
    assert_eq!(place.read("a.1").len(), 20_000);
}

#[test]
fn files_from_before_count_as_soon_as_a_run_has_them() {
    let mut place = Place::limited("before", 10_000);
    for name in ["old", "old.1", "old.2"] {
        fs::write(place.path.join(name), "x".repeat(3000)).unwrap();
    }
    let key = place.attach("new", &[path("new")]);
    place.attach("old", &[path("old")]);
    while place.files.has_more() {
        place.files.go_on(place.now);
    }
    place.write(key, &"x".repeat(2000));
    assert!(!place.path.join("old.2").exists() && place.path.join("old.1").exists());
    assert_eq!(place.used(), 8000);
}

#[test]
fn files_of_runs_that_are_over_make_room_for_others() {
    let mut place = Place::limited("runs", 10_000);
    for number in 0..20 {
        place.now.wall.0 += 1;
        let key = place.attach(&format!("j{number}"), &[path("{job}-{run}")]);
        place.write(key, &"x".repeat(1000));
        place.files.release(key, place.now);
    }
    let left: Vec<u32> = (0..20).filter(|n| place.path.join(format!("j{n}-1")).exists()).collect();
    assert_eq!(left, (10..20).collect::<Vec<_>>());
    assert_eq!((place.files.descriptors(), place.events()), (0, Vec::new()));
}

#[test]
fn what_cannot_be_removed_is_said_and_counts_no_more() {
    let mut place = Place::limited("not-removed", 5000);
    let limits = [("maxBytes", Value::Integer(1024)), ("maxFiles", Value::Integer(100))];
    let key = place.attach("a", &[[path("a")].as_slice(), &limits].concat());
    for _ in 0..4 {
        place.write(key, &("x".repeat(999) + "\n"));
    }
    fs::remove_file(place.path.join("a.3")).unwrap();
    fs::create_dir(place.path.join("a.3")).unwrap();
    place.write(key, &("x".repeat(999) + "\n"));
    place.write(key, &("x".repeat(999) + "\n"));
    let events = place.events();
    assert!(matches!(events[..], [LogFileEvent::NotRemoved { .. }]), "{events:?}");
}
