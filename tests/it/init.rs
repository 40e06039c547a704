//! `k1s init`: the first process of a container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{
    BINARY, Builder, K1s, both_ways, continuous, is_alive, one_off, skip, wait_for, wait_until,
};

both_ways! {
    the_exit_code_is_that_of_the_command
    a_death_by_signal_is_128_and_its_number
    what_cannot_be_started_is_127_or_126
    every_signal_that_can_be_is_forwarded
    an_interrupt_is_for_the_command_alone
    a_terminate_is_forwarded_and_starts_the_clock
    a_second_terminate_kills
    signals_that_came_before_the_command_are_its_own
    the_other_jobs_are_stopped_when_the_command_ends
    a_critical_job_ends_the_container_with_its_code
    a_kill_of_the_command_begins_the_shutdown
    a_removal_of_the_command_begins_the_shutdown
    a_command_that_was_replaced_still_ends_the_container
    a_second_kill_of_the_command_does_not_wait
    standard_input_is_the_commands
    what_the_command_prints_is_passed_on_as_it_is
    a_terminal_is_the_commands
    job_control_works
    the_terminals_keys_and_size_reach_the_command_alone
}

// ---- Exit codes ----

fn init(start: Builder, script: &str) -> Builder {
    start.bare().without_port().init(&["sh", "-c", script])
}

fn the_exit_code_is_that_of_the_command(start: Builder) {
    for code in [0, 1, 2, 77, 126, 127, 128, 129, 137, 143, 254, 255] {
        let finished = init(start.clone(), &format!("exit {code}")).run();
        assert_eq!(finished.code, Some(code), "{finished:?}");
    }
}

#[test]
fn all_256_exit_codes_are_told() {
    let script = r#"code=0
        while [ $code -le 255 ]; do
            "$0" init -- sh -c "exit $code"
            got=$?
            [ $got -eq $code ] || echo "$got instead of $code"
            code=$((code + 1))
        done"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, BINARY]).env("K1S_SOCKET", "");
    shell.env_remove("PORT").env_remove("K1S_AUTH_TOKEN");
    let output = shell.output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

fn a_death_by_signal_is_128_and_its_number(start: Builder) {
    for number in [1, 2, 3, 6, 9, 10, 11, 13, 15, 31, 34, 64] {
        let script = format!("ulimit -c 0; kill -{number} $$");
        let finished = init(start.clone(), &script).run();
        assert_eq!(finished.code, Some(128 + number), "{finished:?}");
    }
}

fn what_cannot_be_started_is_127_or_126(start: Builder) {
    for (command, code) in [("/no/such/program", 127), ("no-such-program", 127), ("/", 126)] {
        let finished = start.clone().bare().without_port().init(&[command]).run();
        assert_eq!(finished.code, Some(code), "{finished:?}");
    }
}

/// Podman gives a container NOTIFY_SOCKET, on which its command is to report (`--sdnotify`).
#[test]
fn the_command_reports_to_the_manager_of_the_container_and_no_other_job_does() {
    let manager = |start: Builder| {
        let start = start.env("NOTIFY_SOCKET", "@manager").env("WATCHDOG_USEC", "1");
        start.env("WATCHDOG_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_PORT", "80")
    };
    let script = "env | grep -E 'NOTIFY|WATCHDOG|LISTEN' | sort";
    let finished = init(manager(K1s::with()), script).run();
    assert_eq!(finished.stdout, "LISTEN_PORT=80\nNOTIFY_SOCKET=@manager\n");
    let k1s = manager(K1s::with()).start();
    let result = k1s.run("x", &one_off(script));
    assert_eq!(result["stdout"], "LISTEN_PORT=80\n");
}

// ---- Signals ----

fn every_signal_that_can_be_is_forwarded(start: Builder) {
    let traps: String = FORWARDED.map(|s| format!("trap 'echo {s} >>got' {s}\n")).concat();
    let k1s = init(start, &format!("{traps} trap 'exit 9' TERM; {UP_AND_WAIT}")).launch();
    k1s.wait_for_file("up");
    let mut expected = Vec::new();
    for signal in FORWARDED {
        send(&k1s, signal);
        expected.push(signal.to_owned());
        wait_until(signal, || lines(&k1s.dir().join("got")) == expected);
    }
    send(&k1s, "TERM");
    assert_eq!(k1s.exit().0.code(), Some(9));
}

fn an_interrupt_is_for_the_command_alone(start: Builder) {
    let start = start.config(BESIDE);
    let k1s = start.clone().init(&["sh", "-c", &noting("INT")]).start();
    k1s.wait_for_file("up");
    let beside = k1s.process_of("beside");
    for count in 1..=3 {
        k1s.signal(Signal::SIGINT);
        wait_until("it came", || lines(&k1s.dir().join("got")).len() == count);
    }
    assert!(is_alive(beside));
    assert_eq!(k1s.job("main")["state"], "running");
    drop(k1s);
    let k1s = start.init(&["sleep", "1000"]).start();
    k1s.in_state("main", "running");
    k1s.signal(Signal::SIGINT);
    assert_eq!(k1s.exit().0.code(), Some(130));
}

fn a_terminate_is_forwarded_and_starts_the_clock(start: Builder) {
    let k1s = start
        .config("[shutdown]\ntimeout_seconds = 0.3")
        .config(BESIDE)
        .init(&["sh", "-c", &noting("TERM")])
        .start();
    k1s.wait_for_file("up");
    let processes = k1s.descendants();
    let dir = k1s.keep_dir();
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(137));
    assert_eq!(lines(&dir.path().join("got")), ["TERM"]);
    assert!(!processes.iter().any(|process| is_alive(process.pid)));
}

