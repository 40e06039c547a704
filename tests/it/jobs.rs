//! What the fields of a job mean for its process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    K1s, continuous, cron, is_alive, milliseconds, one_off, skip, stays_true, wait_for, wait_until,
    with,
};

// ---- Exit codes ----

#[test]
fn exit_codes_are_those_of_a_shell() {
    let k1s = K1s::start();
    for (id, script, code, signal, reason, state) in [
        ("zero", "exit 0", 0, None, "exited", "succeeded"),
        ("one", "exit 1", 1, None, "exited", "failed"),
        ("most", "exit 255", 255, None, "exited", "failed"),
        ("kill", "kill -KILL $$", 137, Some("SIGKILL"), "signaled", "failed"),
        ("term", "kill -TERM $$", 143, Some("SIGTERM"), "signaled", "failed"),
        ("segv", "ulimit -c 0; kill -SEGV $$", 139, Some("SIGSEGV"), "signaled", "failed"),
    ] {
        let result = k1s.run(id, &one_off(script));
        assert_eq!(
            (&result["exitCode"], &result["signal"], &result["reason"]),
            (&json!(code), &json!(signal), &json!(reason)),
            "{script}"
        );
        assert_eq!(k1s.job(id)["state"], state, "{script}");
    }
}

#[test]
fn what_cannot_be_started_says_which_step_failed() {
    let k1s = K1s::start();
    let file = |name: &str, text: &str, mode: u32| {
        let path = k1s.dir().join(name);
        write_program(&path, text, mode);
        path.to_str().unwrap().to_owned()
    };
    let no_permission = file("no-permission", "#!/bin/sh\n", 0o644);
    let no_interpreter = file("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    let no_format = file("no-format", "\u{1}\u{2}not a program", 0o755);
    let missing = k1s.dir().join("missing");
    let cases = [
        (json!({"executable": "no-such-program-anywhere"}), 127, "executable"),
        (json!({"executable": "/no/such/program"}), 127, "executable"),
        (json!({"executable": "./missing"}), 127, "executable"),
        (json!({"executable": no_interpreter}), 127, "interpreter"),
        (json!({"executable": no_permission}), 126, "executable"),
        (json!({"executable": no_format}), 126, "executable"),
        (json!({"executable": k1s.dir()}), 126, "executable"),
        (json!({"executable": "true", "workingDirectory": missing}), 126, "working directory"),
        (
            json!({"executable": "true", "workingDirectory": no_permission}),
            126,
            "working directory",
        ),
    ];
    for (number, (fields, code, step)) in cases.into_iter().enumerate() {
        let result =
            k1s.run(&format!("x{number}"), &with(json!({"type": "one-off"}), fields.clone()));
        assert_eq!(result["exitCode"], code, "{fields}");
        assert_eq!(result["reason"], "spawn-failed", "{fields}");
        assert_eq!(result["signal"], Value::Null, "{fields}");
        let error = result["error"].as_str().unwrap();
        assert!(error.contains(step), "{fields}: {error}");
        assert_eq!(k1s.job(&format!("x{number}"))["state"], "failed", "{fields}");
    }
    wait_until("nothing is left of a failed start", || k1s.descendants().is_empty());
}

#[test]
fn a_run_that_starts_has_no_error() {
    let k1s = K1s::start();
    assert!(k1s.run("x", &one_off("exit 127")).get("error").is_none_or(Value::is_null));
}

#[test]
fn other_exit_codes_may_be_success() {
    let k1s = K1s::start();
    let payload =
        |code| with(one_off(&format!("exit {code}")), json!({"successExitCodes": [0, 75]}));
    for (id, code, state) in [("a", 75, "succeeded"), ("b", 0, "succeeded"), ("c", 1, "failed")] {
        k1s.run(id, &payload(code));
        assert_eq!(k1s.job(id)["state"], state, "{code}");
    }
    let only = with(one_off("exit 0"), json!({"successExitCodes": [3]}));
    k1s.run("d", &only);
    assert_eq!(k1s.job("d")["state"], "failed");
}

// ---- What a run inherits ----

#[test]
fn the_environment_is_laid_over_that_of_k1s() {
    let k1s = K1s::with()
        .env("FROM_K1S", "kept")
        .env("TO_CHANGE", "before")
        .env("K1S_AUTH_TOKEN", "a-secret-of-the-environment")
        .env("K1S_OTHER", "x")
        .token("a-secret-of-the-environment")
        .start();
    let payload = with(
        one_off("env"),
        json!({"environment": {"TO_CHANGE": "after", "EMPTY": "", "WIDE": "ü = 2"}}),
    );
    let output = k1s.run("x", &payload)["stdout"].as_str().unwrap().to_owned();
    let lines: Vec<&str> = output.lines().collect();
    for expected in ["FROM_K1S=kept", "TO_CHANGE=after", "EMPTY=", "WIDE=ü = 2", "K1S_JOB=x"] {
        assert!(lines.contains(&expected), "{expected} in {output}");
    }
    for unexpected in ["K1S_AUTH_TOKEN", "K1S_OTHER", "a-secret-of", "TO_CHANGE=before"] {
        assert!(!output.contains(unexpected), "{unexpected} in {output}");
    }
}

#[test]
fn a_cleared_environment_holds_what_is_given_and_the_names_of_the_run() {
    let k1s = K1s::with().env("FROM_K1S", "x").start();
    let payload = json!({
        "type": "one-off",
        "executable": "env",
        "environment": {"A": "1"},
        "clearEnvironment": true,
    });
    let output = k1s.run("x", &payload)["stdout"].as_str().unwrap().to_owned();
    let mut names: Vec<&str> = output.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "K1S_JOB", "K1S_RUN"]);
}

