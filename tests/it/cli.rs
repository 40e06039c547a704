//! The command line, the environment and the configuration file.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::{Builder, Finished, K1s, one_off, send_signal, wait_for};

/// A start that is refused: exit code 2, these words on stderr, nothing started.
#[track_caller]
fn refused(start: Builder, words: &[&str]) {
    let finished = start.run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word} should be in {}", finished.stderr);
    }
}

fn config(text: &str) -> Builder {
    K1s::with().file("wrong.toml", text)
}

/// All signals are blocked while the config is read, and no handler stands yet.
#[test]
fn a_config_that_nobody_writes_can_be_waited_for_no_longer() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let start = K1s::with().bare().argument("-c").argument("fifo");
        mkfifo(&start.dir().join("fifo"), Mode::S_IRWXU).unwrap();
        let k1s = start.launch();
        wait_for("it has opened the FIFO", || {
            let files = fs::read_dir(format!("/proc/{}/fd", k1s.pid())).ok()?;
            let mut files = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            files.any(|file| file.ends_with("fifo")).then_some(())
        });
        k1s.signal(signal);
        let (status, stderr) = k1s.exit();
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("a signal came"), "{stderr}");
    }
}

#[test]
fn a_config_may_come_through_a_pipe() {
    let text = "[http]\nhost = \"127.0.0.1\"\nauth_token = \"piped\"\n";
    let shell = ["sh", "-c", &format!("exec 3<<'END'\n{text}END\nexec \"$0\" \"$@\"")];
    let start = K1s::with().bare().argument("-c").argument("/dev/fd/3").around(&shell);
    assert_eq!(start.token("piped").start().get("/").status, 200);
}

// ---- Without a configuration ----

#[test]
fn without_a_config_the_token_is_abc123_and_that_is_said() {
    let k1s = K1s::with().bare().token("abc123").start();
    assert_eq!(k1s.get("/").status, 200);
    assert!(k1s.stderr().contains("listening on http://0.0.0.0:"), "{}", k1s.stderr());
    assert!(k1s.stderr().contains("default token"), "{}", k1s.stderr());
}

#[test]
fn without_a_config_the_port_is_1298() {
    // The port is in use, by this test or another program.
    let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 1298));
    refused(K1s::with().bare().without_port(), &["1298", "in use"]);
}

#[test]
fn with_a_token_nothing_is_said_about_the_default() {
    let k1s = K1s::start();
    assert!(!k1s.stderr().contains("default token"), "{}", k1s.stderr());
    let k1s = K1s::with().bare().env("K1S_AUTH_TOKEN", "x").token("x").start();
    assert!(!k1s.stderr().contains("default token"), "{}", k1s.stderr());
}

#[test]
fn an_argument_that_does_not_exist_is_refused() {
    for argument in ["--port", "-x", "serve", "-c"] {
        let finished = K1s::with().bare().argument(argument).run();
        assert_ne!(finished.code, Some(0), "{argument}");
        assert!(!finished.stderr.is_empty(), "{argument}");
    }
}

