//! The config is read again: by SIGHUP, by `POST /reload`, and not at all when it is wrong.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::{self, K1s, continuous, wait_until};

const HTTP: &str = "[http]\nhost = \"127.0.0.1\"\nauth_token = \"t\"\n";

/// A k1s with a config that can be changed.
struct Configured {
    k1s: K1s,
    path: PathBuf,
}

impl Configured {
    fn start(jobs: &str) -> Configured {
        let start = K1s::with();
        let path = start.dir().join("k1s.toml");
        let k1s = start.file("k1s.toml", &format!("{HTTP}{jobs}")).token("t").start();
        Configured { k1s, path }
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    fn change(&self, jobs: &str) {
        self.write(&format!("{HTTP}{jobs}"));
    }

    #[track_caller]
    fn reload(&self) -> Value {
        let reply = self.k1s.request("POST", "/reload", b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        for path in ["/reload?dryRun=true", "/reload"] {
            let reply = self.k1s.request("POST", path, b"");
            assert_eq!(reply.status, 400, "{}", reply.text());
            for word in words {
                assert!(reply.error().contains(word), "{word}: {}", reply.error());
            }
        }
        wait_until("the log says so", || {
            let log = self.k1s.stderr();
            log.contains("nothing is changed") && words.iter().all(|word| log.contains(word))
        });
    }
}

fn job(id: &str, more: &str) -> String {
    format!(
        "[job.{id}]\ntype = \"continuous\"\nexecutable = \"sleep\"\narguments = [\"1000\"]\n{more}\n"
    )
}

fn done(added: &[&str], removed: &[&str], replaced: &[&str], updated: &[&str], n: usize) -> Value {
    json!({"added": added, "removed": removed, "replaced": replaced, "updated": updated,
        "unchanged": n, "needsRestart": []})
}

#[test]
fn a_reload_touches_only_what_has_changed() {
    let ids = ["same", "labelled", "changed", "gone"];
    let config = Configured::start(&ids.map(|id| job(id, "")).concat());
    let k1s = &config.k1s;
    k1s.create("mine", &continuous("exec sleep 1000"));
    let [same, labelled, changed, gone] = ids.map(|id| k1s.pid_of(id));
    let mine = k1s.pid_of("mine");
    assert_eq!(config.reload(), done(&[], &[], &[], &[], 4));
    config.change(&format!(
        "{}{}{}{}",
        job("same", ""),
        job("labelled", "labels.team = \"a\""),
        job("changed", "environment.A = \"1\""),
        job("new", "")
    ));
    let dry = k1s.request("POST", "/reload?dryRun=true", b"").json();
    assert_eq!(k1s.job("labelled")["labels"], json!({}), "nothing is done");
    let wanted = done(&["new"], &["gone"], &["changed"], &["labelled"], 1);
    assert_eq!(dry, wanted);
    assert_eq!(config.reload(), wanted);
    assert_eq!([k1s.pid_of("same"), k1s.pid_of("labelled")], [same, labelled]);
    assert_eq!(k1s.pid_of("mine"), mine);
    assert_eq!(k1s.job("labelled")["labels"], json!({"team": "a"}));
    wait_until("the changed job runs again", || {
        let job = k1s.job("changed");
        job["state"] == "running" && job["pid"] != changed
    });
    assert_eq!(k1s.get("/job/gone").status, 404);
    wait_until("the job that is gone has ended", || !harness::is_alive(gone));
    k1s.in_state("new", "running");
    wait_until("the log says what was done", || {
        k1s.stderr().contains(
            "the config was read again: 1 added (new), 1 removed (gone), 1 replaced (changed), \
             1 updated (labelled), 1 unchanged",
        )
    });
    assert_eq!(config.reload(), done(&[], &[], &[], &[], 4));
}

#[test]
fn a_hangup_reads_the_config_again() {
    let config = Configured::start("");
    config.change(&job("web", ""));
    config.k1s.signal(Signal::SIGHUP);
    wait_until("it was read", || config.k1s.stderr().contains("1 added (web), 0 unchanged"));
    config.k1s.in_state("web", "running");
    config.change("[job.web]\n");
    config.k1s.signal(Signal::SIGHUP);
    wait_until("the log says what is wrong", || {
        let log = config.k1s.stderr();
        log.contains("nothing is changed") && log.contains("k1s.toml:4: job.web.type: is required")
    });
    config.k1s.in_state("web", "running");
}

#[test]
fn nothing_is_changed_when_anything_is_wrong() {
    let config = Configured::start(&job("web", ""));
    let pid = config.k1s.pid_of("web");
    let wrong = |text: &str, words: &[&str]| {
        config.change(&format!("{}{text}", job("new", "")));
        config.refused(words);
    };
    wrong("[job.x]\ntype = \"one-off\"\n", &["k1s.toml:9: job.x.executable", "required"]);
    wrong("[job\n", &["k1s.toml:9:5"]);
    wrong("[limits]\njobs = 0\n", &["job.new: is more than `limits.jobs` allows"]);
    wrong("[defaults]\nnice = 99\n", &["k1s.toml:10: defaults.nice"]);
    config.write(&format!("include = [\"none.toml\"]\n{HTTP}"));
    config.refused(&["k1s.toml:1: include.0", "none.toml", "cannot be read"]);
    config.write(&job("new", ""));
    config.refused(&["sets no token any more"]);
    fs::remove_file(&config.path).unwrap();
    config.refused(&["k1s.toml: cannot be read"]);
    mkfifo(&config.path, Mode::S_IRWXU).unwrap();
    config.refused(&["k1s.toml: cannot be read: is not a regular file"]);
    assert_eq!(config.k1s.get("/job/new").status, 404);
    assert_eq!(config.k1s.pid_of("web"), pid);
    assert_eq!(config.k1s.request("POST", "/reload?dryRun=yes", b"").status, 400);
}

#[test]
fn jobs_of_the_api_count_for_the_limit_of_a_reload() {
    let config = Configured::start("[limits]\njobs = 2\n");
    config.k1s.create("mine", &continuous("exec sleep 1000"));
    config.change(&format!("[limits]\njobs = 2\n{}{}", job("a", ""), job("b", "")));
    assert_eq!(config.k1s.request("POST", "/reload", b"").status, 503);
    assert_eq!(config.k1s.get("/job/a").status, 404);
    config.change(&format!("[limits]\njobs = 3\n{}{}", job("a", ""), job("b", "")));
    assert_eq!(config.reload(), done(&["a", "b"], &[], &[], &[], 0));
}

#[test]
fn live_settings_count_at_once_and_the_others_are_named() {
    let config = Configured::start("");
    let k1s = &config.k1s;
    let shouts = json!({"type": "one-off", "executable": "echo", "arguments": ["shout"]});
    k1s.run("before", &shouts);
    wait_until("the output is forwarded", || k1s.stdout().contains("before | shout"));
    config.write(
        "[http]\nhost = \"::1\"\nport = 7\nauth_token = \"t\"\nmax_body_bytes = 100\n\
         [output]\nforward = \"json\"\n[limits]\njobs = 2\n[cron]\ntime_zone = \"Asia/Tokyo\"\n\
         [log]\nformat = \"json\"\n",
    );
    let mut wanted = done(&[], &[], &[], &[], 0);
    // The tests set PORT, which wins over the file.
    wanted["needsRestart"] = json!(["http.host"]);
    assert_eq!(config.reload(), wanted);
    k1s.run("after", &shouts);
    wait_until("the output is forwarded as JSON", || {
        k1s.stdout()
            .contains("\"job\":\"after\",\"run\":1,\"stream\":\"stdout\",\"line\":\"shout\"")
    });
    wait_until("the log is JSON", || {
        k1s.stderr().contains("\"message\":\"the config was read aga")
    });
    assert_eq!(k1s.post("/job/third", &shouts).status, 503, "limits.jobs");
    k1s.delete("/job/before");
    let daily = json!({"type": "cron", "executable": "true", "schedule": "@daily"});
    k1s.create("daily", &daily);
    assert_eq!(k1s.job("daily")["timeZone"], "Asia/Tokyo");
    let long = json!({"type": "one-off", "executable": "x".repeat(100)});
    assert_eq!(k1s.post("/job/long", &long).status, 413, "http.max_body_bytes");
}

#[test]
fn a_new_token_counts_at_once() {
    let config = Configured::start("");
    config.write(&HTTP.replace("\"t\"", "\"new\""));
    config.reload();
    assert_eq!(config.k1s.get("/").status, 403);
    let mut raw = config.k1s.connect();
    raw.send(b"GET / HTTP/1.1\r\nHost: k\r\nAuthorization: Bearer new\r\n\r\n");
    assert_eq!(raw.reply().status, 200);
}

#[test]
fn without_a_config_there_is_nothing_to_read_again() {
    let k1s = K1s::with().bare().env("K1S_AUTH_TOKEN", "t").token("t").start();
    let reply = k1s.request("POST", "/reload", b"");
    assert_eq!(reply.status, 400);
    assert!(reply.error().contains("started without a config"), "{}", reply.error());
    k1s.signal(Signal::SIGHUP);
    wait_until("it is noted", || k1s.stderr().contains("there is no config to read again"));
}

#[test]
fn what_was_killed_or_removed_stays_so() {
    let config = Configured::start(&format!("{}{}", job("killed", ""), job("removed", "")));
    let k1s = &config.k1s;
    k1s.put("/job/killed/kill");
    k1s.in_state("killed", "killed");
    k1s.delete("/job/removed");
    assert_eq!(config.reload(), done(&[], &[], &[], &[], 2));
    assert_eq!(k1s.job("killed")["state"], "killed");
    assert_eq!(k1s.get("/job/removed").status, 404);
    config.change(&format!("{}{}", job("killed", "nice = 1"), job("removed", "nice = 1")));
    assert_eq!(config.reload(), done(&["removed"], &[], &["killed"], &[], 0));
    k1s.in_state("killed", "running");
    assert_eq!(k1s.job("removed")["origin"], "config");
}

#[test]
fn under_init_the_command_stays_and_its_id_is_taken() {
    let start = K1s::with();
    let path = start.dir().join("k1s.toml");
    fs::write(&path, HTTP).unwrap();
    let start = start.bare().argument("init").argument("-c").argument(&path);
    let start = ["--", "sleep", "1000"].into_iter().fold(start, |start, word| start.argument(word));
    let k1s = start.token("t").start();
    let config = Configured { k1s, path };
    let pid = config.k1s.pid_of("main");
    config.change(&job("web", ""));
    assert_eq!(config.reload(), done(&["web"], &[], &[], &[], 0));
    config.change(&job("main", ""));
    config.refused(&["k1s.toml:4: job.main: under `k1s init`, `main` is the command's id"]);
    config.change("");
    assert_eq!(config.reload(), done(&[], &["web"], &[], &[], 0));
    assert_eq!(config.k1s.pid_of("main"), pid);
}

/// What `k1s check --against` says, and its exit code.
fn check_against(text: &str, url: &str, token: &str) -> (Option<i32>, String, String) {
    let start = K1s::with().bare().env("K1S_AUTH_TOKEN", token).argument("check");
    let finished = start.argument("--against").argument(url).file("k1s.toml", text).run();
    (finished.code, finished.stdout, finished.stderr)
}

#[test]
fn check_says_what_a_reload_of_another_k1s_would_do() {
    let secret = "environment = { A = \"1\" }\nsecret_environment = [\"A\"]";
    let daily = "[job.daily]\ntype = \"cron\"\nexecutable = \"true\"\nschedule = \"@daily\"\n";
    let kept = format!("{}{}{daily}", job("same", ""), job("secret", secret));
    let text = format!("{kept}{}{}{}", job("in-place", ""), job("anew", ""), job("gone", ""));
    let config = Configured::start(&text);
    config.k1s.create("mine", &continuous("exec sleep 1000"));
    let url = format!("http://{}", config.k1s.address());
    let changed = format!(
        "{kept}{}{}{}",
        job("in-place", "labels.team = \"a\""),
        job("anew", "nice = 1"),
        job("new", "")
    );
    let (code, stdout, stderr) = check_against(&changed, &url, "t");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let wanted = "added: new\nremoved: gone\nreplaced: anew\nupdated: in-place\nunchanged: 3\n";
    assert_eq!(stdout, wanted);
    config.change(&changed);
    let wanted = done(&["new"], &["gone"], &["anew"], &["in-place"], 3);
    assert_eq!(config.reload(), wanted, "and that is what it does");
    assert_eq!(check_against(&changed, &url, "t").1, "unchanged: 6\n");

    let (code, _, stderr) = check_against(&changed, &url, "wrong");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("Unauthorized"), "{stderr}");
    let (code, _, stderr) = check_against("[job.x]\n", &url, "t");
    assert_eq!(code, Some(2));
    assert!(stderr.contains("k1s.toml:1: job.x.type"), "{stderr}");
    let (code, _, stderr) = check_against("", "ftp://x", "t");
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--against: \"ftp://x\""), "{stderr}");
    drop(config);
    let (code, _, stderr) = check_against("", &url, "t");
    assert_eq!(code, Some(3));
    assert!(stderr.contains("cannot be reached"), "{stderr}");
}

#[test]
fn many_requests_are_each_answered() {
    let config = Configured::start(&job("web", ""));
    let mut raw: Vec<_> = (0..20).map(|_| config.k1s.connect()).collect();
    for connection in &mut raw {
        connection.send(b"POST /reload HTTP/1.1\r\nHost: k\r\nAuthorization: Bearer t\r\n\r\n");
    }
    let codes: Vec<u16> = raw.iter_mut().map(|connection| connection.reply().status).collect();
    assert!(codes.iter().all(|code| [200, 503].contains(code)), "{codes:?}");
    assert!(codes.iter().filter(|code| **code == 200).count() >= 16, "{codes:?}");
    assert_eq!(config.reload(), done(&[], &[], &[], &[], 1));
}
