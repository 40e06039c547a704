//! What a run gets from k1s, however k1s itself was started.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, K1s, both_ways, may_become_others, one_off, skip, with};

both_ways! {
    a_run_starts_clean_however_k1s_was_started
    limits_are_those_that_k1s_was_started_with
    limits_umask_and_nice_are_the_jobs
    a_run_becomes_the_user_and_no_more
    standard_input_is_the_text_that_is_given
    without_standard_descriptors_k1s_works
    a_run_of_another_user_has_no_capability_of_a_k1s_that_is_not_root
}

/// What a one-off job of this program prints.
fn prints(k1s: &K1s, program: &[&str]) -> String {
    let id = format!("x{}", k1s.get("/").json().as_array().unwrap().len());
    let payload = json!({"type": "one-off", "executable": program[0], "arguments": &program[1..]});
    said(&k1s.run(&id, &payload))
}

fn said(result: &Value) -> String {
    assert_eq!(result["exitCode"], 0, "{result}");
    result["stdout"].as_str().unwrap().to_owned()
}

fn a_run_starts_clean_however_k1s_was_started(start: Builder) {
    let messy = [
        "env",
        "--ignore-signal=HUP,USR1,PIPE,CHLD",
        "--block-signal=TERM,USR2,RTMIN",
        "sh",
        "-c",
        "exec 3</dev/null 5</dev/null 9>/dev/null; exec \"$0\" \"$@\"",
    ];
    let k1s = start.around(&messy).start();
    let status = prints(&k1s, &["cat", "/proc/self/status"]);
    let fields: BTreeMap<&str, &str> =
        status.lines().filter_map(|line| line.split_once(":\t")).collect();
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(u64::from_str_radix(fields[mask], 16), Ok(0), "{mask}\n{status}");
    }
    // The fourth is what ls lists the directory with.
    assert_eq!(prints(&k1s, &["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
    assert_eq!(prints(&k1s, &["readlink", "/proc/self/fd/0"]), "/dev/null\n");
    let stat = prints(&k1s, &["cat", "/proc/self/stat"]);
    let words: Vec<&str> = stat.split(' ').collect();
    let [pid, group, session, terminal] = [words[0], words[4], words[5], words[6]];
    assert_eq!((group, session, terminal), (pid, pid, "0"), "{stat}");
    // And k1s, which was started with CHLD ignored and TERM blocked, still hears both.
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

fn limits_are_those_that_k1s_was_started_with(start: Builder) {
    let raise = ["sh", "-c", "echo 500 >/proc/self/oom_score_adj; umask 077; exec \"$0\" \"$@\""];
    let k1s = start.around(&["prlimit", "--nofile=100:200"]).around(&raise).start();
    assert_eq!(prints(&k1s, &["sh", "-c", "ulimit -n; ulimit -Hn; umask"]), "100\n200\n0077\n");
    assert_eq!(prints(&k1s, &["cat", "/proc/self/oom_score_adj"]), "500\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", k1s.pid())).unwrap();
    let nofile = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(nofile.split_whitespace().nth(3), Some("200"), "k1s raises its own");
}

fn limits_umask_and_nice_are_the_jobs(start: Builder) {
    let k1s = start.start();
    let script = "ulimit -n; ulimit -Hn; ulimit -c; umask; nice";
    let fields = json!({"limits": {"nofile": 64, "core": 0}, "umask": "027", "nice": 7});
    assert_eq!(said(&k1s.run("x", &with(one_off(script), fields))), "64\n64\n0\n0027\n7\n");
    let result = k1s.run("y", &with(one_off("true"), json!({"user": "no-such-user"})));
    assert_eq!((&result["exitCode"], &result["reason"]), (&json!(126), &json!("spawn-failed")));
    assert!(result["error"].as_str().unwrap().contains("no-such-user"), "{result}");
}

fn a_run_becomes_the_user_and_no_more(start: Builder) {
    if !may_become_others() {
        skip!("only root becomes somebody else");
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let nobody =
        passwd.lines().find(|line| line.starts_with("nobody:")).map(|line| line.split(':'));
    let Some(mut nobody) = nobody else { skip!("there is no user nobody here") };
    let (uid, gid) = (nobody.nth(2).unwrap(), nobody.next().unwrap());
    let home = nobody.nth(1).unwrap();
    // Groups of k1s's own are not the run's.
    let k1s = start.around(&["setpriv", "--groups=4,24"]).start();
    let script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME";
    let fields = json!({"user": "nobody", "workingDirectory": "/"});
    let expected = format!("{uid}\n{gid}\n{gid}\n{home} nobody nobody\n");
    assert_eq!(said(&k1s.run("x", &with(one_off(script), fields))), expected);
    let fields = json!({"user": "4711", "group": "4712", "workingDirectory": "/"});
    assert_eq!(said(&k1s.run("y", &with(one_off("id -u; id -G"), fields))), "4711\n4712\n");
    let alone = with(one_off("id -u; id -G"), json!({"group": "4712"}));
    assert!(said(&k1s.run("z", &alone)).starts_with("0\n4712"));
    // What it prints to may be opened again, as programs that log to /dev/stdout do.
    let script = "echo out >/dev/stdout && echo err >/dev/stderr";
    let fields = json!({"user": "nobody", "workingDirectory": "/"});
    let result = k1s.run("w", &with(one_off(script), fields));
    assert_eq!((said(&result).as_str(), &result["stderr"]), ("out\n", &json!("err\n")));
}

fn standard_input_is_the_text_that_is_given(start: Builder) {
    let k1s = start.http("max_body_bytes = 4194304").start();
    let text = "0123456789abcde\n".repeat(1 << 16);
    assert_eq!(text.len(), 1 << 20);
    let fields = json!({"stdin": text});
    k1s.run("x", &with(one_off("cat >copy; echo over"), fields.clone()));
    assert_eq!(fs::read_to_string(k1s.dir().join("copy")).unwrap(), text);
    // All of it for every run, also when the run before read none.
    k1s.run("y", &with(one_off("true"), fields));
    let again = with(one_off("read line; echo $line"), json!({"stdin": "a\nb\n"}));
    assert_eq!(said(&k1s.run("z", &again)), "a\n");
    k1s.put("/job/z/run");
    assert_eq!(said(&k1s.results("z", 2)[1]), "a\n");
}

fn without_standard_descriptors_k1s_works(start: Builder) {
    let job = "[job.x]\ntype = \"one-off\"\nexecutable = \"sh\"\n\
        arguments = [\"-c\", \"cat >in; echo out; echo $(ls /proc/self/fd) >fds; mv fds over\"]\n\
        stdin = \"text\"";
    let closed = ["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"];
    let k1s = start.config(job).around(&closed).launch();
    k1s.wait_for_file("over");
    assert_eq!(fs::read_to_string(k1s.dir().join("in")).unwrap(), "text");
    assert_eq!(fs::read_to_string(k1s.dir().join("over")).unwrap(), "0 1 2 3\n");
    k1s.signal(Signal::SIGTERM);
    assert_eq!(k1s.exit().0.code(), Some(0));
}

fn a_run_of_another_user_has_no_capability_of_a_k1s_that_is_not_root(start: Builder) {
    if !may_become_others() {
        skip!("only root gives capabilities to others");
    }
    let who = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let kept = ["--inh-caps=+setuid,+setgid", "--ambient-caps=+setuid,+setgid"];
    let k1s = start.around(&[&who[..], &kept].concat()).start();
    let script = "id -u; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status";
    let fields = json!({"user": "4712", "group": "4712", "workingDirectory": "/"});
    let expected: String =
        ["Inh", "Prm", "Eff", "Amb"].map(|set| format!("Cap{set}:\t{:016x}\n", 0)).concat();
    assert_eq!(said(&k1s.run("x", &with(one_off(script), fields))), format!("4712\n{expected}"));
}

/// A sandbox may refuse prlimit64(2): then k1s has raised nothing, and there is nothing to undo.
#[test]
fn where_limits_cannot_be_read_jobs_start() {
    let trace = ["strace", "-D", "-f", "-o", "strace.log", "-e", "trace=prlimit64"];
    let refuse = ["-e", "inject=prlimit64:error=EPERM"];
    let words: Vec<&str> = trace.into_iter().chain(refuse).collect();
    let probe = std::process::Command::new("strace")
        .args(["-o", "/dev/null", "-e", "inject=prlimit64:error=EPERM", "true"])
        .output();
    match probe {
        Err(error) => skip!(format!("strace cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            skip!(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => {}
    }
    let k1s = K1s::with().around(&words).start();
    assert_eq!(prints(&k1s, &["echo", "it runs"]), "it runs\n");
    let log = fs::read_to_string(k1s.dir().join("strace.log")).unwrap();
    assert!(log.contains("(INJECTED)"), "{log}");
}

/// Writing to `/proc/1/fd/1` is common in containers, but no job may read a token. In /proc, a
/// process that is not dumpable belongs to root: proc(5).
#[test]
fn proc_shows_a_k1s_that_holds_no_token_alone() {
    if !may_become_others() {
        skip!("only root starts k1s as somebody else");
    }
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let owners = |k1s: &K1s| {
        ["fd", "environ"]
            .map(|name| fs::metadata(format!("/proc/{}/{name}", k1s.pid())).unwrap().uid())
    };
    let start = || {
        let start = K1s::with().around(&user).init(&["sh", "-c", "echo >up; exec sleep 1000"]);
        fs::set_permissions(start.dir(), Permissions::from_mode(0o777)).unwrap();
        start
    };
    let k1s = start().bare().without_port().launch();
    k1s.wait_for_file("up");
    assert_eq!(owners(&k1s), [4711; 2], "it has no token");
    let k1s = start().start();
    assert_eq!(owners(&k1s), [0; 2], "it has one");
}
