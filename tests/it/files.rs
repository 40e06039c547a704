//! Log files: `output.file`.
//!
//! What happens at which second to a file that cannot be written is in `daemon/logfiles/tests.rs`,
//! with a clock of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::{
    K1s, TempDir, continuous, may_become_others, one_off, skip, stays_true, wait_until, with,
};

/// The job with this log file.
fn to(file: Value, job: Value) -> Value {
    with(job, json!({"output": {"file": file, "forward": false}}))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn numbers(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}

/// Waits until k1s has said this of a log file, so many times by now.
#[track_caller]
fn says(k1s: &K1s, text: &str, times: usize) {
    wait_until(text, || k1s.stderr().matches(text).count() >= times);
    assert_eq!(k1s.stderr().matches(text).count(), times, "{text}: {}", k1s.stderr());
}

#[test]
fn both_streams_are_written_as_they_were_read() {
    let k1s = K1s::start();
    let script =
        "printf 'a\\0\\377b\\n'; for i in $(seq 500); do echo out $i; echo err $i >&2; done";
    k1s.run("a", &to(json!({"path": "{job}-{run}.log"}), one_off(script)));
    let file = fs::read(k1s.dir().join("a-1.log")).unwrap();
    assert_eq!(file, k1s.get("/job/a/logs").body, "the order is that of the log");
    let text = String::from_utf8_lossy(&file);
    for stream in ["out", "err"] {
        let lines = text.lines().filter(|line| line.starts_with(stream));
        let expected = (1..=500).map(|number| format!("{stream} {number}"));
        assert!(lines.eq(expected), "{stream}");
    }
    assert!(file.windows(5).any(|bytes| bytes == b"a\0\xffb\n"));
    let found = fs::metadata(k1s.dir().join("a-1.log")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777 & !0o640, 0, "{:o}", found.mode());
}

#[test]
fn runs_go_on_where_the_last_one_ended() {
    let k1s = K1s::start();
    fs::create_dir(k1s.dir().join("sub")).unwrap();
    fs::write(k1s.dir().join("sub/x"), "before\n").unwrap();
    let restart = json!({"restart": {"initialDelayMs": 0, "maxRestarts": 2}});
    let job = with(continuous("echo $K1S_RUN"), restart);
    let job = with(job, json!({"workingDirectory": "sub"}));
    k1s.create("a", &to(json!({"path": "../sub/x"}), job));
    k1s.in_state("a", "failed");
    let lines: Vec<String> = read(k1s.dir().join("sub/x")).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "before");
    assert!(lines[1].ends_with(".1") && lines[2].ends_with(".2"), "{lines:?}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_full_file_is_rotated_at_the_end_of_a_line() {
    let k1s = K1s::start();
    let file = json!({"path": "x.log", "maxBytes": 16384, "maxFiles": 4});
    k1s.run("a", &to(file, one_off("seq 1 20000")));
    let names = ["x.log.3", "x.log.2", "x.log.1", "x.log"];
    let files: Vec<String> = names.iter().map(|name| read(k1s.dir().join(name))).collect();
    assert!(numbers(20000).ends_with(&files.concat()), "the newest lines are kept, in order");
    for file in &files {
        // A line that has begun may make it longer.
        assert!(file.len() < 16384 + 6 && file.ends_with('\n'), "{}", file.len());
    }
    assert!(files[..3].iter().all(|file| file.len() > 16384 - 6), "and each is full");
    let logs = fs::read_dir(k1s.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let logs = logs.filter(|name| name.to_string_lossy().starts_with("x.log")).count();
    assert_eq!(logs, 4);
}

#[test]
fn with_one_file_a_full_one_is_emptied() {
    let k1s = K1s::start();
    let file = json!({"path": "x.log", "maxBytes": 16384, "maxFiles": 1});
    k1s.run("a", &to(file, one_off("seq 1 20000")));
    let text = read(k1s.dir().join("x.log"));
    assert!(!text.is_empty() && text.len() < 16384 + 6 && numbers(20000).ends_with(&text));
    assert!(!k1s.dir().join("x.log.1").exists());
}

#[test]
fn without_a_limit_a_file_grows() {
    let k1s = K1s::start();
    let file = json!({"path": "x.log", "maxBytes": 0});
    k1s.run("a", &to(file, one_off("seq 1 2000000")));
    let text = read(k1s.dir().join("x.log"));
    assert!(text == numbers(2_000_000), "{}", text.len());
}

#[test]
fn a_log_file_can_be_changed_while_a_job_runs() {
    let k1s = K1s::start();
    let line = |n: u32| format!("until [ -e go{n} ]; do sleep 0.01; done; echo {n}; touch done{n}");
    let script = format!("{}; {}; {}; exec sleep 1000", line(1), line(2), line(3));
    let mut pids = Vec::new();
    for (number, file) in
        [(1, json!({"path": "a.log"})), (2, json!({"path": "b.log"})), (3, Value::Null)]
    {
        let job = to(file, one_off(&script));
        let reply = k1s.request("PUT", "/job/j", job.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        pids.push(k1s.pid_of("j"));
        // What is in the pipe is read before a request that comes after it.
        fs::write(k1s.dir().join(format!("go{number}")), "").unwrap();
        k1s.wait_for_file(&format!("done{number}"));
    }
    assert_eq!(k1s.job("j")["output"].get("file"), None);
    let files = ["a.log", "b.log"].map(|name| read(k1s.dir().join(name)));
    assert_eq!(files, ["1\n", "2\n"]);
    let patch = json!({"output": {"file": {"path": "c.log", "maxFiles": 7}}});
    assert_eq!(k1s.request("PATCH", "/job/j", patch.to_string().as_bytes()).status, 200);
    let file = json!({"path": "c.log", "maxBytes": 10_485_760, "maxFiles": 7});
    assert_eq!(k1s.job("j")["output"]["file"], file);
    pids.push(k1s.pid_of("j"));
    assert!(pids.iter().all(|pid| *pid == pids[0]), "it is one process: {pids:?}");
}

#[test]
fn two_jobs_may_share_a_file() {
    let k1s = K1s::start();
    let lines = |id: &str| format!("for i in $(seq 300); do echo {id} $i; done");
    for id in ["a", "b"] {
        let file = json!({"path": "shared.log", "maxBytes": 1024, "maxFiles": 100});
        k1s.create(id, &to(file, one_off(&lines(id))));
    }
    for id in ["a", "b"] {
        k1s.in_state(id, "succeeded");
    }
    let mut text = String::new();
    for number in (0..100).rev() {
        let name = match number {
            0 => "shared.log".to_owned(),
            number => format!("shared.log.{number}"),
        };
        let file = read(k1s.dir().join(name));
        assert!(file.len() < 1024 + 6);
        text.push_str(&file);
    }
    for id in ["a", "b"] {
        let lines = text.lines().filter(|line| line.starts_with(id));
        assert!(lines.eq((1..=300).map(|number| format!("{id} {number}"))), "{text}");
    }
    assert_eq!(text.lines().count(), 600);
}

// ---- Renamed files ----

/// As logrotate does it: what `reopen` returns is written to a new file.
#[track_caller]
fn goes_on_in_a_new_file(reopen: impl Fn(&K1s)) {
    let k1s = K1s::start();
    let script = "for n in 1 2; do until [ -e go$n ]; do sleep 0.01; done; echo $n; done; read x";
    let job = with(one_off(script), json!({"stdin": ""}));
    let [log, old] = ["x.log", "x.log.old"].map(|name| k1s.dir().join(name));
    k1s.create("j", &to(json!({"path": "x.log", "maxBytes": 0}), job));
    fs::write(k1s.dir().join("go1"), "").unwrap();
    wait_until("it is written", || read(&log) == "1\n");
    fs::rename(&log, &old).unwrap();
    reopen(&k1s);
    wait_until("there is a new file", || log.exists());
    fs::write(k1s.dir().join("go2"), "").unwrap();
    wait_until("it is written to", || read(&log) == "2\n");
    assert_eq!(read(&old), "1\n");
}

#[test]
fn files_are_reopened_by_request() {
    goes_on_in_a_new_file(|k1s| {
        let reply = k1s.post("/reopen", &Value::Null);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json(), json!({"message": "Log files reopened", "files": 1}));
        assert!(k1s.dir().join("x.log").exists(), "it is done when that is answered");
    });
}

#[test]
fn files_are_reopened_by_sighup() {
    goes_on_in_a_new_file(|k1s| {
        k1s.signal(Signal::SIGHUP);
        says(k1s, "received SIGHUP: reading the config again, and reopening log files", 1);
    });
}

#[test]
fn only_who_has_the_token_may_have_files_reopened() {
    let k1s = K1s::start();
    let mut stranger = k1s.connect();
    stranger.send("POST /reopen HTTP/1.1\r\nHost: k1s\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(stranger.reply().status, 403);
    let reply = k1s.get("/reopen");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(k1s.post("/reopen?wait=1", &Value::Null).status, 400);
    let none = json!({"message": "Log files reopened", "files": 0});
    assert_eq!(k1s.post("/reopen", &Value::Null).json(), none);
}

#[test]
fn what_cannot_be_written_is_tried_at_once_when_files_are_reopened() {
    let k1s = K1s::start();
    k1s.run("j", &to(json!({"path": "logs/x"}), one_off("echo x")));
    says(&k1s, "cannot be written", 1);
    k1s.post("/reopen", &Value::Null);
    fs::create_dir(k1s.dir().join("logs")).unwrap();
    let reply = k1s.post("/reopen", &Value::Null);
    assert_eq!(reply.json()["files"], 1);
    assert_eq!(read(k1s.dir().join("logs/x")), "x\n");
    says(&k1s, "can be written again", 1);
}

/// While 400 files are reopened in shares, others ask for it, too.
#[test]
fn many_files_are_reopened_for_many() {
    let k1s = K1s::start();
    for number in 0..400 {
        let file = json!({"path": "{job}.log"});
        k1s.create(&format!("j{number}"), &to(file, one_off("echo x; exec sleep 1000")));
    }
    let log = |number: u32| k1s.dir().join(format!("j{number}.log"));
    wait_until("all are written", || (0..400).all(|number| read(log(number)) == "x\n"));
    let mut clients: Vec<_> = (0..20).map(|_| k1s.connect()).collect();
    (0..400).for_each(|number| fs::remove_file(log(number)).unwrap());
    let head = format!(
        "POST /reopen HTTP/1.1\r\nHost: k1s\r\n{}Content-Length: 0\r\n\r\n",
        k1s.authorization()
    );
    clients.iter_mut().for_each(|client| client.send(&head));
    for client in &mut clients {
        assert_eq!(client.reply().json()["files"], 400);
        assert!((0..400).all(|number| log(number).exists()), "all are there when one is answered");
    }
}

// ---- The limit for all files together ----

#[test]
fn all_files_together_stay_within_the_limit_of_the_config() {
    let k1s = K1s::with().config("[output]\ndisk = 1048576").start();
    let logs = k1s.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    let used = || -> u64 {
        let entries = fs::read_dir(&logs).unwrap();
        // One may be rotated between the list and the look at it.
        entries.filter_map(|entry| Some(entry.unwrap().metadata().ok()?.len())).sum()
    };
    for id in ["a", "b"] {
        let file = json!({"path": "logs/{job}", "maxBytes": 50000, "maxFiles": 100});
        k1s.create(id, &to(file, one_off("seq 1 500000")));
    }
    k1s.run("c", &to(json!({"path": "logs/c-{run}"}), one_off("echo kept")));
    let both_are_over = || ["a", "b"].iter().all(|id| k1s.job(id)["state"] == "succeeded");
    wait_until("both have written 3 MB", || {
        let used = used();
        assert!(used <= 1 << 20, "{used}");
        both_are_over()
    });
    assert!(used() > 900_000, "{}", used());
    for id in ["a", "b"] {
        let file = |number: u32| match number {
            0 => read(logs.join(id)),
            number => read(logs.join(format!("{id}.{number}"))),
        };
        let text: String = (0..100).rev().map(file).collect();
        assert!(numbers(500_000).ends_with(&text) && !text.is_empty(), "{}", text.len());
    }
}

// ---- Trouble ----

#[test]
fn a_directory_that_goes_away_holds_up_nothing() {
    let k1s = K1s::start();
    let logs = k1s.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    let script = "echo one; until [ -e go ]; do sleep 0.01; done; seq 1 100000";
    k1s.create("j", &to(json!({"path": "logs/{job}.log"}), one_off(script)));
    wait_until("it is written", || read(logs.join("j.log")) == "one\n");
    fs::remove_dir_all(&logs).unwrap();
    fs::write(k1s.dir().join("go"), "").unwrap();
    let result = k1s.results("j", 1).remove(0);
    assert_eq!((&result["exitCode"], &result["stdoutBytes"]), (&json!(0), &json!(588_899)));
    let path = logs.join("j.log");
    let metric = |name: &str| {
        let told = k1s.get("/metrics").text();
        let line = told.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(metric("k1s_failing_log_files"), 1);
    let log = format!("warning: job j, run 1: log file {} ", path.display());
    says(&k1s, &format!("{log}cannot be written: its directory cannot be opened: No such"), 1);
    fs::create_dir(&logs).unwrap();
    says(&k1s, &format!("{log}can be written again; "), 1);
    let text = read(&path);
    assert!(numbers(100_000).starts_with(&text) && text.ends_with('\n'), "{}", text.len());
    let missing = 588_895 - text.len();
    says(&k1s, &format!("again; {missing} bytes are missing in it\n"), 1);
    assert_eq!(metric("k1s_log_file_missing_bytes_total"), missing);
    assert_eq!(metric("k1s_failing_log_files"), 0);
    assert!((60_000..=65_536).contains(&text.len()), "what was kept for it: {}", text.len());
}

#[test]
fn who_follows_events_is_told_of_trouble() {
    let k1s = K1s::start();
    let mut client = k1s.connect();
    client.send(format!("GET /events HTTP/1.1\r\nHost: k1s\r\n{}\r\n", k1s.authorization()));
    client.chunked_head();
    let mut text = String::new();
    let mut event = || {
        loop {
            if let Some((before, after)) = text.split_once("event: logfile\ndata: ")
                && let Some((data, rest)) = after.split_once("\n\n")
            {
                assert!(!before.contains("logfile"));
                let data: Value = serde_json::from_str(data).unwrap();
                text = rest.to_owned();
                return data;
            }
            text.push_str(std::str::from_utf8(&client.chunk().unwrap()).unwrap());
        }
    };
    let path = k1s.dir().join("logs/x").display().to_string();
    k1s.run("a", &to(json!({"path": "logs/x"}), one_off("echo x")));
    let failed = event();
    let is = |event: &Value| {
        let [file, job, run] = ["file", "job", "run"].map(|key| event[key].clone());
        assert_eq!([file, job, run], [json!(path), json!("a"), json!(1)], "{event}");
    };
    is(&failed);
    assert!(failed["error"].as_str().unwrap().contains("(ENOENT)"), "{failed}");
    fs::create_dir(k1s.dir().join("logs")).unwrap();
    let recovered = event();
    is(&recovered);
    assert_eq!((&recovered["error"], &recovered["missingBytes"]), (&Value::Null, &json!(0)));
}

/// A k1s for which this is a file system of its own, empty or with these options.
fn with_tmpfs(dir: &Path, options: &str) -> crate::harness::Builder {
    let script =
        format!("mount -t tmpfs -o {options} k1s-test '{}' && exec \"$0\" \"$@\"", dir.display());
    K1s::with().around(&["unshare", "--mount", "sh", "-c", &script])
}

fn cannot_mount() -> Option<String> {
    let dir = TempDir::new();
    let script = format!("mount -t tmpfs k1s-test '{}'", dir.path().display());
    let tried = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("nothing can be mounted: {error}"))
        }
        Err(error) => Some(format!("unshare cannot be started: {error}")),
    }
}

/// A path as k1s sees it.
fn within(k1s: &K1s, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", k1s.pid(), path.display()))
}

#[test]
fn a_full_disk_holds_up_nothing() {
    if let Some(reason) = cannot_mount() {
        skip!(reason);
    }
    let disk = TempDir::new();
    let k1s = with_tmpfs(disk.path(), "size=256k").start();
    let log = disk.path().join("x.log");
    let file = json!({"path": log.to_str().unwrap()});
    let script = format!("seq 1 20000; rm -f {0}/filler; seq 20001 40000", disk.path().display());
    fs::write(within(&k1s, &disk.path().join("filler")), vec![0; 200 * 1024]).unwrap();
    let result = k1s.run("j", &to(file, one_off(&script)));
    assert_eq!(result["exitCode"], 0);
    says(&k1s, "cannot be written: No space left on device (ENOSPC)", 1);
    says(&k1s, "can be written again", 1);
    let text = read(within(&k1s, &log));
    let wanted = numbers(40000);
    let common = text.bytes().zip(wanted.bytes()).take_while(|(one, other)| one == other).count();
    assert!(common >= 50 * 1024, "what there was room for, and what waited: {common}");
    let stderr = k1s.stderr();
    let missing = match stderr.split_once(" bytes are missing in it") {
        Some((before, _)) => before.rsplit(' ').next().unwrap().parse::<usize>().unwrap(),
        None => 0,
    };
    assert_eq!(text.len() + missing, wanted.len());
    assert!(text.ends_with(&wanted[common + missing..]), "there is one gap");
}

/// SIGXFSZ ended k1s, and would have been passed on to the command of `init`.
#[test]
fn a_limit_on_the_size_of_files_ends_nobody() {
    let limited = || K1s::with().around(&["prlimit", "--fsize=20000"]);
    let k1s = limited().start();
    let log = k1s.dir().join("x.log");
    let result = k1s.run("j", &to(json!({"path": "x.log"}), one_off("seq 1 5000")));
    assert_eq!(result["exitCode"], 0);
    says(&k1s, "cannot be written: File too large (EFBIG)", 1);
    let written = read(&log);
    assert!(written.len() == 20000 && numbers(5000).starts_with(&written), "{}", written.len());
    fs::remove_file(&log).unwrap();
    says(&k1s, "can be written again", 1);
    assert_eq!(written + &read(&log), numbers(5000));
    let start = limited().init(&["sleep", "1000"]).start();
    start.run("j", &to(json!({"path": "x.log"}), one_off("seq 1 5000")));
    says(&start, "cannot be written: File too large (EFBIG)", 1);
    assert_eq!(start.job("main")["state"], "running");
}

#[test]
fn a_read_only_file_system_is_waited_for() {
    if let Some(reason) = cannot_mount() {
        skip!(reason);
    }
    let disk = TempDir::new();
    let k1s = with_tmpfs(disk.path(), "ro").start();
    let log = disk.path().join("x.log");
    k1s.run("j", &to(json!({"path": log.to_str().unwrap()}), one_off("echo x")));
    says(&k1s, "cannot be written: Read-only file system (EROFS)", 1);
    let remount = format!("mount -o remount,rw '{}'", disk.path().display());
    assert_eq!(k1s.run("remount", &one_off(&remount))["exitCode"], 0);
    says(&k1s, "can be written again\n", 1);
    assert_eq!(read(within(&k1s, &log)), "x\n");
}

#[test]
fn a_directory_that_is_closed_to_k1s_is_waited_for() {
    if !may_become_others() {
        skip!("root may write everywhere, and nobody else may become another user");
    }
    let dir = TempDir::new();
    let log = dir.path().join("x.log");
    let become_other = ["setpriv", "--reuid=60000", "--regid=60000", "--clear-groups"];
    let k1s = K1s::with().around(&become_other).start();
    k1s.run("j", &to(json!({"path": log.to_str().unwrap()}), one_off("echo x")));
    says(&k1s, "cannot be written: Permission denied (EACCES)", 1);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    says(&k1s, "can be written again\n", 1);
    assert_eq!(read(&log), "x\n");
}

/// Runs that waited for descriptors took all that were freed, and the file got none.
#[test]
fn without_descriptors_a_file_waits_for_one() {
    let k1s = K1s::with().nofile(40).start();
    let script = "until [ -e go ]; do sleep 0.01; done; echo x; exec sleep 1000";
    let running = || {
        let jobs = k1s.get("/?state=running").json();
        jobs.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    for number in 0..20 {
        k1s.create(&format!("j{number}"), &to(json!({"path": "{job}.log"}), continuous(script)));
    }
    wait_until("no more can be started", || {
        k1s.stderr().contains("deferred, because this machine is short of something")
    });
    let running: Vec<String> = running();
    fs::write(k1s.dir().join("go"), "").unwrap();
    let fails = |line: &str| line.contains(" log file ") && line.contains("(EMFILE); trying again");
    wait_until("there are too many files", || k1s.stderr().lines().any(fails));
    assert!(running.len() > 4, "{running:?}");
    let has_written = |id: &String| k1s.get(&format!("/job/{id}/logs")).text() == "x\n";
    wait_until("all have written", || running.iter().all(has_written));
    for id in &running {
        k1s.delete(&format!("/job/{id}"));
    }
    for id in &running {
        wait_until("all was written", || read(k1s.dir().join(format!("{id}.log"))) == "x\n");
    }
}

#[test]
fn nothing_but_a_regular_file_is_written_to() {
    let k1s = K1s::start();
    let dir = k1s.dir();
    fs::write(dir.join("target"), "").unwrap();
    symlink("target", dir.join("link")).unwrap();
    fs::hard_link(dir.join("target"), dir.join("hard")).unwrap();
    mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
    for (path, reason) in [
        ("link", "is a symbolic link"),
        ("hard", "has another name as well (a hard link)"),
        ("fifo", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        (".k1s.toml/x", "its directory cannot be opened: No such file or directory (ENOENT)"),
    ] {
        let id = path.trim_matches(['/', '.']).replace('/', "-");
        let result = k1s.run(&id, &to(json!({"path": path}), one_off("echo x")));
        assert_eq!(result["exitCode"], 0);
        says(&k1s, &format!("job {id}, run 1: log file {} cannot", dir.join(path).display()), 1);
        assert!(k1s.stderr().contains(&format!("cannot be written: {reason}")), "{reason}");
    }
    assert_eq!(read(dir.join("target")), "");
}

/// As root it would have written to where the user's link leads, which may be `/etc/cron.d`.
#[test]
fn a_user_cannot_lead_k1s_to_another_directory() {
    if !may_become_others() {
        skip!("only root may run jobs as another user");
    }
    let k1s = K1s::start();
    let home = TempDir::new();
    let secret = TempDir::new();
    nix::unistd::chown(home.path(), Some(60_000.into()), Some(60_000.into())).unwrap();
    let script = format!("ln -s {} logs; echo '* * * * * root evil'", secret.path().display());
    let user = json!({"user": "60000", "group": "60000", "workingDirectory": home.path().to_str().unwrap()});
    k1s.run("evil", &to(json!({"path": "logs/x"}), with(one_off(&script), user)));
    says(&k1s, "the symbolic link logs on the way to it is not followed", 1);
    assert_eq!(fs::read_dir(secret.path()).unwrap().count(), 0);
    // The owner of the machine may have one.
    symlink(secret.path(), k1s.dir().join("logs")).unwrap();
    k1s.run("good", &to(json!({"path": "logs/x"}), one_off("echo x")));
    assert_eq!(read(secret.path().join("x")), "x\n");
}

#[test]
fn descriptors_are_closed_when_runs_end() {
    let k1s = K1s::start();
    let Ok(before) = k1s.open_fds() else {
        skip!("the fds of a process that is not dumpable are root's to see");
    };
    k1s.create("d", &to(json!({"path": "d.log"}), continuous("echo up; exec sleep 1000")));
    wait_until("it is written", || read(k1s.dir().join("d.log")) == "up\n");
    assert_eq!(k1s.open_fds().unwrap(), before + 3, "two pipes and a file");
    for number in 0..50 {
        let file = json!({"path": "{job}-{run}.log"});
        k1s.create(&format!("x{number}"), &to(file, one_off("echo x; echo y >&2")));
    }
    for number in 0..50 {
        k1s.in_state(&format!("x{number}"), "succeeded");
        assert_eq!(read(k1s.dir().join(format!("x{number}-1.log"))).len(), 4);
    }
    wait_until("they are closed", || k1s.open_fds().unwrap() == before + 3);
    k1s.delete("/job/d");
    wait_until("all are closed", || k1s.open_fds().unwrap() == before);
}

#[test]
fn what_waits_for_a_file_is_said_when_k1s_ends() {
    let k1s = K1s::start();
    k1s.create("j", &to(json!({"path": "logs/x"}), one_off("echo x; exec sleep 1000")));
    says(&k1s, "cannot be written", 1);
    let (_, stderr) = k1s.end();
    assert!(stderr.contains("could not be written: 2 bytes are missing in it\n"), "{stderr}");
}

#[test]
fn a_file_that_cannot_be_written_does_not_make_k1s_spin() {
    let k1s = K1s::start();
    k1s.create("j", &to(json!({"path": "logs/x"}), one_off("echo x; exec sleep 1000")));
    says(&k1s, "cannot be written", 1);
    let before = k1s.context_switches();
    let tries = std::time::Duration::from_millis(2500);
    stays_true("it is tried after 1 s and 2 s", tries, || k1s.context_switches() < before + 50);
}
