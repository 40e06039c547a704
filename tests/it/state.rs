//! State that survives the end of k1s, however that comes.
//!
//! `rounds` kills k1s again and again while clients change jobs as fast as they can, and compares
//! what is there with what was answered. `power` does it with a loss of power, of which `record`
//! says what it may leave. `disk` has a disk that is slow, full or broken, and `size` says how large
//! the directory may be. `many` has many jobs.

mod disk;
mod many;
mod power;
mod record;
mod rounds;
mod size;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k1s::state::{Replay, replay};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Builder, K1s, continuous, is_alive, one_off, send_signal, stays_true, wait_for, wait_until,
    with,
};

/// A k1s with a state directory, which is made safe as `sync` says.
fn with_state(sync: &str) -> Builder {
    let start = K1s::with();
    let directory = start.dir().join("state");
    start.config(&format!("[state]\ndirectory = {directory:?}\nsync = \"{sync}\""))
}

/// Kills k1s, and waits for its end.
fn kill(k1s: K1s) {
    send_signal(k1s.pid(), Signal::SIGKILL);
    let (status, stderr) = k1s.exit();
    assert_eq!(status.code(), None, "{stderr}");
}

fn sleep() -> Value {
    json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"]})
}

/// What of a job is the same before and after: no times that go on, no pid.
fn lasting(job: &Value) -> Value {
    let mut job = job.clone();
    for field in ["message", "pid", "startedAt", "nextRunAt", "restarts", "state"] {
        job.as_object_mut().unwrap().remove(field);
    }
    job
}

#[test]
fn everything_is_as_it_was() {
    for sync in ["always", "os"] {
        let start = with_state(sync);
        let k1s = start.clone().start();
        let said = one_off("printf 'a\\nb'; echo c >&2; exit 3");
        k1s.create("over", &with(said, json!({"labels": {"x": "y"}, "retries": 0})));
        k1s.results("over", 1);
        let secret = json!({"environment": {"A": "1", "S": "2"}, "secretEnvironment": ["S"]});
        k1s.create("killed", &with(sleep(), secret));
        k1s.pid_of("killed");
        assert_eq!(k1s.put("/job/killed/kill").status, 200);
        k1s.in_state("killed", "killed");
        let cron = json!({"type": "cron", "executable": "true", "schedule": "0 3 * * *",
            "timeZone": "Europe/Berlin", "startingDeadlineSeconds": 77});
        k1s.create("nightly", &cron);
        assert_eq!(k1s.put("/job/nightly/run").status, 200);
        k1s.results("nightly", 1);
        k1s.create("idle", &with(sleep(), json!({"autostart": false})));
        k1s.create("gone", &one_off("true"));
        k1s.results("gone", 1);
        assert_eq!(k1s.delete("/job/gone").status, 200);
        let before = k1s.get("/").json();
        let logs = k1s.get("/job/over/logs?format=ndjson").text();
        assert_eq!(logs.lines().count(), 3, "{logs}");
        kill(k1s);
        for _ in 0..2 {
            let k1s = start.clone().start();
            let after = k1s.get("/").json();
            let shown = |jobs: &Value| -> Vec<Value> {
                jobs.as_array().unwrap().iter().map(lasting).collect()
            };
            assert_eq!(shown(&before), shown(&after), "{sync}");
            for (id, state) in [
                ("over", "failed"),
                ("killed", "killed"),
                ("nightly", "scheduled"),
                ("idle", "idle"),
            ] {
                assert_eq!(k1s.job(id)["state"], state, "{id}");
            }
            assert_eq!(k1s.get("/job/over/logs?format=ndjson").text(), logs);
            kill(k1s);
        }
    }
}