#[test]
fn every_run_has_a_name_of_its_own() {
    let k1s = K1s::start();
    let script = "echo $K1S_JOB $K1S_RUN";
    k1s.create("x", &with(continuous(script), json!({"restart": {"initialDelayMs": 1}})));
    let mut outputs: Vec<String> = k1s.results("x", 3).iter().map(text_of_stdout).collect();
    for (index, output) in outputs.iter().enumerate() {
        let (job, run) = output.trim().split_once(' ').unwrap();
        assert_eq!(job, "x");
        assert!(run.ends_with(&format!(".x.{}", index + 1)), "{run}");
    }
    k1s.delete("/job/x");
    outputs.push(text_of_stdout(&k1s.run("x", &one_off(script))));
    let another = K1s::start();
    outputs.push(text_of_stdout(&another.run("x", &one_off(script))));
    let count = outputs.len();
    outputs.sort_unstable();
    outputs.dedup();
    assert_eq!(outputs.len(), count, "also after a removal, also of another k1s: {outputs:?}");
}

#[test]
fn a_job_cannot_give_itself_another_name() {
    let k1s = K1s::start();
    for name in ["K1S_JOB", "K1S_RUN"] {
        let payload = with(one_off("env"), json!({"environment": {name: "forged"}}));
        let reply = k1s.post("/job/x", &payload);
        assert_eq!(reply.status, 400, "{name}");
        assert!(reply.error().contains(name), "{}", reply.text());
    }
}

#[test]
fn the_working_directory_is_where_the_run_is() {
    let k1s = K1s::start();
    fs::create_dir(k1s.dir().join("sub")).unwrap();
    let sub = format!("{}/sub", k1s.dir().display());
    write_program(Path::new(&format!("{sub}/tool")), "#!/bin/sh\npwd -P\n", 0o755);
    let pwd = |id, directory: &str| {
        let payload = with(one_off("pwd -P"), json!({"workingDirectory": directory}));
        let stdout = text_of_stdout(&k1s.run(id, &payload));
        let shown = k1s.job(id)["workingDirectory"].as_str().unwrap().to_owned();
        assert!(shown.starts_with('/'), "{shown}");
        assert_eq!(fs::canonicalize(shown).unwrap(), Path::new(stdout.trim()));
        stdout
    };
    assert_eq!(pwd("absolute", &sub), format!("{sub}\n"));
    assert_eq!(pwd("relative", "sub"), format!("{sub}\n"));
    assert_eq!(pwd("dots", "sub/../sub/."), format!("{sub}\n"));
    let by_path = json!({"type": "one-off", "executable": "./tool", "workingDirectory": sub});
    assert_eq!(k1s.run("tool", &by_path)["stdout"], format!("{sub}\n"));
}