fn a_second_terminate_kills(start: Builder) {
    let k1s = start
        .config("[shutdown]\ntimeout_seconds = 3600")
        .init(&["sh", "-c", &noting("TERM")])
        .start();
    k1s.wait_for_file("up");
    k1s.signal(Signal::SIGTERM);
    wait_until("it was asked", || !lines(&k1s.dir().join("got")).is_empty());
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(137));
}

/// Blocked in the mask that k1s inherits, and pending when it starts.
const PENDING: [&str; 5] =
    ["env", "--block-signal", "sh", "-c", "kill -$SIGNAL $$; exec \"$0\" \"$@\""];

fn signals_that_came_before_the_command_are_its_own(start: Builder) {
    for (signal, code) in [("USR1", 138), ("INT", 130), ("HUP", 129), ("TERM", 143), ("40", 168)] {
        let start = start.clone().around(&PENDING).env("SIGNAL", signal);
        let finished = init(start, "exec sleep 1000").run();
        assert_eq!(finished.code, Some(code), "{signal}: {finished:?}");
    }
}

// ---- The other jobs, and the API ----

fn the_other_jobs_are_stopped_when_the_command_ends(start: Builder) {
    let other = "[job.other]\ntype = \"continuous\"\nexecutable = \"sh\"\narguments = [\"-c\", \
        \"trap 'sleep 0.1; echo >stopped; exit' TERM; echo >up; while :; do sleep 0.02; done\"]";
    let script = "while [ ! -e up ]; do sleep 0.01; done; exit 42";
    let k1s = start.config(other).init(&["sh", "-c", script]).launch();
    let dir = k1s.keep_dir();
    let (status, stderr) = k1s.exit();
    assert_eq!(status.code(), Some(42), "{stderr}");
    assert!(dir.path().join("stopped").exists());
}