#[test]
fn files_are_private() {
    let start = with_state("os");
    let k1s = start.start();
    k1s.create("a", &one_off("true"));
    let directory = k1s.dir().join("state");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(files.len() >= 2, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{file:?}"));
}

#[test]
fn a_run_that_was_going_is_lost_and_counts_as_failed() {
    let start = with_state("os");
    let k1s = start.clone().start();
    k1s.create("web", &sleep());
    k1s.create("once", &one_off("sleep 1000"));
    let tried =
        with(one_off("test -e again || { touch again; sleep 1000; }"), json!({"retries": 1}));
    k1s.create("tried", &tried);
    let processes = ["web", "once", "tried"].map(|id| k1s.pid_of(id));
    k1s.wait_for_file("again");
    let created = k1s.job("web")["createdAt"].clone();
    kill(k1s);
    assert!(processes.into_iter().all(is_alive), "they outlive it");
    let k1s = start.start();
    let results = k1s.results("web", 1);
    assert_eq!(results[0]["reason"], "lost");
    assert_eq!(results[0]["exitCode"], 255);
    assert_eq!((&results[0]["run"], &results[0]["success"]), (&json!(1), &json!(false)));
    assert!(results[0]["error"].as_str().unwrap().contains("was killed"), "{results:?}");
    let pid = k1s.pid_of("web");
    assert!(!processes.contains(&pid));
    wait_until("what was left is gone", || !processes.into_iter().any(is_alive));
    let web = k1s.job("web");
    assert_eq!((&web["createdAt"], &web["restarts"]), (&created, &json!(1)));
    let once = k1s.in_state("once", "failed");
    assert_eq!(once["results"][0]["reason"], "lost");
    let tried = k1s.in_state("tried", "succeeded");
    let reasons: Vec<&Value> =
        tried["results"].as_array().unwrap().iter().map(|result| &result["reason"]).collect();
    assert_eq!(reasons, ["lost", "exited"]);
    assert_eq!(tried["results"][1]["run"], 2);
}

#[test]
fn what_was_left_has_its_grace_period_before_its_job_starts() {
    let start = with_state("os");
    let k1s = start.clone().start();
    let patient = "trap '' PIPE; trap 'echo asked >> asked; sleep 0.3; echo over >> asked; exit' TERM; \
        echo start $$ >> asked; while :; do sleep 0.01; done";
    k1s.create("patient", &continuous(patient));
    k1s.wait_for_file("asked");
    // It has left its session, its group and its environment.
    let hidden = "env -i setsid sh -c 'echo $$ > hidden; exec sleep 1000' & sleep 1000";
    k1s.create("hidden", &continuous(hidden));
    k1s.wait_for_file("hidden");
    let in_group = "env -i sh -c 'echo $$ > bare; exec sleep 1000' & exec sleep 1000";
    k1s.create("bare", &continuous(in_group));
    k1s.wait_for_file("bare");
    let bare = wait_for("its pid", || {
        fs::read_to_string(k1s.dir().join("bare")).ok()?.trim().parse::<u32>().ok()
    });
    kill(k1s);
    let k1s = start.start();
    k1s.pid_of("patient");
    wait_until("it has started again", || {
        let asked = fs::read_to_string(k1s.dir().join("asked")).unwrap();
        asked.matches("start").count() == 2
    });
    let asked = fs::read_to_string(k1s.dir().join("asked")).unwrap();
    let words: Vec<&str> = asked.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["start", "asked", "over", "start"]);
    k1s.pid_of("bare");
    assert!(!is_alive(bare), "it was in the group of the run");
    let hidden = fs::read_to_string(k1s.dir().join("hidden")).unwrap();
    send_signal(hidden.trim().parse().unwrap(), Signal::SIGKILL);
}

#[test]
fn a_job_that_waits_for_what_was_left_says_so() {
    let start = with_state("os");
    let k1s = start.clone().start();
    let stubborn = "trap '' TERM; echo > begun; exec sleep 1000";
    k1s.create("stubborn", &with(continuous(stubborn), json!({"stop": {"timeoutSeconds": 600}})));
    k1s.wait_for_file("begun");
    let left = k1s.pid_of("stubborn");
    kill(k1s);
    let k1s = start.start();
    let job = k1s.job("stubborn");
    assert_eq!(job["state"], "waiting", "{job}");
    let message = "starts as soon as the processes are gone that an earlier k1s has left";
    assert_eq!(job["message"], message);
    send_signal(left, Signal::SIGKILL);
    k1s.in_state("stubborn", "running");
}

#[test]
fn a_failure_still_has_its_handler_after_a_crash() {
    let start = with_state("always");
    let k1s = start.clone().start();
    let note = "echo $K1S_TRIGGER_JOB $K1S_TRIGGER_RUN $K1S_TRIGGER_REASON >> $K1S_JOB.calls";
    let handler = one_off(&format!("{note}; test -e free || exec sleep 1000"));
    let handler = with(handler, json!({"autostart": false}));
    k1s.create("busy", &handler);
    k1s.create("retried", &with(handler.clone(), json!({"retries": 1})));
    k1s.create("idle", &handler);
    let failing =
        |script: &str, handler: &str| with(one_off(script), json!({"onFailure": handler}));
    k1s.create("a", &failing("exit 3", "busy"));
    k1s.create("b", &failing("exit 3", "retried"));
    k1s.wait_for_file("busy.calls");
    k1s.wait_for_file("retried.calls");
    // Its handler is busy.
    k1s.create("c", &failing("exit 3", "busy"));
    k1s.results("c", 1);
    // It has not failed yet.
    k1s.create("d", &failing("sleep 1000", "idle"));
    k1s.pid_of("d");
    kill(k1s);
    fs::write(start.dir().join("free"), "").unwrap();
    let k1s = start.start();
    let calls = |handler: &str, count: usize| {
        k1s.results(handler, count);
        k1s.in_state(handler, "succeeded");
        fs::read_to_string(k1s.dir().join(format!("{handler}.calls"))).unwrap()
    };
    assert_eq!(calls("busy", 2), "a 1 exited\nc 1 exited\n");
    assert_eq!(calls("retried", 2), "b 1 exited\nb 1 exited\n");
    assert_eq!(calls("idle", 1), "d 1 lost\n");
}