#[test]
fn an_executable_is_looked_up_in_the_path_of_the_job() {
    let k1s = K1s::start();
    for (dir, text) in [("a", "#!/bin/sh\necho a\n"), ("b", "#!/bin/sh\necho b\n")] {
        fs::create_dir(k1s.dir().join(dir)).unwrap();
        write_program(&k1s.dir().join(dir).join("tool-of-the-test"), text, 0o755);
    }
    write_program(&k1s.dir().join("a/only-in-b"), "", 0o644);
    write_program(&k1s.dir().join("b/only-in-b"), "#!/bin/sh\necho b\n", 0o755);
    let dir = k1s.dir().display();
    let path = format!("{dir}/missing:{dir}/a:{dir}/b");
    let payload = |executable: &str| json!({"type": "one-off", "executable": executable, "environment": {"PATH": path}});
    assert_eq!(k1s.run("first", &payload("tool-of-the-test"))["stdout"], "a\n");
    assert_eq!(k1s.run("later", &payload("only-in-b"))["stdout"], "b\n");
    let without = json!({"type": "one-off", "executable": "tool-of-the-test"});
    assert_eq!(k1s.run("without", &without)["exitCode"], 127);
}

#[test]
fn arguments_are_handed_over_as_they_are() {
    let k1s = K1s::start();
    let arguments = ["%s|", "a b", "", "$HOME", "*", "; exit 1", "\"'\\", "ü\n"];
    let payload = json!({"type": "one-off", "executable": "printf", "arguments": arguments});
    assert_eq!(k1s.run("x", &payload)["stdout"], "a b||$HOME|*|; exit 1|\"'\\|ü\n|");
}