fn a_critical_job_ends_the_container_with_its_code(start: Builder) {
    let critical = "[job.x]\ntype = \"one-off\"\nexecutable = \"sh\"\ncritical = true\n\
        arguments = [\"-c\", \"while [ ! -e up ]; do sleep 0.01; done; exit 42\"]";
    // The command is stopped, and notes it; the code is that of the job that ended it all.
    let command = format!("trap 'echo >stopped; exit 7' TERM; {UP_AND_WAIT}");
    let k1s = start.clone().config(critical).init(&["sh", "-c", &command]).launch();
    let dir = k1s.keep_dir();
    assert_eq!(k1s.exit().0.code(), Some(42));
    assert!(dir.path().join("stopped").exists());
    // The same without `init`.
    fs::remove_file(dir.path().join("up")).unwrap();
    let k1s = start.config(critical).start();
    k1s.create("y", &continuous("echo >up; exec sleep 1000"));
    assert_eq!(k1s.exit().0.code(), Some(42));
}

/// The command waits to be let go once it is asked to end; another job is asked meanwhile.
fn ends_side_by_side(start: Builder, ask: impl Fn(&K1s)) {
    let waits = "trap 'while [ ! -e go ]; do sleep 0.01; done; exit 5' TERM; \
        echo >up; while :; do sleep 0.02; done";
    let other = "[job.other]\ntype = \"continuous\"\nexecutable = \"sh\"\narguments = [\"-c\", \
        \"trap 'echo >asked; exit' TERM; echo >up-too; while :; do sleep 0.02; done\"]";
    let k1s = start.config(other).init(&["sh", "-c", waits]).start();
    k1s.wait_for_file("up");
    wait_until("up", || k1s.dir().join("up-too").exists());
    let main = k1s.process_of("main");
    ask(&k1s);
    k1s.wait_for_file("asked");
    assert!(is_alive(main));
    assert_eq!(k1s.post("/job/new", &one_off("true")).status, 503);
    fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(k1s.exit().0.code(), Some(5));
}

fn a_kill_of_the_command_begins_the_shutdown(start: Builder) {
    ends_side_by_side(start, |k1s| assert_eq!(k1s.put("/job/main/kill").status, 200));
}

fn a_removal_of_the_command_begins_the_shutdown(start: Builder) {
    ends_side_by_side(start, |k1s| {
        for _ in 0..2 {
            let reply = k1s.delete("/job/main");
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    });
}

fn a_command_that_was_replaced_still_ends_the_container(start: Builder) {
    let k1s = start.init(&["sleep", "1000"]).start();
    k1s.in_state("main", "running");
    let reply =
        k1s.request("PUT", "/job/main", one_off("sleep 0.2; exit 6").to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(k1s.exit().0.code(), Some(6));
}

fn a_second_kill_of_the_command_does_not_wait(start: Builder) {
    let k1s = start
        .config("[shutdown]\ntimeout_seconds = 3600")
        .init(&["sh", "-c", &noting("TERM")])
        .start();
    k1s.wait_for_file("up");
    k1s.put("/job/main/kill");
    wait_until("it was asked", || !lines(&k1s.dir().join("got")).is_empty());
    k1s.put("/job/main/kill");
    assert_eq!(k1s.exit().0.code(), Some(137));
}

#[test]
fn a_job_of_the_config_cannot_be_called_main() {
    let table = "[job.main]\ntype = \"continuous\"\nexecutable = \"true\"";
    let finished = K1s::with().config(table).init(&["true"]).run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("job.main"), "{}", finished.stderr);
    K1s::with().config(table).start().results("main", 1);
}

// ---- No open door ----

#[test]
fn who_asks_for_no_api_opens_no_door() {
    let waits = ["sh", "-c", "echo >up; exec sleep 1000"];
    let bare = || K1s::with().bare().without_port();
    let check = |start: Builder, expected: &[&str]| {
        let k1s = start.init(&waits).launch();
        k1s.wait_for_file("up");
        let Some(doors) = listening(k1s.pid()) else {
            return Some("the sockets of a process that is not dumpable are root's to see");
        };
        let hosts: Vec<&str> = doors.iter().map(|door| door.split(':').next().unwrap()).collect();
        assert_eq!(hosts, expected, "{doors:?}");
        assert_eq!(k1s.stderr().contains("listening"), !expected.is_empty());
        None
    };
    let any_port = |start: Builder| start.env("PORT", "0");
    let text = "[http]\nport = 0\n";
    for (start, expected) in [
        (bare(), &[][..]),
        (any_port(bare()), &[LOCAL_HOST]),
        (any_port(bare()).env("K1S_AUTH_TOKEN", "x"), &[ANY_HOST]),
        (bare().file("k1s.toml", text), &[LOCAL_HOST]),
        (bare().file("k1s.toml", &format!("{text}host = \"0.0.0.0\"")), &[LOCAL_HOST]),
        (bare().file("k1s.toml", &format!("{text}auth_token = \"x\"")), &[ANY_HOST]),
    ] {
        if let Some(reason) = check(start, expected) {
            skip!(reason);
        }
    }
}

// ---- Standard input and terminals ----

fn standard_input_is_the_commands(start: Builder) {
    let text = "x\n".repeat(500_000);
    let dir = start.dir().to_owned();
    let start = start.stdin(text.as_bytes());
    let _keep = start.clone();
    assert_eq!(init(start, "exec cat >copy").run().code, Some(0));
    assert_eq!(fs::read_to_string(dir.join("copy")).unwrap(), text);
}

fn what_the_command_prints_is_passed_on_as_it_is(start: Builder) {
    let start = start.stdin(b"x\n\0no newline");
    let finished = init(start, "cat; echo err >&2; exit 4").run();
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert_eq!(finished.stdout, "x\n\0no newline");
    assert!(finished.stderr.lines().any(|line| line == "err"), "{finished:?}");
}

fn a_terminal_is_the_commands(start: Builder) {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo \"on $(tty)\" && \
        test \"$(ps -o tpgid= -p $$)\" -eq $$ && exit 3";
    let k1s = init(start, script).on_terminal().launch();
    let (status, said) = finish(k1s);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("on /dev/pts/"), "{said}");
}

