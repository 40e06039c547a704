//! Checks that README.md is right.
//!
//! ```text
//! the first page: its config and Dockerfile are short and valid (`.ci/container` runs them)
//! the tour: each `$ command` ─▶ one shell ─▶ it prints the lines below it
//! the tables: the names in the first column ─▶ those that k1s itself knows, and no others
//! ```
//!
//! `…` in the output stands for anything. A command that only reads is repeated until its output is
//! right, because people type slower than tests.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use k1s::api::METRICS;
use k1s::config;
use k1s::job::{self, Spelling, Value as Field};
use k1s::properties::exposition;
use serde_json::{Value, json};

use crate::harness::{self, K1s, TempDir, skip, wait_until};

#[test]
fn the_tour_is_what_happens() {
    for tool in ["bash", "curl", "python3", "tar"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip!(format!("the tour needs {tool}"));
        }
    }
    let steps = steps(&section(TOUR));
    assert!(steps.len() > 20, "{} steps", steps.len());
    perform(steps);
}

#[test]
fn jobs_depend_on_others_as_shown() {
    for tool in ["bash", "curl"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip!(format!("the section needs {tool}"));
        }
    }
    let steps = steps(&section("\n## Dependencies\n"));
    assert!(steps.len() > 8, "{} steps", steps.len());
    perform(steps);
}

/// Types the commands; they print what is shown.
fn perform(steps: Vec<Step>) {
    // The directory of a user who has just installed k1s, and one for temporary directories.
    let [checkout, temporary] = [TempDir::new(), TempDir::new()];
    let changes = [("1298", free_port()), ("8000", free_port())];
    let here = |text: &str| {
        changes.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    };
    let mut shell = Shell::start(checkout.path(), temporary.path());
    for step in steps {
        let (command, shown) = (here(&step.command), here(step.shown.trim()));
        let mut printed = shell.run(&command);
        if step.only_looks() {
            let what = format!("{command}\nshows\n{shown}");
            wait_until(&what, || {
                let as_shown = matches(&shown, printed.trim());
                if !as_shown {
                    printed = shell.run(&command);
                }
                as_shown
            });
        }
        assert!(matches(&shown, printed.trim()), "{command}\nprinted\n{printed}\nnot\n{shown}");
    }
    let left: Vec<_> = fs::read_dir(checkout.path()).unwrap().collect();
    assert!(left.is_empty(), "the commands write into the checkout: {left:?}");
}

#[test]
fn the_first_page_holds_all_that_a_container_needs() {
    let readme = readme();
    let first = readme.split("\n## ").next().unwrap();
    let (config, dockerfile) = (block(first, "```toml\n"), block(first, "```dockerfile\n"));
    assert_eq!((config.lines().count(), dockerfile.lines().count()), (15, 4));
    let settings = config::parse(config, "k1s.toml", &nothing_set()).unwrap();
    let jobs: Vec<&str> = settings.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(jobs, ["web", "backup"]);
}

/// `.ci/example` runs it, where there is podman.
#[test]
fn the_complete_example_is_valid() {
    let section = section("\n## A complete example\n");
    let file = |path: &str| block(&section, &format!("```toml\n# {path}\n"));
    let start = K1s::with().bare().argument("check");
    fs::create_dir(start.dir().join("k1s.d")).unwrap();
    fs::write(start.dir().join("k1s.d/app.toml"), file("/etc/k1s.d/app.toml")).unwrap();
    let checked = start.file("k1s.toml", file("/etc/k1s.toml")).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let jobs = checked.stdout.lines().filter_map(|line| line.strip_prefix("[job."));
    let jobs: Vec<&str> = jobs.filter_map(|line| line.split(']').next()).collect();
    let expected =
        ["cluster", "db", "migration", "nginx", "backup", "alert", "app-1", "app-2", "app-3"];
    assert_eq!(jobs, expected);
    // All files that its commands name are shown.
    for path in ["# /srv/app.py", "-- /srv/schema.sql", "# /srv/nginx.conf"] {
        assert!(section.contains(&format!("\n{path}\n")), "{path}");
    }
}

#[test]
fn k1s_is_installed_before_it_is_called() {
    let readme = readme();
    let installed = readme.find("\ncargo install --path .\n").unwrap();
    let called = readme.find("\n$ k1s ").unwrap();
    assert!(installed < called);
}

#[test]
fn the_first_request_to_a_server_waits_for_it() {
    let steps = steps(&section(TOUR));
    let started = steps.iter().position(|step| step.command.ends_with('&')).unwrap();
    let asked = steps[started..].iter().find(|step| step.command.starts_with("curl ")).unwrap();
    assert!(asked.command.contains("--retry-connrefused"), "{}", asked.command);
}

