//! The size of a state directory: at most twice what counts, and 1 MiB, also while old segments are
//! emptied.
//!
//! They go when the disk has what replaces them. With `always` the next request waits for that, too;
//! with `os` a slow disk may keep them longer than that.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{kill, segments, with_state};
use crate::harness::{K1s, wait_until};

fn size(directory: &Path) -> u64 {
    let sizes = segments(directory).into_iter().filter_map(|path| fs::metadata(path).ok());
    sizes.map(|it| it.len()).sum()
}

/// The largest size that is seen while something is done.
fn largest_while(directory: &Path, does: impl FnOnce()) -> u64 {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut largest = 0;
            while !is_over.load(Ordering::Relaxed) {
                largest = largest.max(size(directory));
            }
            largest
        });
        does();
        is_over.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    })
}

/// The most if `live` bytes count.
fn bound(live: u64) -> u64 {
    2 * live + (1 << 20)
}

fn put(k1s: &K1s, id: u64, job: &Value) {
    let reply = k1s.request("PUT", &format!("/job/j{id}"), job.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn job(round: u64, length: usize) -> Value {
    json!({"type": "cron", "executable": "true", "schedule": "@yearly",
        "arguments": ["x".repeat(length), round.to_string()]})
}

#[test]
fn the_directory_is_at_most_twice_as_large_as_what_counts() {
    for (sync, jobs, rounds) in [("os", 10, 12), ("os", 200, 3), ("always", 60, 4)] {
        let start = with_state(sync);
        let directory = start.dir().join("state");
        let (length, live) = (20_000, jobs * 20_000);
        let k1s = start.clone().start();
        (0..jobs).for_each(|id| put(&k1s, id, &job(0, length)));
        let put = |id: u64, round: u64| {
            put(&k1s, id, &job(round, length));
            if sync == "os" {
                wait_until("it is small enough", || size(&directory) <= bound(live));
            }
        };
        let largest = largest_while(&directory, || {
            for round in 1..=rounds {
                // In another order each time, as segments have something of any job.
                for id in 0..jobs {
                    put((id * (2 * round + 1) * 7 + round) % jobs, round);
                }
                (0..jobs).for_each(|id| put(id, round));
            }
        });
        assert!(sync == "os" || largest <= bound(live), "{largest} bytes for {live}");
        assert!(size(&directory) > live);
        kill(k1s);
        let k1s = start.start();
        wait_until("it is small enough", || size(&directory) <= bound(live));
        for id in 0..jobs {
            assert_eq!(k1s.job(&format!("j{id}"))["arguments"][1], rounds.to_string());
        }
        (1..jobs).for_each(|id| assert_eq!(k1s.delete(&format!("/job/j{id}")).status, 200));
        wait_until("jobs that are gone take no space", || size(&directory) <= bound(20_000));
        assert_eq!(k1s.job("j0")["arguments"][1], rounds.to_string());
    }
}

#[test]
fn results_that_are_not_kept_any_more_take_no_space() {
    let start = with_state("always");
    let directory = start.dir().join("state");
    let k1s = start.start();
    let job = json!({"type": "cron", "executable": "sh", "schedule": "@yearly",
        "arguments": ["-c", "head -c 40000 /dev/zero | tr '\\0' x"],
        "output": {"historyLimit": 2, "forward": false}});
    (0..10).for_each(|id| put(&k1s, id, &job));
    let run = |run: u64| {
        (0..10).for_each(|id| assert_eq!(k1s.put(&format!("/job/j{id}/run")).status, 200));
        for id in 0..10 {
            wait_until("it has run", || {
                k1s.job(&format!("j{id}"))["results"]
                    .as_array()
                    .unwrap()
                    .last()
                    .is_some_and(|result| result["run"] == run)
            });
        }
    };
    (1..=2).for_each(run);
    let largest = largest_while(&directory, || (3..=12).for_each(run));
    let live = 10 * 2 * 40_000;
    assert!(largest > live && largest <= bound(live), "{largest} bytes for {live}");
}