fn job_control_works(start: Builder) {
    check_job_control(start.on_terminal());
}

/// k1s does not lead the terminal's session, as when it is started from a shell's prompt: the
/// command takes its place in the foreground, and the shell gets that back.
#[test]
fn job_control_works_in_the_session_of_a_shell() {
    let shell = "trap '' INT; \"$0\" \"$@\"; code=$?; stat=$(cat /proc/$$/stat); \
        set -- ${stat##*)}; [ \"$3\" = \"$6\" ] || exit 99; exit $code";
    check_job_control(K1s::with().on_terminal().around(&["sh", "-c", shell]));
}

fn check_job_control(start: Builder) {
    let start = start.env("PS1", "ready> ").env("ENV", "");
    let k1s = start.bare().without_port().init(&["sh", "-i"]).launch();
    says(&k1s, "ready> ");
    k1s.terminal().type_in("echo $((40 + 2))\n");
    says(&k1s, "\n42");
    k1s.terminal().type_in("sleep 1000\n");
    let sleep = wait_for("sleep is in the foreground", || {
        let sleep = k1s.descendants().into_iter().find(|process| name(process.pid) == "sleep")?;
        (stat(sleep.pid).foreground == stat(sleep.pid).group).then_some(sleep.pid)
    });
    k1s.terminal().type_in("\x1a");
    wait_until("Ctrl-Z stops it", || stat(sleep).state == "T");
    k1s.terminal().type_in("fg\n");
    wait_until("fg wakes it", || stat(sleep).state == "S");
    k1s.terminal().type_in("\x03");
    wait_until("Ctrl-C ends it", || !is_alive(sleep));
    k1s.terminal().type_in("echo code=$?; exit 7\n");
    let (status, said) = finish(k1s);
    assert_eq!(status, Some(7), "{said}");
    assert!(said.contains("code=130"), "{said}");
}