#[test]
fn the_table_of_job_fields_is_complete() {
    let unknown = |fields: &[(&str, Field)]| {
        let mut table = vec![("type", text("continuous")), ("executable", text("x"))];
        table.extend(fields.iter().cloned());
        let table = table.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        job::parse(Field::Table(table), "/", Spelling::Camel).unwrap_err().to_string()
    };
    let far_off = || (FAR_OFF, text("x"));
    assert_eq!(names(&rows("| field |")), known(&unknown(&[far_off()])));
    for (name, row) in [("restart", "`policy`"), ("stop", "SIGTERM"), ("output", "historyLimit")] {
        let nested = Field::Table(vec![(FAR_OFF.to_owned(), text("x"))]);
        let row = rows("| field |").into_iter().find(|line| line.contains(row)).unwrap();
        for field in known(&unknown(&[(name, nested)])) {
            assert!(row.contains(&field), "{field} of {name} is not in {row}");
        }
    }
}

#[test]
fn the_tables_of_config_keys_are_complete() {
    let unknown =
        |text: String| config::parse(&text, "k1s.toml", &nothing_set()).unwrap_err().to_string();
    let keys = |table: &str| known(&unknown(format!("[{table}]\n{FAR_OFF} = 1")));
    assert_eq!(names(&rows("| `[http]` |")), keys("http"));
    let of_tokens = known(&unknown(format!("[[token]]\n{FAR_OFF} = 1")));
    assert_eq!(names(&rows("| `[[token]]` |")), of_tokens);
    let others: BTreeSet<String> = known(&unknown(format!("{FAR_OFF} = 1")))
        .into_iter()
        .filter(|table| !["http", "token", "job", "defaults", "include"].contains(&table.as_str()))
        .flat_map(|table| {
            let qualified = |key| format!("{table}.{key}");
            keys(&table).into_iter().map(qualified).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(names(&rows("| other tables |")), others);
}

#[test]
fn the_table_of_routes_is_complete() {
    let routes = k1s::api::ROUTES.iter();
    let routes = routes.map(|route| format!("{} {}", route.method.name(), route.path));
    assert_eq!(names(&rows("| route |")), routes.collect());
}

#[test]
fn the_tables_of_what_jobs_show_are_complete() {
    let k1s = K1s::start();
    k1s.create("daemon", &harness::continuous("exec sleep 60"));
    k1s.create("calendar", &json!({"type": "cron", "schedule": "@yearly", "executable": "true"}));
    let failed = k1s.run("failed", &json!({"type": "one-off", "executable": "/nowhere"}));
    let given = json!({"type": "one-off", "executable": "true", "stdin": "", "user": "0",
        "group": "0", "umask": "022", "nice": 0, "oomScoreAdj": 0, "timeoutSeconds": 1,
        "ttlSecondsAfterFinished": 3600, "onFailure": "failed",
        "readiness": {"log": "x"}, "liveness": {"exec": ["true"]}, "startTimeoutSeconds": 60});
    k1s.create("given", &given);
    let waits = json!({"type": "one-off", "executable": "true", "dependsOn": {"nobody": "ready"}});
    k1s.create("waits", &waits);
    let jobs = ["daemon", "calendar", "failed", "given", "waits"].map(|id| k1s.job(id));
    let mut keys: BTreeSet<String> = jobs.iter().flat_map(keys_of).collect();
    // It is there only while a run is deferred.
    keys.insert("error".to_owned());
    // They are there only when a run has said or shown something.
    keys.extend(["status", "lastProbe"].map(str::to_owned));
    assert_eq!(names(&rows("| key |")), keys);
    assert_eq!(names(&rows("| key of a result |")), keys_of(&failed).into_iter().collect());
    let states = k1s.get("/?state=none").error();
    let states = states.strip_prefix("state: must be one of ").unwrap();
    let states = states.split_once(", not").unwrap().0.split(", ").map(str::to_owned);
    assert_eq!(names(&rows("| state |")), states.collect());
}

#[test]
fn the_table_of_metrics_is_complete() {
    let k1s = K1s::start();
    k1s.run("done", &harness::one_off("true"));
    k1s.create("calendar", &json!({"type": "cron", "schedule": "@yearly", "executable": "true"}));
    k1s.create("daemon", &harness::continuous("exec sleep 60"));
    k1s.pid_of("daemon");
    let told = exposition::parse(&k1s.get("/metrics").text(), exposition::Format::Text);
    let rows = rows("| metric |");
    assert_eq!(names(&rows), METRICS.iter().map(|metric| metric.name.name.to_owned()).collect());
    for metric in &METRICS {
        let name = metric.name.name;
        let row = rows.iter().find(|row| names(&[(*row).clone()]).contains(name)).unwrap();
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let kind = format!("{:?}", metric.name.kind).to_lowercase();
        assert!(columns[2] == kind || columns[2].is_empty(), "{name}: {kind}");
        let labels = told.keys().filter(|(told, _)| {
            told.strip_prefix(name).is_some_and(|end| ["", "_sum"].contains(&end))
        });
        let labels: BTreeSet<_> = labels.flat_map(|(_, labels)| labels.keys().cloned()).collect();
        assert!(told.keys().any(|(told, _)| told.starts_with(name)), "{name}");
        assert_eq!(names(&[format!("|{}|", columns[3])]), labels, "{name}");
    }
}

/// A command of the tour, and what is shown below it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    shown: String,
}

impl Step {
    /// Whether the command can be repeated.
    fn only_looks(&self) -> bool {
        let words = self.command.split(' ');
        let changes = |word: &str| word == "-d" || word == "-X";
        let is_look = ["curl ", "k1s ps", "k1s logs", "k1s show"]
            .iter()
            .any(|it| self.command.starts_with(it));
        is_look && !words.clone().any(changes)
    }
}

/// The commands of all `console` blocks. A line that begins with blanks continues a command. A
/// `toml` block is the content of the file that its first line names, or else of `k1s.toml`.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```toml" {
            let content = lines.by_ref().take_while(|line| *line != "```");
            let content = content.fold(String::new(), |content, line| content + line + "\n");
            let first = content.strip_prefix("# ").and_then(|first| first.lines().next());
            let name = first.filter(|name| name.ends_with(".toml")).unwrap_or("k1s.toml");
            let command = format!("cat >{name} <<'END'\n{content}END");
            steps.push(Step { command, shown: String::new() });
        } else if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step { command: command.to_owned(), shown: String::new() });
        } else if inside {
            let step = steps.last_mut().expect("a block begins with a command");
            let target = if line.starts_with("    ") { &mut step.command } else { &mut step.shown };
            target.push('\n');
            target.push_str(line);
        }
    }
    steps
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else {
        return text == pattern;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('…').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// One bash, which runs one command after the other.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(dir: &Path, temporary: &Path) -> Shell {
        let binary = Path::new(env!("CARGO_BIN_EXE_k1s")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .current_dir(dir)
            .env("PATH", path)
            .env("HOME", dir)
            .env("TMPDIR", temporary)
            .env("no_proxy", "*")
            .env("K1S_SOCKET", "")
            .env_remove("PORT")
            .env_remove("K1S_AUTH_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Shell { child, input, output };
        shell.run("trap 'kill $(jobs -p) 2>/dev/null' EXIT");
        shell
    }

    /// Runs a command, and returns what it wrote to its standard output.
    fn run(&mut self, command: &str) -> String {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{command}\necho; echo {END}\n").as_bytes()).unwrap();
        let mut printed = String::new();
        while !printed.ends_with(&format!("\n{END}\n")) {
            let read = self.output.read_line(&mut printed).unwrap();
            assert!(read > 0, "bash ended: {command}\n{printed}");
        }
        printed.truncate(printed.len() - END.len() - 2);
        printed
    }
}

impl Drop for Shell {
    /// At the end of its input, bash ends what it has started.
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// An environment without variables for k1s.
fn nothing_set() -> config::Environment {
    let read: config::ReadFile = |path| fs::read(path);
    config::Environment {
        port: None,
        token: None,
        time_zone: None,
        state: None,
        socket: None,
        default_socket: None,
        directory: "/".to_owned(),
        read_config: read,
        read,
        list: |_| Ok(Vec::new()),
    }
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// From a heading to the next of the same kind.
fn section(heading: &str) -> String {
    let readme = readme();
    let (_, rest) = readme.split_once(heading).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The text of the first block that begins with `fence`.
fn block<'a>(text: &'a str, fence: &str) -> &'a str {
    let (_, rest) = text.split_once(fence).unwrap();
    rest.split_once("```").unwrap().0
}

/// The lines of the table whose head begins so.
pub(crate) fn rows(head: &str) -> Vec<String> {
    let readme = readme();
    let lines = readme.lines().skip_while(|line| !line.starts_with(head));
    lines.skip(2).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// The names in backticks in the first column.
pub(crate) fn names(rows: &[String]) -> BTreeSet<String> {
    assert!(!rows.is_empty());
    let columns = rows.iter().map(|row| row.split('|').nth(1).unwrap());
    columns.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The names that the error for an unknown field lists.
fn known(error: &str) -> BTreeSet<String> {
    let (_, names) = error.split_once("known are ").expect(error);
    names.split(", ").map(str::to_owned).collect()
}

fn keys_of(object: &Value) -> Vec<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn text(text: &str) -> Field {
    Field::String(text.to_owned())
}

/// Not similar to any name that k1s knows.
const FAR_OFF: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzz";
const TOUR: &str = "## A tour in five minutes";
const END: &str = "-- that was all --";

mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a…", "ab\nc", true),
            ("…c", "ab\nc", true),
            ("a…b…c", "a1b2c", true),
            ("a…b…c", "a1c2b", false),
            ("a…a", "a", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn commands_end_where_their_output_begins() {
        let text = "$ no\n```console\n$ a 'b\n    c'\nout\nmore\n$ curl x\n```\n$ no";
        let step =
            |command: &str, shown: &str| Step { command: command.into(), shown: shown.into() };
        assert_eq!(steps(text), [step("a 'b\n    c'", "\nout\nmore"), step("curl x", "")]);
        assert!(!steps(text)[0].only_looks() && steps(text)[1].only_looks());
    }

    #[test]
    fn a_config_that_is_shown_is_written() {
        let text = "```toml\n[http]\nport = 1\n```\nand\n```console\n$ a\n```";
        let config = "cat >k1s.toml <<'END'\n[http]\nport = 1\nEND";
        let step = |command: &str| Step { command: command.into(), shown: String::new() };
        assert_eq!(steps(text), [step(config), step("a")]);
    }
}