#[test]
fn version_and_help_are_told_on_stdout() {
    let told = |argument: &str| -> Finished { K1s::with().bare().argument(argument).run() };
    let version = told("--version");
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (Some(0), concat!("k1s ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = told("--help");
    assert_eq!(help.code, Some(0));
    for word in ["-c", "check", "--version"] {
        assert!(help.stdout.contains(word), "{word} in {}", help.stdout);
    }
}

// ---- The configuration file ----

#[test]
fn the_file_says_port_and_token() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("[http]\nhost = \"127.0.0.1\"\nport = {free}\nauth_token = \"mine\"\n");
    let k1s = K1s::with().file("k1s.toml", &text).without_port().token("mine").start();
    assert_eq!(k1s.address().port(), free);
    assert_eq!(k1s.get("/").status, 200);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[http]\nhost = \"127.0.0.1\"\nport = 1\nauth_token = \"of-the-file\"\n";
    let start = || K1s::with().file("k1s.toml", text).env("K1S_AUTH_TOKEN", "of-the-environment");
    let k1s = start().token("of-the-environment").start();
    assert_eq!(k1s.get("/").status, 200);
    assert_ne!(k1s.address().port(), 1);
    assert_eq!(start().token("of-the-file").start().get("/").status, 403);
}

#[test]
fn an_empty_file_is_no_file() {
    let k1s = K1s::with().file("k1s.toml", "# nothing\n").token("abc123").start();
    assert_eq!(k1s.get("/").status, 200);
}

#[test]
fn hosts_are_addresses_or_localhost() {
    for (host, said) in [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://127.0.0.1:"),
        ("::1", "http://[::1]:"),
    ] {
        if host == "::1" && TcpListener::bind("[::1]:0").is_err() {
            crate::harness::note_skipped(module_path!(), line!(), &"no IPv6 on loopback");
            continue;
        }
        let text = format!("[http]\nhost = \"{host}\"\nauth_token = \"x\"\n");
        let k1s = K1s::with().file("k1s.toml", &text).token("x").start();
        assert!(k1s.stderr().contains(said), "{host}: {}", k1s.stderr());
        assert_eq!(k1s.get("/").status, 200);
    }
    for host in ["example.org", "127.0.0.1:80", "", "256.0.0.1", "http://127.0.0.1"] {
        let text = format!("[http]\nhost = \"{host}\"\nauth_token = \"x\"\n");
        refused(config(&text), &["wrong.toml:2", "host"]);
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line_and_key() {
    for (text, words) in [
        ("[http]\nprot = 80\n", &["wrong.toml:2", "prot", "port"][..]),
        ("[http]\n\nauth_tokn = \"x\"\n", &["wrong.toml:3", "auth_tokn", "auth_token"]),
        ("[htpp]\nport = 80\n", &["wrong.toml:1", "htpp", "http"]),
        ("port = 80\n", &["wrong.toml:1", "port"]),
        ("[http]\nport = \"80\"\n", &["wrong.toml:2", "port"]),
        ("[http]\nport = 65536\n", &["wrong.toml:2", "port"]),
        ("[http]\nport = -1\n", &["wrong.toml:2", "port"]),
        ("[http]\nport = 1.5\n", &["wrong.toml:2", "port"]),
        ("[http]\nauth_token = 5\n", &["wrong.toml:2", "auth_token"]),
        ("[http]\nauth_token = \"\"\n", &["wrong.toml:2", "auth_token"]),
        ("[http]\nauth_token = \"ü\"\n", &["wrong.toml:2", "auth_token"]),
        ("[http]\nauth_token = \"a b\"\n", &["wrong.toml:2", "auth_token"]),
        ("[http]\nport = 1\nport = 2\n", &["wrong.toml:3", "port"]),
        ("[http]\nport = \n", &["wrong.toml:2"]),
        ("[http\n", &["wrong.toml:1"]),
        ("http = 1\n", &["wrong.toml:1", "http"]),
        ("[http]\nmax_headers = -1\n", &["wrong.toml:2", "max_headers"]),
        ("[http]\nmax_body_bytes = \"x\"\n", &["wrong.toml:2", "max_body_bytes"]),
        ("[http]\nhead_timeout_seconds = \"x\"\n", &["wrong.toml:2", "head_timeout_seconds"]),
        ("[http]\nidle_timeout_second = 1\n", &["wrong.toml:2", "idle_timeout_seconds"]),
        ("[shutdown]\ntimeout_seconds = -1\n", &["wrong.toml:2", "timeout_seconds"]),
        ("[limits]\njob = 1\n", &["wrong.toml:2", "job", "jobs"]),
        ("[output]\nmemory = -1\n", &["wrong.toml:2", "memory"]),
    ] {
        refused(config(text), words);
    }
}

#[test]
fn a_token_is_never_repeated() {
    for text in
        ["[http]\nauth_token = \"sécret\"\n", "[http]\nauth_token = \"secret\"\nport = -1\n"]
    {
        let finished = config(text).run();
        assert_eq!(finished.code, Some(2));
        assert!(!finished.stderr.contains("cret"), "{}", finished.stderr);
    }
    let finished = K1s::with().bare().env("K1S_AUTH_TOKEN", "my secret").run();
    assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
    let k1s = K1s::start();
    assert!(!k1s.stderr().contains("a-token-of-the-tests"), "{}", k1s.stderr());
}

#[test]
fn a_file_that_is_missing_or_unreadable_is_refused() {
    let missing = K1s::with().bare().argument("-c").argument("no-such-file.toml");
    refused(missing, &["no-such-file.toml"]);
    refused(K1s::with().bare().argument("-c").argument("."), &["."]);
    let not_utf8 = config("");
    fs::write(not_utf8.dir().join("wrong.toml"), b"[http]\nauth_token = \"\xff\"\n").unwrap();
    refused(not_utf8, &["wrong.toml"]);
}

// ---- PORT and the token ----

#[test]
fn a_port_is_a_number_up_to_65535() {
    for port in ["65536", "-1", "http", "1.5", "99999999999999999999"] {
        refused(K1s::with().env("PORT", port), &["PORT"]);
    }
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(K1s::with().env("PORT", &port), &[&port, "in use"]);
}

#[test]
fn a_token_comes_from_a_file() {
    for (content, token) in [("of-a-file", "of-a-file"), ("of-a-file\n", "of-a-file")] {
        let start = K1s::with();
        let path = start.dir().join("token");
        fs::write(&path, content).unwrap();
        let text =
            format!("[http]\nhost = \"127.0.0.1\"\nauth_token_file = \"{}\"\n", path.display());
        let k1s = start.file("k1s.toml", &text).token(token).start();
        assert_eq!(k1s.get("/").status, 200, "{content:?}");
    }
}

#[test]
fn a_token_file_that_is_wrong_is_refused() {
    for content in [&b""[..], b"\n", b"a\n\n", b"a b", b"\xff", b" a", b"a\r\n"] {
        let start = K1s::with();
        let path = start.dir().join("token");
        fs::write(&path, content).unwrap();
        let text = format!("[http]\nauth_token_file = \"{}\"\n", path.display());
        refused(start.file("wrong.toml", &text), &["auth_token_file"]);
    }
    refused(config("[http]\nauth_token_file = \"/no/such/file\"\n"), &["auth_token_file"]);
    refused(
        config("[http]\nauth_token = \"a\"\nauth_token_file = \"/dev/null\"\n"),
        &["auth_token", "auth_token_file"],
    );
}

#[test]
fn a_token_in_the_environment_obeys_the_same_rules() {
    for token in ["", "a b", "ü", "a\n\n", "a\tb"] {
        refused(K1s::with().env("K1S_AUTH_TOKEN", token), &["K1S_AUTH_TOKEN"]);
    }
    let k1s = K1s::with().env("K1S_AUTH_TOKEN", "cut\n").token("cut").start();
    assert_eq!(k1s.get("/").status, 200);
}

// ---- check ----

#[test]
fn check_says_what_a_file_means_and_starts_nothing() {
    let text = "[http]\nhost = \"127.0.0.1\"\nport = 4321\nauth_token = \"hidden\"\n";
    let start = K1s::with().bare().argument("check").file("k1s.toml", text);
    let finished = start.without_port().run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(said.contains("127.0.0.1") && said.contains("4321"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
}

#[test]
fn check_shows_jobs_with_every_default_and_warns_of_what_is_not_there() {
    let job = "[job.x]\ntype = \"cron\"\nexecutable = \"sh\"\n";
    let check = |text: &str| {
        let finished = K1s::with().bare().argument("check").file("k1s.toml", text).run();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished
    };
    let shown = check(&format!(
        "{job}secret_environment = [\"A\"]\nenvironment = {{ A = \"hidden\", B = \"b\" }}"
    ));
    for line in [
        "[job.x]",
        "executable = \"sh\"",
        "schedule = 60",
        "environment = { A = \"***\", B = \"b\" }",
        "stop = { signal = \"SIGTERM\", timeout_seconds = 10, scope = \"group\" }",
    ] {
        let says = |said: &str| said.split_once("  # ").is_some_and(|(said, _)| said == line);
        assert!(shown.stdout.lines().any(says), "{line}: {}", shown.stdout);
    }
    assert!(!shown.stderr.contains("warning"), "{}", shown.stderr);
    for (fields, warning) in [
        ("executable = \"k1s-is-no-such\"", "executable k1s-is-no-such: not found in PATH "),
        ("executable = \"/k1s-is-no-such\"", "executable /k1s-is-no-such: does not exist"),
        ("executable = \"./k1s.toml\"", "executable ./k1s.toml: does not exist, or is not an exec"),
        ("working_directory = \"/no-such\"", "working directory /no-such: No such file"),
        (
            "output.file.path = \"/no-such/{job}.log\"",
            "log file /no-such/x.log: its directory is not there",
        ),
        ("user = \"k1s-no-such\"", "user k1s-no-such: no such user in /etc/passwd"),
        ("group = \"k1s-no-such\"", "group k1s-no-such: no such group in /etc/group"),
    ] {
        let text = match fields.starts_with("executable") {
            true => format!("[job.x]\ntype = \"cron\"\n{fields}\n"),
            false => format!("{job}{fields}\n"),
        };
        let finished = check(&text);
        let warning = format!("k1s.toml:1: job x: {warning}");
        assert!(finished.stderr.contains(&warning), "{warning}: {}", finished.stderr);
    }
}

#[test]
fn check_refuses_what_a_start_would_refuse() {
    let wrong = |text| K1s::with().bare().argument("check").file("wrong.toml", text);
    refused(wrong("[http]\nprot = 80\n"), &["wrong.toml:2", "prot", "port"]);
    refused(wrong("[http\n"), &["wrong.toml:1"]);
    let missing = K1s::with().bare().argument("check").argument("-c").argument("nope.toml");
    refused(missing, &["nope.toml"]);
}

// ---- schedule ----

/// What `k1s schedule` with these arguments says.
fn schedule(arguments: &[&str]) -> Finished {
    let start = K1s::with().bare().without_port().argument("schedule");
    arguments.iter().fold(start, |start, argument| start.argument(*argument)).run()
}

#[track_caller]
fn check_schedule(arguments: &[&str], times: &[&str]) {
    let finished = schedule(arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    assert_eq!(finished.stdout.lines().collect::<Vec<_>>(), times, "{arguments:?}");
}

#[test]
fn schedule_prints_the_next_times() {
    let after = "2026-03-28T12:00:00Z";
    check_schedule(
        &["30 2 * * *", "--tz", "Europe/Berlin", "--after", after, "-n", "3"],
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"],
    );
    check_schedule(
        &["*/20 * * * * *", "--after", after, "-n", "4"],
        &[
            "2026-03-28T12:00:20Z",
            "2026-03-28T12:00:40Z",
            "2026-03-28T12:01:00Z",
            "2026-03-28T12:01:20Z",
        ],
    );
    check_schedule(
        &["@yearly", "--after", "2026-12-31T23:30:00-01:00"],
        &[
            "2028-01-01T00:00:00Z",
            "2029-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z",
            "2031-01-01T00:00:00Z",
            "2032-01-01T00:00:00Z",
        ],
    );
}

#[test]
fn schedule_begins_now_unless_told_otherwise() {
    let before = jiff::Timestamp::now();
    let finished = schedule(&["* * * * * *", "-n", "1"]);
    let next: jiff::Timestamp = finished.stdout.trim().parse().unwrap();
    let after = jiff::Timestamp::now();
    assert!(before - jiff::Span::new().milliseconds(2) < next, "{before} {next}");
    assert!(next <= after + jiff::Span::new().seconds(1), "{next} {after}");
}

#[test]
fn schedule_refuses_what_is_wrong_and_what_never_comes() {
    for (arguments, code, words) in [
        (&["61 * * * *"][..], 2, &["minute", "61", "59"][..]),
        (&["* * * *"], 2, &["* * * *"]),
        (&["0 0 * * fri-mon"], 2, &["fri-mon"]),
        (&["@reboot"], 2, &["@reboot"]),
        (&["@daily", "--tz", "Europe/Atlantis"], 2, &["Europe/Atlantis"]),
        (&["@daily", "--after", "tomorrow"], 2, &["--after", "tomorrow", "RFC 3339"]),
        (&["@daily", "-n", "0"], 2, &["-n"]),
        (&["*", "*", "*", "*", "*"], 2, &["Unrecognized argument"]),
        (&[], 2, &["EXPR"]),
        (&["0 0 30 2 *"], 1, &["0 0 30 2 *", "never comes"]),
        (&["0 0 31 4,6 *"], 1, &["0 0 31 4,6 *", "never comes"]),
        (&["@yearly", "--after", "9999-06-01T00:00:00Z"], 1, &["9999"]),
    ] {
        let finished = schedule(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        for word in words {
            assert!(finished.stderr.contains(word), "{word} should be in {}", finished.stderr);
        }
    }
}

#[test]
fn schedule_and_the_supervisor_agree() {
    let k1s = K1s::start();
    for (number, (expression, zone)) in [
        ("0 3 * * *", "UTC"),
        ("30 2 * * sun", "Europe/Berlin"),
        ("0 0 29 2 *", "America/Santiago"),
        ("*/7 1-5 1,15 * mon", "Australia/Lord_Howe"),
        ("@monthly", "Pacific/Apia"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("x{number}");
        let body = json!({
            "type": "cron", "executable": "true", "schedule": expression, "timeZone": zone,
        });
        k1s.create(&id, &body);
        let job = k1s.job(&id);
        let created = job["createdAt"].as_str().unwrap();
        let said = schedule(&[expression, "--tz", zone, "--after", created, "-n", "1"]).stdout;
        let next = job["nextRunAt"].as_str().unwrap();
        assert_eq!(next.replace(".000Z", "Z"), said.trim_end(), "{job}");
        assert_eq!((&job["schedule"], &job["timeZone"]), (&json!(expression), &json!(zone)));
    }
}

#[test]
fn schedule_can_be_interrupted_and_takes_no_memory() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // What a shell starts in the background ignores SIGINT, and so do the tests then.
        let mut child = Command::new("env")
            .args(["--default-signal", env!("CARGO_BIN_EXE_k1s")])
            .args(["schedule", "* * * * * *", "-n", "4294967295"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 21];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(first.last(), Some(&b'\n'), "it prints before it has found all");
        send_signal(child.id(), signal);
        let status = wait_for("it ends", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(signal as i32));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = format!(
        "{{ {} schedule '* * * * * *' -n 4294967295; echo $? >&2; }} | head -n 2 | wc -l",
        env!("CARGO_BIN_EXE_k1s")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"2\n"[..], &b"0\n"[..]));
}

// ---- Limits ----

#[test]
fn so_many_jobs_and_no_more() {
    let k1s = K1s::with().config("[limits]\njobs = 2").start();
    k1s.create("a", &one_off("true"));
    k1s.create("b", &one_off("true"));
    let reply = k1s.post("/job/c", &one_off("true"));
    assert_eq!(reply.status, 503);
    assert!(!reply.error().is_empty());
    // A removed job counts until its last process is gone.
    k1s.in_state("a", "succeeded");
    k1s.delete("/job/a");
    k1s.create("c", &one_off("true"));
}

#[test]
fn captured_output_has_one_budget() {
    let k1s = K1s::with().config("[output]\nmemory = 100000").start();
    for number in 0..5 {
        k1s.run(&format!("x{number}"), &one_off("head -c 40000 /dev/zero | tr '\\0' x"));
    }
    let jobs = k1s.get("/").json();
    let kept: usize = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["results"][0]["stdout"].as_str().unwrap().len())
        .sum();
    assert!((40_000..=100_000).contains(&kept), "{kept}");
    let last = k1s.job("x4")["results"][0].clone();
    assert_eq!(last["stdout"].as_str().unwrap().len(), 40_000, "the oldest goes first");
    let first = k1s.job("x0")["results"][0].clone();
    assert_eq!(
        (&first["stdoutBytes"], &first["stdoutTruncated"]),
        (&json!(40_000), &json!(true)),
        "and it says so"
    );
}

#[test]
fn explain_says_what_names_mean() {
    let explain = |words: &[&str]| {
        let start = K1s::with().bare().argument("explain");
        words.iter().fold(start, |start, word| start.argument(*word)).run()
    };
    let finished = explain(&["concurrencyPolicy"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let begin = "concurrencyPolicy: a field of jobs (cron)\n  type: \"forbid\", \"queue\", ";
    assert!(finished.stdout.starts_with(begin), "{finished:?}");
    assert!(explain(&["GET", "/events"]).stdout.starts_with("GET /events\n  200, "));
    assert!(explain(&[]).stdout.contains("\nKeys of the config:\n  http.host\n"));
    let finished = explain(&["policy"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("did you mean concurrencyPolicy?"), "{finished:?}");
}