fn the_terminals_keys_and_size_reach_the_command_alone(start: Builder) {
    let traps = "trap 'echo INT >>got' INT; trap 'stty size >>got' WINCH; trap 'exit 6' QUIT";
    let k1s = init(start, &format!("{traps}; {UP_AND_WAIT}")).on_terminal().launch();
    k1s.wait_for_file("up");
    let got = k1s.dir().join("got");
    assert_eq!(stat(k1s.pid()).terminal, 0, "k1s has no terminal that could signal it");
    for count in 1..=2 {
        k1s.terminal().type_in("\x03");
        wait_until("Ctrl-C comes, once", || lines(&got) == vec!["INT"; count]);
    }
    k1s.terminal().resize(33, 77);
    wait_until("the new size is seen", || lines(&got).last().is_some_and(|l| l == "33 77"));
    k1s.terminal().type_in("\x1c");
    let (status, said) = finish(k1s);
    assert_eq!(status, Some(6), "{said}");
}

/// Started by a shell, which keeps its terminal.
#[test]
fn the_terminal_of_another_session_is_left_to_it() {
    let script = format!("trap 'echo INT >>got; exit 5' INT; {UP_AND_WAIT}");
    let shell = ["sh", "-c", "trap '' INT; \"$0\" \"$@\"; exit $?"];
    let k1s = init(K1s::with().on_terminal().around(&shell), &script).launch();
    k1s.wait_for_file("up");
    k1s.terminal().type_in("\x03");
    let dir = k1s.keep_dir();
    let (status, said) = finish(k1s);
    assert_eq!(status, Some(5), "{said}");
    assert_eq!(lines(&dir.path().join("got")), ["INT"]);
}

/// A reader that is slow slows the command down, as a pipe between the two would.
#[test]
fn a_slow_reader_of_the_command_loses_nothing() {
    let script = "\"$0\" init -- seq 1 200000 | (read -r first; sleep 0.5; wc -l)";
    let shell = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_k1s")])
        .env("K1S_SOCKET", "")
        .env_remove("PORT")
        .env_remove("K1S_AUTH_TOKEN")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&shell.stdout).trim(), "199999");
    assert_eq!(String::from_utf8_lossy(&shell.stderr), "");
}

// ---- What the tests share ----

/// A command that notes a signal and goes on.
fn noting(signal: &str) -> String {
    format!("trap 'echo {signal} >>got' {signal}; {UP_AND_WAIT}")
}

/// By name or number.
fn send(k1s: &K1s, signal: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -{signal} {}", k1s.pid())]);
    assert!(kill.status().unwrap().success());
}

/// The complete lines of a file that is being written.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

fn says(k1s: &K1s, text: &str) {
    wait_until(text, || k1s.stdout().contains(text));
}

/// Waits for the end of a k1s on a terminal: its exit code, and all that was said there.
fn finish(k1s: K1s) -> (Option<i32>, String) {
    let (status, said) = k1s.exit_on_terminal();
    (status.code(), said)
}

/// What /proc/PID/stat says: proc_pid_stat(5).
struct Stat {
    state: String,
    group: i64,
    terminal: i64,
    foreground: i64,
}

fn stat(pid: u32) -> Stat {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index).map_or(0, |field| field.parse().unwrap());
    let state = fields.first().unwrap_or(&"").to_string();
    Stat { state, group: number(2), terminal: number(4), foreground: number(5) }
}

fn name(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}

/// The addresses at which a process listens, as /proc/net/tcp writes them; `None` where its
/// descriptors may not be seen.
pub(crate) fn listening(pid: u32) -> Option<Vec<String>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let own: BTreeSet<String> = links
        .filter_map(|link| {
            let link = link.to_str()?.to_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut sockets = BTreeMap::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            sockets.insert(fields[9].to_owned(), fields[1].to_owned());
        }
    }
    Some(own.iter().filter_map(|inode| sockets.get(inode).cloned()).collect())
}

const FORWARDED: [&str; 20] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "CONT", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "40",
];
const UP_AND_WAIT: &str = "echo >up; while :; do sleep 0.02; done";
const BESIDE: &str =
    "[job.beside]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]";
const LOCAL_HOST: &str = "0100007F";
const ANY_HOST: &str = "00000000";
