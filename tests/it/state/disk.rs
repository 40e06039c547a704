//! A disk that is slow, full or broken. Nothing that was answered is lost, and k1s goes on.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::{kill, with_state};
use crate::harness::{
    K1s, TempDir, continuous, is_alive, send_signal, skip, wait_for, wait_until, with,
};

/// How long a slow disk takes.
const SLOW: Duration = Duration::from_millis(500);

fn idle() -> Value {
    json!({"type": "continuous", "executable": "sleep", "arguments": ["1000"], "autostart": false})
}

/// An strace that is attached to k1s and its helpers, and disturbs one system call.
struct Disturbed(Child);

impl Disturbed {
    /// `what` as in strace(1): `error=EIO`; all such calls, or those for a file. The error is why it
    /// cannot be.
    fn begin(
        k1s: &K1s,
        call: &str,
        what: &str,
        file: Option<PathBuf>,
    ) -> Result<Disturbed, String> {
        if !geteuid().is_root() {
            return Err("k1s is not dumpable: root alone may trace it".to_owned());
        }
        let said = k1s.dir().join("strace.err");
        let child = Command::new("strace")
            .args(["-f", "-o", "/dev/null"])
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{what}")])
            .args(file.iter().flat_map(|file| [Path::new("-P"), file]))
            .args(["-p", &k1s.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .map_err(|error| format!("strace cannot be started: {error}"))?;
        let mut disturbed = Disturbed(child);
        let has_ended = wait_for("strace is attached, or has ended", || {
            let attached = fs::read_to_string(&said).unwrap().contains("attached");
            let ended = disturbed.0.try_wait().unwrap().is_some();
            (attached || ended).then_some(ended)
        });
        match has_ended {
            false => Ok(disturbed),
            true => Err(format!("strace: {}", fs::read_to_string(&said).unwrap().trim())),
        }
    }

    fn end(mut self) {
        send_signal(self.0.id(), Signal::SIGTERM);
        self.0.wait().unwrap();
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

macro_rules! disturb {
    ($k1s:expr, $call:expr, $what:expr) => {
        disturb!($k1s, $call, $what, None)
    };
    ($k1s:expr, $call:expr, $what:expr, $file:expr) => {
        match Disturbed::begin($k1s, $call, $what, $file) {
            Ok(disturbed) => disturbed,
            Err(reason) => skip!(reason),
        }
    };
}

#[test]
fn a_slow_disk_holds_up_only_those_who_wait_for_it() {
    let k1s = with_state("always").start();
    let delay = format!("delay_enter={}", SLOW.as_micros());
    let slow = disturb!(&k1s, "fdatasync", &delay);
    let begun = Instant::now();
    thread::scope(|scope| {
        let create = |id: &'static str| {
            let k1s = &k1s;
            scope.spawn(move || {
                k1s.create(id, &idle());
                begun.elapsed()
            })
        };
        let creations = ["a", "b", "c", "d"].map(create);
        // Each that waited for the disk would take as long as all of this.
        let mut asked = 0;
        while begun.elapsed() < SLOW {
            assert_eq!(k1s.get("/healthz").status, 200);
            asked += 1;
        }
        assert!(asked > 10, "{asked}");
        for creation in creations {
            let took = creation.join().unwrap();
            assert!(took >= SLOW, "it was answered before: {took:?}");
            assert!(took < 4 * SLOW, "all others go together: {took:?}");
        }
    });
    slow.end();
}

#[test]
fn what_a_failed_fdatasync_was_for_is_written_anew() {
    let start = with_state("always");
    let k1s = start.clone().start();
    k1s.create("before", &idle());
    let broken = disturb!(&k1s, "fdatasync", "error=EIO", Some(k1s.dir().join("state/state-1")));
    k1s.create("a", &idle());
    wait_until("it is said", || k1s.stderr().contains("writing it again to a new file"));
    k1s.create("b", &idle());
    broken.end();
    kill(k1s);
    let k1s = start.start();
    for id in ["before", "a", "b"] {
        assert_eq!(k1s.get(&format!("/job/{id}")).status, 200, "{id}");
    }
    let (_, stderr) = k1s.end();
    assert!(!stderr.contains("damaged"), "{stderr}");
}

/// They went at once: a loss of power could take everything, not only the last seconds.
#[test]
fn old_segments_stay_until_the_disk_has_what_replaces_them() {
    let k1s = with_state("os").start();
    let first = k1s.dir().join("state/state-1");
    let mut round = 0;
    let mut replace = || {
        round += 1;
        let job = with(idle(), json!({"labels": {"text": format!("{round:030000}")}}));
        let reply = k1s.request("PUT", "/job/a", job.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let broken = disturb!(&k1s, "fdatasync", "error=EIO");
    wait_until("old files should go", || {
        replace();
        k1s.stderr().contains("its old files stay")
    });
    (0..20).for_each(|_| replace());
    assert!(first.exists());
    broken.end();
    wait_until("they go", || {
        replace();
        !first.exists()
    });
}

#[test]
fn while_the_disk_fails_no_job_is_created_and_k1s_goes_on() {
    for (sync, call) in [("always", "fdatasync"), ("os", "pwrite64")] {
        let start = with_state(sync);
        let k1s = start.clone().start();
        k1s.create("before", &idle());
        let broken = disturb!(&k1s, call, "error=EIO");
        let reply = k1s.post("/job/a", &idle());
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.error().contains("was not created"), "{}", reply.error());
        let reply = k1s.post("/job/b", &idle());
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_eq!(k1s.get("/job/a").status, 404);
        let reply = k1s.put("/job/before/kill");
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.error().contains("was done"), "{}", reply.error());
        assert_eq!(k1s.job("before")["killRequested"], true);
        assert_eq!(k1s.get("/healthz").status, 200);
        wait_until("it is said", || k1s.stderr().contains("cannot be stored"));
        broken.end();
        wait_until("it is stored again", || k1s.stderr().contains("is stored again"));
        k1s.create("a", &idle());
        kill(k1s);
        let k1s = start.start();
        assert_eq!(k1s.job("before")["killRequested"], true, "{sync}");
        assert_eq!(k1s.get("/job/a").status, 200);
        assert_eq!(k1s.get("/job/b").status, 404);
    }
}

/// A job that is stored, though not safely, is there: it must not be said that it is not.
#[test]
fn a_job_that_may_come_back_was_not_refused() {
    let start = with_state("always");
    let k1s = start.clone().start();
    // Its run is noted with the second write, after that of the job.
    let broken = disturb!(&k1s, "pwrite64", "error=ENOSPC:when=2+");
    let mut job = idle();
    job["autostart"] = json!(true);
    let reply = k1s.post("/job/a", &job);
    let was_refused = reply.status == 503 && reply.error().contains("was not created");
    broken.end();
    kill(k1s);
    let k1s = start.start();
    let is_there = k1s.get("/job/a").status == 200;
    assert_eq!(is_there, !was_refused, "{}", reply.text());
}

/// What is written on a descriptor whose fdatasync has failed is lost.
#[test]
fn a_failed_fdatasync_without_space_for_another_file_loses_nothing() {
    let start = with_state("always");
    let k1s = start.clone().start();
    k1s.create("before", &idle());
    let directory = k1s.dir().join("state");
    // Another segment cannot be created where there is something already.
    let in_the_way: Vec<PathBuf> =
        (2..6).map(|number| directory.join(format!("state-{number}"))).collect();
    let broken = disturb!(&k1s, "fdatasync", "error=EIO", Some(directory.join("state-1")));
    in_the_way.iter().for_each(|path| fs::create_dir(path).unwrap());
    let reply = k1s.post("/job/a", &idle());
    assert_eq!(reply.status, 503, "{}", reply.text());
    broken.end();
    wait_until("it is stored again", || k1s.stderr().contains("is stored again"));
    k1s.create("b", &idle());
    assert!(directory.join("state-6").exists(), "not on the same descriptor");
    kill(k1s);
    in_the_way.iter().for_each(|path| fs::remove_dir(path).unwrap());
    let k1s = start.start();
    let jobs = k1s.get("/").json();
    let ids: Vec<&str> =
        jobs.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    let expected = if reply.error().contains("not created") {
        vec!["before", "b"]
    } else {
        vec!["before", "a", "b"]
    };
    assert_eq!(ids, expected);
    let (_, stderr) = k1s.end();
    assert!(!stderr.contains("damaged"), "{stderr}");
}

#[test]
fn a_reload_is_answered_when_what_it_has_changed_is_stored() {
    let k1s = with_state("always").start();
    let file = k1s.dir().join("k1s.toml");
    let before = fs::read_to_string(&file).unwrap();
    let declare = |id: &str| {
        let job = format!("[job.{id}]\ntype = \"one-off\"\nexecutable = \"true\"\n");
        fs::write(&file, format!("{before}\n{job}autostart = false\n")).unwrap();
    };
    let reload = |query: &str| {
        let asked = Instant::now();
        let reply = k1s.request("POST", &format!("/reload{query}"), b"");
        (reply, asked.elapsed())
    };
    declare("slow");
    let slow = disturb!(&k1s, "fdatasync", "delay_enter=500000");
    let (reply, took) = reload("?dryRun=true");
    assert_eq!((reply.status, &reply.json()["added"]), (200, &json!(["slow"])));
    assert!(took < Duration::from_millis(400), "it has nothing to store: {took:?}");
    let (reply, took) = reload("");
    assert_eq!((reply.status, &reply.json()["added"]), (200, &json!(["slow"])));
    assert!(took >= Duration::from_millis(450), "it was answered before: {took:?}");
    slow.end();
    declare("broken");
    let broken = disturb!(&k1s, "fdatasync", "error=EIO");
    let (reply, _) = reload("");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.error().contains("was done, but is not stored yet"), "{}", reply.error());
    broken.end();
    assert_eq!(k1s.get("/job/broken").status, 200);
}

/// A file system of its own, of so many bytes.
struct Small(TempDir);

impl Small {
    fn mount(options: &str) -> Result<Small, String> {
        let small = Small(TempDir::new());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(small.0.path())
            .output()
            .map_err(|error| format!("mount cannot be started: {error}"))?;
        match mounted.status.success() {
            true => Ok(small),
            false => Err(format!("mount: {}", String::from_utf8_lossy(&mounted.stderr).trim())),
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).stderr(Stdio::null()).status();
    }
}

macro_rules! small {
    ($options:expr) => {
        match Small::mount($options) {
            Ok(small) => small,
            Err(reason) => skip!(reason),
        }
    };
}

#[test]
fn without_space_no_job_is_created_and_results_wait() {
    let small = small!("size=400k");
    let start = K1s::with().config(&format!("[state]\ndirectory = {:?}", small.path()));
    let k1s = start.clone().start();
    k1s.create("runs", &json!({"type": "cron", "executable": "true", "schedule": "@yearly"}));
    fs::write(small.0.path().join("filler"), vec![0; 100_000]).unwrap();
    let large = json!({"type": "continuous", "executable": "true", "autostart": false,
        "arguments": ["x".repeat(20_000)]});
    let mut created = 0;
    let refused = loop {
        let reply = k1s.post(&format!("/job/j{created}"), &large);
        if reply.status != 200 {
            break reply;
        }
        created += 1;
        assert!(created < 100, "it never was full");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.error().contains("No space left"), "{}", refused.error());
    assert!(created > 3, "{created}");
    assert_eq!(k1s.get(&format!("/job/j{created}")).status, 404);
    let ran = k1s.put("/job/runs/run");
    assert_eq!(ran.status, 503, "{}", ran.text());
    k1s.results("runs", 1);
    fs::remove_file(small.0.path().join("filler")).unwrap();
    wait_until("it is stored again", || k1s.stderr().contains("is stored again"));
    k1s.create("after", &idle());
    kill(k1s);
    let k1s = start.start();
    assert_eq!(k1s.results("runs", 1)[0]["run"], 1);
    assert_eq!(k1s.get("/").json().as_array().unwrap().len(), created + 2);
    assert_eq!(k1s.get("/job/after").status, 200);
}

#[test]
fn a_file_system_that_is_read_only_or_full_is_no_place_to_start() {
    let small = small!("size=4k,ro");
    let start = K1s::with().env("K1S_STATE", small.path().to_str().unwrap());
    let refused = start.run();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
}

/// Takes all the space that is left.
fn fill(small: &Small) -> PathBuf {
    let filler = small.0.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    filler
}

#[test]
fn a_new_state_needs_space_to_start() {
    let small = small!("size=64k");
    let start = K1s::with().env("K1S_STATE", small.path().to_str().unwrap());
    let filler = fill(&small);
    let refused = start.clone().run();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("cannot write to the state directory"), "{}", refused.stderr);
    assert!(refused.stderr.contains("No space left"), "{}", refused.stderr);
    fs::remove_file(filler).unwrap();
    let k1s = start.start();
    k1s.create("a", &idle());
}

#[test]
fn a_k1s_that_starts_without_space_has_its_jobs_and_stores_what_happens_later() {
    let small = small!("size=400k");
    let directory = small.path();
    let start = K1s::with().env("K1S_STATE", directory.to_str().unwrap());
    let k1s = start.clone().start();
    k1s.create("before", &idle());
    // Only its environment says whose it is.
    let leaves = "setsid sleep 1000 & echo $! > left.tmp; mv left.tmp left; exec sleep 1000";
    k1s.create("going", &continuous(leaves));
    k1s.wait_for_file("left");
    let left = || {
        let text = fs::read_to_string(start.dir().join("left")).unwrap();
        text.trim().parse::<u32>().unwrap()
    };
    let first = left();
    end_a_page(&k1s, &directory.join("state-1"));
    kill(k1s);
    let filler = fill(&small);
    let k1s = start.clone().start();
    wait_until("it is said", || k1s.stderr().contains("cannot be stored: No space left"));
    assert_eq!(k1s.job("before")["state"], "idle");
    let refused = k1s.post("/job/more", &idle());
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.error().contains("No space left"), "{}", refused.error());
    assert_eq!(k1s.results("going", 1)[0]["reason"], "lost");
    let second = wait_for("it has begun again", || Some(left()).filter(|pid| *pid != first));
    assert!(!is_alive(first));
    fs::remove_file(filler).unwrap();
    wait_until("it is stored again", || k1s.stderr().contains("is stored again"));
    k1s.create("more", &idle());
    kill(k1s);
    let k1s = start.clone().start();
    assert_eq!(k1s.results("going", 2)[1]["reason"], "lost");
    wait_until("it is known who has started it", || !is_alive(second));
    for id in ["before", "more"] {
        assert_eq!(k1s.job(id)["state"], "idle");
    }
}

/// Creates a job so that there is hardly room after it in the last page of the segment.
fn end_a_page(k1s: &K1s, segment: &Path) {
    let size = || fs::metadata(segment).unwrap().len() as usize;
    let create = |id: &str, length: usize| {
        let before = size();
        let labels = json!({"text": "x".repeat(length)});
        k1s.create(id, &with(idle(), json!({"labels": labels})));
        size() - before
    };
    let more = create("page1", 200) - 200;
    let rest = 4096 - (size() + more + 20) % 4096;
    create("page2", if rest < 200 { rest + 4096 } else { rest });
    let room = 4096 - size() % 4096;
    assert!(room < 60, "{room}");
}