#[test]
fn a_shutdown_is_no_end_of_jobs() {
    let start = with_state("always");
    let k1s = start.clone().start();
    k1s.create("web", &sleep());
    k1s.create("cron", &json!({"type": "cron", "executable": "true", "schedule": "@yearly"}));
    k1s.create("stopped", &sleep());
    k1s.pid_of("web");
    k1s.put("/job/stopped/kill");
    k1s.in_state("stopped", "killed");
    k1s.end();
    let k1s = start.start();
    k1s.in_state("web", "running");
    let results = k1s.job("web")["results"].clone();
    assert_eq!(results[0]["reason"], "killed");
    assert_eq!(k1s.job("cron")["state"], "scheduled");
    assert_eq!(k1s.job("stopped")["state"], "killed");
}

#[test]
fn what_fell_due_meanwhile_is_one_run_if_it_is_not_too_late() {
    let start = with_state("os");
    let k1s = start.clone().start();
    let every = |deadline| {
        json!({"type": "cron", "executable": "true", "schedule": "* * * * * *",
            "startingDeadlineSeconds": deadline, "output": {"historyLimit": 1000}})
    };
    k1s.create("late", &every(1000));
    k1s.create("suspended", &with(every(1000), json!({"suspend": true})));
    k1s.results("late", 1);
    let interval = json!({"type": "cron", "executable": "true", "scheduleInSeconds": 1});
    k1s.create("interval", &interval);
    let created = crate::harness::milliseconds(&k1s.job("interval")["createdAt"]);
    k1s.results("interval", 1);
    kill(k1s);
    let away = std::time::Instant::now();
    wait_until("three runs were missed", || away.elapsed().as_millis() > 3_300);
    let k1s = start.start();
    let job = wait_for("it has run", || {
        let job = k1s.job("late");
        (job["skippedRuns"]["missed"].as_u64()? >= 2).then_some(job)
    });
    let count = job["results"].as_array().unwrap().len();
    assert!(count <= 4, "one run for all that was missed: {job}");
    k1s.results("interval", 3);
    let begun = crate::harness::milliseconds(&k1s.results("interval", 3)[2]["startedAt"]);
    assert!((begun - created) % 1000 < 500, "it keeps its beat: {}", begun - created);
    assert_eq!(k1s.job("suspended")["results"], json!([]));
}

#[test]
fn declared_jobs_keep_their_history_and_have_the_specification_of_the_config() {
    let start = with_state("os");
    let declared = |text: &str| start.clone().config(text);
    let old = "[job.a]\ntype = \"one-off\"\nexecutable = \"false\"\n\
        [job.b]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]";
    let k1s = declared(old).start();
    k1s.in_state("a", "failed");
    let before = k1s.job("a");
    k1s.pid_of("b");
    assert_eq!(k1s.put("/job/b/kill").status, 200);
    kill(k1s);
    let new = "[job.a]\ntype = \"one-off\"\nexecutable = \"true\"\n[job.c]\ntype = \"one-off\"\n\
        executable = \"true\"";
    let k1s = declared(new).start();
    let a = k1s.in_state("a", "succeeded");
    assert_eq!(a["createdAt"], before["createdAt"]);
    assert_eq!(a["results"][0], before["results"][0]);
    assert_eq!((&a["results"][1]["run"], &a["executable"]), (&json!(2), &json!("true")));
    assert_eq!(k1s.get("/job/b").status, 404, "it is not declared any more");
    k1s.in_state("c", "succeeded");
}

#[test]
fn a_time_to_live_goes_on() {
    let start = with_state("os");
    let k1s = start.clone().start();
    k1s.create("brief", &with(one_off("true"), json!({"ttlSecondsAfterFinished": 1})));
    k1s.create("long", &with(one_off("true"), json!({"ttlSecondsAfterFinished": 1000})));
    k1s.results("long", 1);
    k1s.results("brief", 1);
    kill(k1s);
    let k1s = start.start();
    wait_until("it is gone", || k1s.get("/job/brief").status == 404);
    assert_eq!(k1s.get("/job/long").status, 200);
}