#[test]
fn a_run_is_a_session_with_three_fds_and_clean_signals() {
    let k1s = K1s::start();
    let payload = one_off(
        "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; cat /proc/$$/stat; cat /proc/self/status; cat",
    );
    let output = text_of_stdout(&k1s.run("x", &payload));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["0", "1", "2"], "{output}");
    let stat: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(stat[0], stat[4], "it leads its process group: {}", lines[3]);
    assert_eq!(stat[0], stat[5], "it leads its session: {}", lines[3]);
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = lines.iter().find(|line| line.starts_with(mask)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

#[test]
fn a_job_of_the_same_user_cannot_read_the_token() {
    if nix::unistd::geteuid().is_root() {
        skip!("root may read the environment of any process");
    }
    let k1s = K1s::with().env("K1S_AUTH_TOKEN", "not-for-jobs").token("not-for-jobs").start();
    let result = k1s.run("x", &one_off("cat /proc/$PPID/environ"));
    assert_ne!(result["exitCode"], 0);
    assert!(!text_of_stdout(&result).contains("not-for-jobs"));
}

// ---- Restarting ----

#[test]
fn the_first_restart_comes_at_once_and_the_next_is_delayed() {
    let k1s = K1s::start();
    let delays = json!({"restart": {"initialDelayMs": 3_600_000, "maxDelayMs": 3_600_000}});
    k1s.create("x", &with(continuous("exit 1"), delays));
    let job = k1s.in_state("x", "backoff");
    assert_eq!(job["results"].as_array().unwrap().len(), 2, "{job}");
    assert_eq!((&job["restarts"], &job["pid"]), (&json!(1), &Value::Null));
    assert!(job["nextRunAt"].is_string(), "{job}");
    assert_eq!(k1s.put("/job/x/kill").status, 200);
    assert_eq!(k1s.in_state("x", "killed")["nextRunAt"], Value::Null);
}

#[test]
fn delays_grow_from_run_to_run() {
    let k1s = K1s::start();
    let delays = json!({"restart": {"initialDelayMs": 20, "factor": 4, "maxDelayMs": 3_600_000}});
    k1s.create("x", &with(continuous("exit 1"), delays));
    let results = k1s.results("x", 5);
    let gaps: Vec<i64> = results
        .windows(2)
        .map(|pair| milliseconds(&pair[1]["startedAt"]) - milliseconds(&pair[0]["finishedAt"]))
        .collect();
    for (gap, at_least) in gaps.iter().zip([0, 20, 80, 320]) {
        // Both times are rounded to a millisecond.
        assert!(*gap + 1 >= at_least, "{gaps:?}");
    }
}

#[test]
fn a_job_that_cannot_be_started_waits_also_without_a_delay() {
    let k1s = K1s::start();
    let payload = json!({
        "type": "continuous",
        "executable": "/no/such/program",
        "restart": {"initialDelayMs": 0},
    });
    k1s.create("x", &payload);
    let results = k1s.results("x", 4);
    let gap = milliseconds(&results[3]["startedAt"]) - milliseconds(&results[2]["finishedAt"]);
    assert!(gap + 1 >= 100, "{gap}");
}

#[test]
fn a_limit_on_restarts_ends_the_job() {
    let k1s = K1s::start();
    let limit = json!({"restart": {"initialDelayMs": 1, "maxRestarts": 2}});
    k1s.create("x", &with(continuous("exit 1"), limit));
    let job = k1s.in_state("x", "failed");
    assert_eq!(job["results"].as_array().unwrap().len(), 3, "{job}");
    assert_eq!(job["restarts"], 2);
}

#[test]
fn without_restart_on_failure_the_first_failure_ends_the_job() {
    let k1s = K1s::start();
    let flag = json!({"restartOnFailure": false, "restart": {"initialDelayMs": 1}});
    let script = "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; [ $n -lt 2 ]";
    for (id, payload, runs) in [
        ("code", continuous(script), 3),
        ("signal", continuous("kill -KILL $$"), 1),
        ("spawn", json!({"type": "continuous", "executable": "/no/such/program"}), 1),
    ] {
        k1s.create(id, &with(payload, flag.clone()));
        let job = k1s.in_state(id, "failed");
        assert_eq!(job["results"].as_array().unwrap().len(), runs, "{job}");
        assert_eq!(
            (&job["restartOnFailure"], &job["killRequested"]),
            (&json!(false), &json!(false))
        );
    }
}

#[test]
fn a_restart_policy_wins_over_the_flag() {
    let k1s = K1s::start();
    for (id, script, policy, state) in [
        ("a", "exit 0", "on-failure", "succeeded"),
        ("b", "exit 0", "never", "succeeded"),
        ("c", "exit 1", "never", "failed"),
    ] {
        k1s.create(id, &with(continuous(script), json!({"restart": {"policy": policy}})));
        let job = k1s.in_state(id, state);
        assert_eq!(job["results"].as_array().unwrap().len(), 1, "{policy}: {job}");
    }
    let always =
        json!({"restartOnFailure": false, "restart": {"policy": "always", "initialDelayMs": 1}});
    k1s.create("d", &with(continuous("exit 1"), always));
    k1s.results("d", 3);
}

// ---- Timeouts and stopping ----

#[test]
fn a_run_that_takes_too_long_is_stopped() {
    let k1s = K1s::start();
    let fields = json!({"timeoutSeconds": 0.2, "stop": {"timeoutSeconds": 0.2}});
    for (id, script, code, signal) in [
        ("polite", "exec sleep 1000", 143, "SIGTERM"),
        ("stubborn", "trap '' TERM; while :; do sleep 0.05; done", 137, "SIGKILL"),
    ] {
        let result = k1s.run(id, &with(one_off(script), fields.clone()));
        assert_eq!(
            (&result["exitCode"], &result["signal"], &result["reason"]),
            (&json!(code), &json!(signal), &json!("timed-out")),
            "{script}"
        );
        k1s.in_state(id, "failed");
    }
}

#[test]
fn a_stop_uses_the_signal_that_the_job_asks_for() {
    let k1s = K1s::start();
    let script = "trap 'echo usr1; exit 7' USR1; echo up; while :; do sleep 0.02; done";
    let payload =
        with(continuous(script), json!({"stop": {"signal": "SIGUSR1", "timeoutSeconds": 60}}));
    k1s.create("x", &payload);
    wait_for_shell(&k1s, "x");
    k1s.put("/job/x/kill");
    let job = k1s.in_state("x", "killed");
    let result = &job["results"][0];
    assert_eq!(
        (&result["exitCode"], &result["stdout"]),
        (&json!(7), &json!("up\nusr1\n")),
        "{job}"
    );
}

#[test]
fn what_does_not_stop_is_killed_after_its_grace_period() {
    let k1s = K1s::start();
    let script = "trap '' TERM; echo up >up; while :; do sleep 0.02; done";
    k1s.create("x", &with(continuous(script), json!({"stop": {"timeoutSeconds": 0.2}})));
    wait_for_file(&k1s, "up");
    k1s.put("/job/x/kill");
    let job = k1s.in_state("x", "killed");
    let result = &job["results"][0];
    assert_eq!((&result["exitCode"], &result["signal"]), (&json!(137), &json!("SIGKILL")));
    wait_until("nothing is left", || k1s.descendants().is_empty());
}

#[test]
fn a_second_kill_does_not_wait_and_a_delete_does() {
    let k1s = K1s::start();
    let stubborn = |id: &str| {
        let script = format!(
            "trap 'echo asked >asked-{id}' TERM; echo up >up-{id}; while :; do sleep 0.02; done"
        );
        let payload = with(continuous(&script), json!({"stop": {"timeoutSeconds": 3600}}));
        k1s.create(id, &payload);
        wait_for_file(&k1s, &format!("up-{id}"));
        let pid = k1s.pid_of(id);
        k1s.put(&format!("/job/{id}/kill"));
        wait_for_file(&k1s, &format!("asked-{id}"));
        assert_eq!(k1s.job(id)["state"], "stopping");
        pid
    };
    stubborn("x");
    k1s.put("/job/x/kill");
    assert_eq!(k1s.in_state("x", "killed")["results"][0]["exitCode"], 137);
    let pid = stubborn("y");
    assert_eq!(k1s.delete("/job/y").status, 200);
    assert_eq!(k1s.get("/job/y").status, 404);
    stays_true("a DELETE keeps the grace period", Duration::from_millis(300), || is_alive(pid));
}

#[test]
fn a_stopped_process_is_woken_to_be_stopped() {
    let k1s = K1s::start();
    k1s.create(
        "x",
        &with(continuous("exec sleep 1000"), json!({"stop": {"timeoutSeconds": 3600}})),
    );
    crate::harness::send_signal(k1s.pid_of("x"), nix::sys::signal::Signal::SIGSTOP);
    k1s.put("/job/x/kill");
    assert_eq!(k1s.in_state("x", "killed")["results"][0]["signal"], "SIGTERM");
}

#[test]
fn a_removed_job_frees_its_id_and_its_successor_waits() {
    let k1s = K1s::start();
    let script = "trap 'while [ ! -e go ]; do sleep 0.02; done; exit' TERM; echo up >up; while :; do sleep 0.02; done";
    k1s.create("x", &with(continuous(script), json!({"stop": {"timeoutSeconds": 3600}})));
    wait_for_file(&k1s, "up");
    let pid = k1s.pid_of("x");
    assert_eq!(k1s.delete("/job/x").status, 200);
    assert_eq!(k1s.get("/job/x").status, 404);
    k1s.create("x", &one_off(&format!("kill -0 {pid} 2>/dev/null && echo alive || echo gone")));
    let job = k1s.job("x");
    assert_eq!((&job["state"], &job["pid"]), (&json!("waiting"), &Value::Null), "{job}");
    fs::write(k1s.dir().join("go"), "").unwrap();
    assert_eq!(k1s.results("x", 1)[0]["stdout"], "gone\n");
}

#[test]
fn a_successor_that_waits_can_be_removed() {
    let k1s = K1s::start();
    let script = "trap '' TERM; echo up >up; while :; do sleep 0.02; done";
    k1s.create("x", &with(continuous(script), json!({"stop": {"timeoutSeconds": 0.3}})));
    wait_for_file(&k1s, "up");
    k1s.delete("/job/x");
    k1s.create("x", &one_off("echo second >second"));
    assert_eq!(k1s.delete("/job/x").status, 200);
    assert_eq!(k1s.get("/job/x").status, 404);
    k1s.run("x", &one_off("echo third >third"));
    assert!(!k1s.dir().join("second").exists());
    assert!(k1s.dir().join("third").exists());
}

// ---- Output ----

#[test]
fn of_too_much_output_the_end_is_kept() {
    let k1s = K1s::start();
    let limit = json!({"output": {"limitBytes": 10}});
    let result =
        k1s.run("x", &with(one_off("printf 0123456789abcdef; printf 0123456789 >&2"), limit));
    assert_eq!(
        (&result["stdout"], &result["stderr"]),
        (&json!("6789abcdef"), &json!("0123456789"))
    );
    assert_eq!((&result["stdoutBytes"], &result["stderrBytes"]), (&json!(16), &json!(10)));
    assert_eq!(
        (&result["stdoutTruncated"], &result["stderrTruncated"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn of_a_flood_the_end_is_kept_and_all_is_counted() {
    let k1s = K1s::start();
    let result = k1s.run("x", &one_off("head -c 20000000 /dev/zero | tr '\\0' x; echo end"));
    let stdout = text_of_stdout(&result);
    assert_eq!(stdout.len(), 65536);
    assert!(stdout.ends_with("xxend\n"));
    assert_eq!(
        (&result["stdoutBytes"], &result["stdoutTruncated"]),
        (&json!(20_000_004), &json!(true))
    );
}

#[test]
fn no_byte_written_before_the_exit_is_lost() {
    let k1s = K1s::start();
    for number in 0..40 {
        let result = k1s.run(
            &format!("x{number}"),
            &one_off("head -c 60000 /dev/zero | tr '\\0' x; printf end"),
        );
        assert_eq!(result["stdoutBytes"], 60_003);
        assert!(text_of_stdout(&result).ends_with("xend"));
    }
}

#[test]
fn output_that_is_not_utf8_is_shown_with_replacement_characters() {
    let k1s = K1s::start();
    let result = k1s.run("x", &one_off("printf '\\377\\376ok\\000\\033'"));
    assert_eq!(result["stdout"], "\u{fffd}\u{fffd}ok\0\u{1b}");
    assert_eq!(result["stdoutBytes"], 6);
}

#[test]
fn so_many_results_are_kept_and_no_more() {
    let k1s = K1s::start();
    let fields =
        json!({"output": {"historyLimit": 3}, "restart": {"initialDelayMs": 1, "maxDelayMs": 1}});
    k1s.create("x", &with(continuous("true"), fields));
    let results = wait_for("run 8 is over", || {
        let results = k1s.job("x")["results"].as_array().unwrap().clone();
        (results.last()?["run"].as_u64()? >= 8).then_some(results)
    });
    let runs: Vec<u64> = results.iter().map(|result| result["run"].as_u64().unwrap()).collect();
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert!(runs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{runs:?}");
}

#[test]
fn a_grandchild_that_keeps_the_pipe_holds_up_nothing() {
    let k1s = K1s::start();
    let script = "(trap '' TERM; echo >up; exec sleep 1000) &
        while [ ! -e up ]; do sleep 0.01; done; echo said";
    let payload = with(one_off(script), json!({"stop": {"timeoutSeconds": 3600}}));
    assert_eq!(k1s.run("x", &payload)["stdout"], "said\n");
    assert!(!k1s.descendants().is_empty(), "the grandchild is still in its grace period");
}

#[test]
fn what_a_run_leaves_behind_is_stopped_before_the_next() {
    let k1s = K1s::start();
    let script = "if [ -e left ]; then
            kill -0 $(cat left) 2>/dev/null && echo alive >second || echo gone >second
            exec sleep 1000
        fi
        (trap '' TERM; echo >up; exec sleep 1000) &
        echo $! >left
        while [ ! -e up ]; do sleep 0.01; done";
    k1s.create("x", &with(continuous(script), json!({"stop": {"timeoutSeconds": 0.3}})));
    assert_eq!(k1s.results("x", 1)[0]["exitCode"], 0);
    let seen = wait_for("the second run looks", || {
        let text = fs::read_to_string(k1s.dir().join("second")).ok()?;
        text.ends_with('\n').then_some(text)
    });
    assert_eq!(seen, "gone\n");
}

#[test]
fn standard_input_is_empty() {
    let k1s = K1s::start();
    for (id, payload) in [("a", one_off("cat; echo over")), ("b", cron("cat; echo over", 1))] {
        assert_eq!(k1s.run(id, &payload)["stdout"], "over\n");
    }
}

#[test]
fn many_jobs_run_side_by_side() {
    let k1s = K1s::start();
    for number in 0..100 {
        k1s.create(&format!("c{number}"), &continuous("exec sleep 1000"));
    }
    wait_until("all are up", || k1s.descendants().len() == 100);
    for number in 0..100 {
        k1s.put(&format!("/job/c{number}/kill"));
    }
    wait_until("all are down", || k1s.descendants().is_empty());
    let jobs = k1s.get("/").json();
    for job in jobs.as_array().unwrap() {
        assert_eq!(
            (&job["state"], &job["results"][0]["exitCode"]),
            (&json!("killed"), &json!(143))
        );
    }
}

fn text_of_stdout(result: &Value) -> String {
    result["stdout"].as_str().unwrap().to_owned()
}

/// Another process writes it: a descriptor open for writing in this one could be inherited by
/// what another test is just starting, and k1s would be refused with ETXTBSY.
fn write_program(path: &Path, text: &str, mode: u32) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    let status = Command::new("install")
        .args(["-m", &format!("{mode:o}")])
        .args([&draft, path])
        .status()
        .unwrap();
    assert!(status.success());
}

/// A job touches a file in its working directory to say how far it is.
fn wait_for_file(k1s: &K1s, name: &str) {
    wait_until(name, || k1s.dir().join(name).exists());
}

/// A shell has set its traps once it sleeps: its child is there.
fn wait_for_shell(k1s: &K1s, id: &str) {
    let pid = k1s.pid_of(id);
    wait_until("the shell is past its traps", || {
        k1s.descendants().iter().any(|process| process.parent == pid)
    });
}

/// The result is told before the job removes itself.
#[test]
fn whoever_waits_for_a_job_that_leaves_at_once_gets_its_result() {
    let k1s = K1s::start();
    let payload = with(one_off("exit 3"), json!({"ttlSecondsAfterFinished": 0}));
    for number in 0..20 {
        let reply = k1s.post(&format!("/job/x{number}?wait=30"), &payload);
        assert_eq!(reply.status, 200, "{}", reply.json());
        assert_eq!(reply.json()["results"][0]["exitCode"], 3);
    }
    wait_until("they are gone", || k1s.get("/").json() == json!([]));
}

#[test]
fn a_run_has_the_oom_score_that_its_job_asks_for_and_k1s_keeps_its_own() {
    let k1s = K1s::start();
    let score = |pid: &str| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let own = score(&k1s.pid().to_string());
    let script = one_off("cat /proc/self/oom_score_adj");
    let result = k1s.run("high", &with(script.clone(), json!({"oomScoreAdj": 1000})));
    assert_eq!((&result["stdout"], &result["success"]), (&json!("1000\n"), &json!(true)));
    // Less than before is for those with CAP_SYS_RESOURCE.
    let result = k1s.run("low", &with(script, json!({"oomScoreAdj": -1000})));
    if result["exitCode"] == 0 {
        assert_eq!(result["stdout"], "-1000\n");
    } else {
        let error = result["error"].as_str().unwrap();
        assert!(error.starts_with("oomScoreAdj -1000: "), "{error}");
        assert_eq!((&result["exitCode"], &result["success"]), (&json!(126), &json!(false)));
    }
    assert_eq!(score(&k1s.pid().to_string()), own);
}
