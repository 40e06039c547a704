//! Tests with real processes, and with smaller shares than those of a turn.

use super::*;
use crate::job::{self, JobId, Spelling, Value};
use crate::os::testing::in_own_process;
use crate::supervisor::Settings;
use crate::time::Now;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// A run of a supervisor without a living process.
fn run() -> (Supervisor, RunKey, String) {
    let settings = Settings::for_tests();
    let mut supervisor = Supervisor::new(settings, Now::default());
    let text = |text: &str| Value::String(text.to_owned());
    let fields = [("type", text("one-off")), ("executable", text("true"))];
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let spec = job::parse(Value::Table(fields), "/", Spelling::Camel).unwrap();
    supervisor.create(JobId::parse("x").unwrap(), spec, Now::default()).unwrap();
    let run = supervisor.poll_spawn().unwrap().run;
    (supervisor, run, run.tag().text("k", &JobId::parse("x").unwrap()))
}

fn pid_of(child: &Child) -> Pid {
    Pid(i32::try_from(child.id()).unwrap())
}

fn shell(script: &str, tag: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("K1S_RUN", tag);
    command
}

/// Waits until they execute `sleep`, since their marks cannot be read before that.
fn sleepers(count: usize, start: impl Fn() -> Command) -> Vec<Child> {
    let children: Vec<_> = (0..count).map(|_| start().spawn().unwrap()).collect();
    for child in &children {
        let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        while name() != "sleep\n" {
            std::thread::yield_now();
        }
    }
    children
}

/// The id of a group whose leader has ended, and its `members`.
fn group(start: impl Fn() -> Command) -> (Pid, Child) {
    let mut leader = Command::new("true").process_group(0).spawn().unwrap();
    let group = pid_of(&leader);
    let mut member = sleepers(1, || {
        let mut command = start();
        command.process_group(group.0);
        command
    });
    leader.wait().unwrap();
    (group, member.remove(0))
}

fn end(leftovers: &mut Leftovers, child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
    leftovers.forget(pid_of(child));
}

/// All 4,000 leftovers of a job were signalled in one turn, which took 0.2 s.
#[test]
fn leftovers_are_signalled_a_share_a_turn() {
    let name = "daemon::leftovers::tests::leftovers_are_signalled_a_share_a_turn";
    in_own_process(name, || {
        let (supervisor, run, tag) = run();
        let children = sleepers(20, || shell("exec sleep 1000", &tag));
        let mut leftovers = Leftovers::new("k");
        let owner = Owner::Run(run);
        leftovers.stop(Stop { leader: None, owner, signal: Signal::TERM });
        let mut turns = 0;
        while leftovers.has_more() || leftovers.wants_look() {
            leftovers.go_on_by(&mut 6, &[], true, &supervisor);
            turns += 1;
            let asked = leftovers.stops[&Key::of(owner)].asked.len();
            assert!(asked <= 6 * turns, "{asked} in {turns} turns");
        }
        for mut child in children {
            assert!(!child.wait().unwrap().success(), "it was asked to end");
        }
    });
}

/// For each group that was surveyed all orphans were looked at: 1,000 of each took 10 s.
#[test]
fn one_look_does_for_all_groups() {
    let name = "daemon::leftovers::tests::one_look_does_for_all_groups";
    in_own_process(name, || {
        let (supervisor, run, tag) = run();
        let groups = (0..10).map(|_| group(|| shell("exec sleep 1000", &tag)));
        let (groups, members): (Vec<_>, Vec<_>) = groups.unzip();
        let surveys: Vec<_> = groups.iter().map(|leader| (run, Target::Group(*leader))).collect();
        let mut leftovers = Leftovers::new("k");
        let mut share = 1000;
        let answers = leftovers.go_on_by(&mut share, &surveys, true, &supervisor);
        assert_eq!(answers, [Left::Something; 10]);
        assert!(share >= 1000 - 12, "the look, and each orphan once: {share}");
        for mut member in members {
            end(&mut leftovers, &mut member);
        }
        let answers = leftovers.go_on_by(&mut share, &surveys, true, &supervisor);
        assert_eq!(answers, [Left::Nothing; 10]);
    });
}