/// `k1s state` on this directory.
fn shown(directory: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    let mut shown = K1s::with().bare().argument("state").argument("-d").argument(directory);
    for option in options {
        shown = shown.argument(*option);
    }
    let shown = shown.run();
    (shown.code, shown.stdout, shown.stderr)
}

#[test]
fn a_directory_can_be_read_without_k1s_and_beside_it() {
    let start = with_state("os");
    let directory = start.dir().join("state");
    let k1s = start.clone().start();
    k1s.create("over", &one_off("echo hello; exit 3"));
    k1s.results("over", 1);
    k1s.create("web", &sleep());
    let pid = k1s.pid_of("web");
    k1s.create("cron", &json!({"type": "cron", "executable": "true", "schedule": "@yearly"}));
    let by_api = k1s.get("/").json();
    let (code, text, problems) = shown(&directory, &["--json"]);
    assert_eq!((code, problems.as_str()), (Some(0), ""));
    let by_state: Value = serde_json::from_str(&text).unwrap();
    for (one, other) in by_api.as_array().unwrap().iter().zip(by_state.as_array().unwrap()) {
        let without = |job: &Value| {
            let mut job = job.clone();
            job.as_object_mut().unwrap().remove("message");
            job
        };
        assert_eq!(without(one), without(other));
    }
    let (_, text, _) = shown(&directory, &[]);
    assert!(text.contains("over: failed: ended with exit code 3"), "{text}");
    assert!(text.contains("  run 1, 20"), "{text}");
    assert!(text.contains("web: running: has been running for"), "{text}");
    assert!(text.contains(&format!("as process {pid}")), "{text}");
    kill(k1s);
    send_signal(pid, Signal::SIGKILL);
    let file = segments(&directory).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(5).position(|five| five == b"hello").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, text, problems) = shown(&directory, &[]);
    assert_eq!(code, Some(1), "{problems}");
    assert!(problems.contains("state-1: damaged at offset"), "{problems}");
    assert!(text.contains("web: "), "{text}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "it changes nothing");
    let (code, _, problems) = shown(Path::new("/nowhere"), &[]);
    assert_eq!(code, Some(2));
    assert!(problems.contains("/nowhere"), "{problems}");
}

/// What is read of a state directory.
fn replayed(directory: &Path) -> Replay {
    let number = |path: &Path| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("state-")?.parse().ok()
    };
    let numbers: Vec<u64> = segments(directory).iter().filter_map(|path| number(path)).collect();
    let read = |number: u64, bytes: &mut Vec<u8>| {
        *bytes = fs::read(directory.join(format!("state-{number}"))).unwrap();
        Ok(())
    };
    replay(&numbers, read).unwrap()
}

/// The numbers that were not on the disk were given again.
#[test]
fn a_number_of_a_run_that_a_loss_of_power_may_have_taken_is_not_used_again() {
    let start = with_state("always");
    let directory = start.dir().join("state");
    let last_run = |boot: &str| {
        let (heritage, _) = replayed(&directory).into_heritage(boot, many::now(), |_| false);
        heritage.jobs[0].life.last_run
    };
    let k1s = start.clone().start();
    k1s.create("once", &one_off("true"));
    k1s.results("once", 1);
    kill(k1s);
    let boot = replayed(&directory).session.boot;
    assert_eq!(last_run(&boot), 1, "k1s alone was killed");
    assert!(last_run("another boot") > 1_000, "{}", last_run("another boot"));
    let k1s = start.clone().start();
    k1s.end();
    assert_eq!(last_run("another boot"), 1, "it has ended in order");
    let k1s = start.start();
    assert!(last_run("another boot") > 1_000, "another has begun");
    kill(k1s);
}

/// The start waited for a writer of the FIFO.
#[test]
fn a_segment_that_is_no_file_is_said() {
    let start = with_state("os");
    let directory = start.dir().join("state");
    kill(start.clone().start());
    let other = directory.join("state-7");
    let check = |what: &str, reason: &str| {
        let refused = start.clone().run();
        assert_eq!(refused.code, Some(2), "{what}: {}", refused.stderr);
        let said = format!("cannot read \"{}\": {reason}", other.display());
        assert!(refused.stderr.contains(&said), "{what}: {}", refused.stderr);
        let (code, _, problems) = shown(&directory, &[]);
        assert_eq!(code, Some(2), "{what}: {problems}");
    };
    let no_file = "is not a regular file";
    nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check("a FIFO", no_file);
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    check("a directory", no_file);
    fs::remove_dir(&other).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &other).unwrap();
    check("a link to a device", no_file);
    fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink("nowhere", &other).unwrap();
    check("a link to nothing", "");
    fs::remove_file(&other).unwrap();
    kill(start.start());
}

#[test]
fn a_directory_that_others_may_write_to_is_told() {
    for (mode, is_told) in [(0o755, false), (0o770, true), (0o777, true)] {
        let start = with_state("os");
        let directory = start.dir().join("state");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let (_, stderr) = start.start().end();
        let said = format!("has mode {mode:04o}: others can change or remove what is stored");
        assert_eq!(stderr.contains(&said), is_told, "{stderr}");
    }
}

#[test]
fn a_second_k1s_is_refused() {
    let start = with_state("os");
    let k1s = start.clone().start();
    let second = start.clone().run();
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains("in use by another k1s"), "{}", second.stderr);
    stays_true("the first goes on", std::time::Duration::from_millis(20), || {
        k1s.get("/healthz").status == 200
    });
}

#[test]
fn a_newer_format_and_a_directory_without_rights_are_refused() {
    let start = with_state("os");
    let directory = start.dir().join("state");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("state-1"), "k1s state 2\nwhatever").unwrap();
    let refused = start.clone().run();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("of a newer k1s"), "{}", refused.stderr);
    fs::remove_file(directory.join("state-1")).unwrap();
    let nowhere = K1s::with().env("K1S_STATE", "/proc/nowhere").run();
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.stderr.contains("/proc/nowhere"), "{}", nowhere.stderr);
    let empty = K1s::with().env("K1S_STATE", "").run();
    assert!(empty.stderr.contains("K1S_STATE"), "{}", empty.stderr);
}

/// The segments of a state directory, in order.
fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &Path| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("state-")?.parse().ok()
    };
    let mut numbered: Vec<_> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
    numbered.sort();
    numbered.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn a_torn_end_is_cut_and_damage_is_put_aside() {
    let start = with_state("os");
    let directory = start.dir().join("state");
    let k1s = start.clone().start();
    for number in 0..20 {
        k1s.create(&format!("j{number}"), &with(sleep(), json!({"autostart": false})));
    }
    kill(k1s);
    let last = segments(&directory).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, [&whole[..], b"\xf5k1\xa7torn"].concat()).unwrap();
    let k1s = start.clone().start();
    wait_until("the cut is told", || k1s.stderr().contains("cut 8 bytes"));
    assert_eq!(k1s.get("/").json().as_array().unwrap().len(), 20);
    kill(k1s);
    let mut bytes = fs::read(&last).unwrap();
    let at = bytes.windows(3).position(|three| three == b"j10").unwrap();
    bytes[at] ^= 1;
    fs::write(&last, bytes).unwrap();
    let k1s = start.clone().start();
    wait_until("the damage is told", || k1s.stderr().contains("the state is damaged"));
    let jobs = k1s.get("/").json().as_array().unwrap().len();
    assert_eq!(jobs, 19, "{}", k1s.stderr());
    let aside = || {
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_str().unwrap().starts_with("damaged-")).count()
    };
    wait_until("the damaged file is put aside", || aside() == 1);
    kill(k1s);
    let k1s = start.start();
    assert_eq!(k1s.get("/").json().as_array().unwrap().len(), 19);
    let (_, stderr) = k1s.end();
    assert!(!stderr.contains("damaged"), "{stderr}");
}

#[test]
fn a_segment_without_content_takes_nothing_with_it() {
    for content in ["", "k1s", "k1s state 1\n"] {
        let start = with_state("always");
        let k1s = start.clone().start();
        for number in 0..20 {
            k1s.create(&format!("j{number}"), &with(sleep(), json!({"autostart": false})));
        }
        kill(k1s);
        // The power was lost before more of it was on the disk.
        fs::write(start.dir().join("state/state-2"), content).unwrap();
        let k1s = start.clone().start();
        k1s.create("after", &with(sleep(), json!({"autostart": false})));
        let stderr = k1s.stderr();
        assert!(!stderr.contains("the disk has failed"), "{stderr}");
        kill(k1s);
        let k1s = start.start();
        assert_eq!(k1s.get("/").json().as_array().unwrap().len(), 21);
        let (_, stderr) = k1s.end();
        assert!(!stderr.contains("fail") && !stderr.contains("damage"), "{stderr}");
    }
}