#[test]
fn a_group_has_members_below_orphans_but_zombies_are_none() {
    let name = "daemon::leftovers::tests::a_group_has_members_below_orphans_but_zombies_are_none";
    in_own_process(name, || {
        let (supervisor, run, tag) = run();
        for (member, left) in [("sleep 1000", Left::Something), ("true", Left::Nothing)] {
            // The orphan has left the group; its child has not, and is not collected.
            let script = format!("{member} & exec setsid sleep 1000");
            let (group, mut orphan) = group(|| shell(&script, &tag));
            let mut leftovers = Leftovers::new("k");
            let survey = [(run, Target::Group(group))];
            let answer = |leftovers: &mut Leftovers| {
                let mut answers = Vec::new();
                while answers.is_empty() {
                    answers = leftovers.go_on_by(&mut 1, &survey, true, &supervisor);
                }
                answers
            };
            // It takes a moment to become a zombie.
            while answer(&mut leftovers) != [left] {
                assert_eq!(left, Left::Nothing);
            }
            signalling::signal_group(group, Signal::KILL);
            end(&mut leftovers, &mut orphan);
        }
    });
}

/// An orphan that ended during a look may have left others, which the look did not see.
#[test]
fn an_orphan_that_is_reaped_during_a_look_counts_as_left() {
    let name = "daemon::leftovers::tests::an_orphan_that_is_reaped_during_a_look_counts_as_left";
    in_own_process(name, || {
        let (supervisor, run, tag) = run();
        let target = Target::Tree { leader: None, owner: Owner::Run(run) };
        for is_read in [true, false] {
            let mut child = sleepers(1, || shell("exec sleep 1000", &tag)).remove(0);
            // Its mark is read last.
            let mut others = sleepers(1, || shell("exec sleep 1000", "another's")).remove(0);
            let mut leftovers = Leftovers::new("k");
            let survey = [(run, target.clone())];
            let go_on = |leftovers: &mut Leftovers, share| {
                leftovers.go_on_by(&mut { share }, &survey, true, &supervisor)
            };
            let share = if is_read { 2 } else { 1 };
            assert!(go_on(&mut leftovers, share).is_empty(), "the look is not over");
            assert_eq!(leftovers.orphans.contains_key(&pid_of(&child)), is_read);
            end(&mut leftovers, &mut child);
            assert_eq!(go_on(&mut leftovers, 100), [Left::Something], "{is_read}");
            end(&mut leftovers, &mut others);
            let mut answers = vec![Left::Something];
            while answers == [Left::Something] {
                answers = go_on(&mut leftovers, 100);
            }
            assert_eq!(answers, [Left::Nothing]);
        }
    });
}

/// Each unsure look sent SIGKILL again, as to a process that it had missed, and so counted as the
/// first unsure one again: the stop did not end.
#[test]
fn a_signal_does_not_make_earlier_looks_void() {
    let (supervisor, run, _) = run();
    let owner = Owner::Run(run);
    let target = Target::Tree { leader: None, owner };
    let mut leftovers = Leftovers::new("k");
    let mut looks = 0;
    loop {
        let hidden = [(Proc { pid: Pid(1), start_time: 0 }, Membership::Hidden)];
        let census = Census::take(hidden.into_iter(), &[], std::iter::empty);
        let stage = Stage::Over { census, groups: BTreeSet::new() };
        looks += 1;
        if leftovers.left_of(&target, &stage, &supervisor) == Left::Unseen {
            break;
        }
        assert!(looks < MOST_UNSURE, "it does not end");
        leftovers.stop(Stop { leader: None, owner, signal: Signal::KILL });
        leftovers.signal_begun(&mut 100, &supervisor);
    }
    assert_eq!(looks, MOST_UNSURE);
}
