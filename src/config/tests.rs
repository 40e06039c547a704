use super::*;
use crate::access::Tokens;

/// An environment with the files `/token` (`secret` and a newline), `/empty` and `/k1s.toml`.
fn environment() -> Environment {
    let read: ReadFile = |path| match path.to_str() {
        Some("/token") => Ok(b"secret\n".to_vec()),
        Some("/empty") => Ok(b"\n".to_vec()),
        Some("/k1s.toml") => Ok(b"http.port = 7\n".to_vec()),
        Some("/latin1.toml") => Ok(b"[http]\nport = 7 # \xe9\n".to_vec()),
        Some(path) => text_of(path).ok_or(io::ErrorKind::NotFound.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    Environment {
        port: None,
        token: None,
        time_zone: None,
        state: None,
        socket: None,
        default_socket: None,
        directory: "/srv".into(),
        read_config: read,
        read,
        list: |path| match path.to_str() {
            Some("conf.d/" | "conf.d") => Ok(names_in_conf_d()),
            Some(".") => Ok(vec!["k1s.toml".into(), "web.toml".into()]),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    }
}

fn with(port: Option<&str>, token: Option<&str>) -> Environment {
    Environment { port: port.map(Into::into), token: token.map(Into::into), ..environment() }
}

fn read(text: &str) -> Settings {
    parse(text, "k1s.toml", &environment()).unwrap()
}

/// The text is refused with this error, on one line.
#[track_caller]
fn check(text: &str, error: &str) {
    check_in(&environment(), text, error);
}

#[track_caller]
fn check_in(environment: &Environment, text: &str, error: &str) {
    let found = match parse(text, "k1s.toml", environment) {
        Ok(settings) => panic!("accepted: {text}\n{settings:?}"),
        Err(found) => found.to_string(),
    };
    assert!(
        found.starts_with(error) && !found.contains('\n'),
        "{text}\n  said {found}\n  want {error}"
    );
}

#[test]
fn an_empty_config_is_the_contracts_defaults() {
    let settings = load(None, &environment()).unwrap();
    assert_eq!(settings.fixed.host.to_string(), "0.0.0.0");
    assert_eq!(settings.fixed.port, 1298);
    assert_eq!(settings.live.tokens, Tokens::of_admin(b"abc123"));
    assert_eq!(settings.live.token_origin, TokenOrigin::Default);
    assert!(settings.live.ui);
    assert_eq!(settings.live.http, Limits::default());
    assert_eq!(settings.live.shutdown_timeout, Duration::from_secs(9));
    assert_eq!(settings.live.forward, None);
    assert_eq!(settings.live.output_memory_bytes, 67_108_864);
    assert_eq!(settings.live.output_disk_bytes, None);
    assert_eq!(settings.live.log_format, LogFormat::Text);
    assert_eq!(settings.live.log_level, LogLevel::Info);
    assert_eq!(settings.live.max_jobs, 100_000);
    assert_eq!(settings.jobs, []);
}

const EVERYTHING: &str = r#"
[http]
host = "::1"
port = 8080
auth_token = "secret"
ui = false
max_head_bytes = 2048
max_headers = 50
max_body_bytes = 4096
max_connections = 10
head_timeout_seconds = 1.5
body_timeout_seconds = 2
idle_timeout_seconds = 3
max_unsent_bytes = 1024
write_timeout_seconds = 0.25

[shutdown]
timeout_seconds = 2.5

[output]
forward = "json"
memory = 1_000
disk = 2_000_000

[log]
format = "json"
level = "debug"

[limits]
jobs = 2

[cron]
time_zone = "Europe/Berlin"

[job.web]
type = "continuous"
executable = "python3"
arguments = ["-m", "http.server"]
environment = { PASSWORD = "hunter2" }
restart = { policy = "on-failure" }

[job.backup]
type = "cron"
executable = "tar"
schedule_in_seconds = 5
workingDirectory = "data"
"#;

#[test]
fn every_key_is_read() {
    let settings = read(EVERYTHING);
    let wanted = Limits {
        max_head_bytes: 2048,
        max_headers: 50,
        max_body_bytes: 4096,
        max_connections: 10,
        head_timeout: Duration::from_millis(1500),
        body_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(3),
        max_unsent_bytes: 1024,
        write_timeout: Duration::from_millis(250),
    };
    assert_eq!(settings.live.http, wanted);
    assert!(!settings.live.ui);
    assert_eq!(settings.fixed.host.to_string(), "::1");
    assert_eq!(settings.fixed.port, 8080);
    assert_eq!(settings.live.tokens, Tokens::of_admin(b"secret"));
    assert_eq!(settings.live.token_origin, TokenOrigin::Key);
    assert_eq!(settings.live.shutdown_timeout, Duration::from_millis(2500));
    assert_eq!(settings.live.forward, Some(Forward::Json));
    assert_eq!(settings.live.output_memory_bytes, 1000);
    assert_eq!(settings.live.output_disk_bytes, Some(2_000_000));
    assert_eq!(settings.live.log_format, LogFormat::Json);
    assert_eq!(settings.live.log_level, LogLevel::Debug);
    assert_eq!(settings.live.max_jobs, 2);
    let jobs: Vec<_> = settings.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(jobs, ["web", "backup"], "in the order of the file");
    assert_eq!(settings.jobs[1].spec.command.working_directory, "/srv/data");
}

#[test]
fn localhost_is_not_looked_up() {
    let settings = read("http.host = \"localhost\"");
    assert_eq!(settings.fixed.host, Ipv4Addr::LOCALHOST);
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[http]\nport = 1\nauth_token = \"file\"\n";
    let settings = parse(text, "f", &with(Some("0"), Some("env\n"))).unwrap();
    assert_eq!(settings.fixed.port, 0);
    assert_eq!(settings.live.tokens, Tokens::of_admin(b"env"));
    assert_eq!(settings.live.token_origin, TokenOrigin::Environment);

    let text = "http.auth_token_file = \"/missing\"\n";
    let settings = parse(text, "f", &with(None, Some("env"))).unwrap();
    assert_eq!(settings.live.tokens, Tokens::of_admin(b"env"));

    let text = "http.port = 99999\n";
    check_in(&with(Some("1"), None), text, "k1s.toml:1: http.port: must");
}

#[test]
fn the_token_may_come_from_a_file() {
    let settings = read("http.auth_token_file = \"/token\"");
    assert_eq!(settings.live.tokens, Tokens::of_admin(b"secret"));
    assert_eq!(settings.live.token_origin, TokenOrigin::File("/token".into()));
}

#[test]
fn variables_that_are_wrong_are_named() {
    for port in ["", "x", "-1", "+1", " 1", "65536", "1.0", "99999999999"] {
        let error = format!(
            "PORT in the environment: must be a whole number from 0 to 65535, not {port:?}"
        );
        check_in(&with(Some(port), None), "", &error);
    }
    let place = "K1S_AUTH_TOKEN in the environment: must";
    for token in ["", "\n", "a b", "a\n\n", "a\r\n", "é", "\u{7f}"] {
        check_in(&with(None, Some(token)), "", place);
    }
    check_in(&with(None, Some(&"x".repeat(4097))), "", place);
}

#[test]
fn keys_that_are_wrong_are_named_with_their_place() {
    check("[http]\nprot = 80", "k1s.toml:2: http.prot: unknown field; did you mean `port`?");
    check("\n[htpp]\n", "k1s.toml:2: htpp: unknown field; did you mean `http`?");
    check("zzzzzz = 1", "k1s.toml:1: zzzzzz: unknown field; known are http,");
    check("log.levle = 1", "k1s.toml:1: log.levle: unknown field; did you mean `level`?");
    check("limits.job = 1", "k1s.toml:1: limits.job: unknown field; did you mean `jobs`?");
    check("[http]\nmaxHeaders = 1", "k1s.toml:2: http.maxHeaders: unknown field; did");
    check("http = 1", "k1s.toml:1: http: must be");
    check("[[http]]", "k1s.toml:1: http: must be");
    check("[http]\nport = 2026-01-01", "k1s.toml:2: http.port: must not be a date");
    check(
        "[http]\nport = \"80\"",
        "k1s.toml:2: http.port: must be a whole number from 0 to 65535, not a string",
    );
    check("[http]\nport = 65536", "k1s.toml:2: http.port: must be");
    check("[http]\nport = -1", "k1s.toml:2: http.port: must be");
    check("[http]\nport = 80.0", "k1s.toml:2: http.port: must be");
    for host in ["\"\"", "\"example.com\"", "\"[::1]\"", "\"1.2.3\"", "1", "\"::1%lo\""] {
        check(
            &format!("[http]\nhost = {host}"),
            "k1s.toml:2: http.host: must be an IPv4 or IPv6 address or \"localhost\", not ",
        );
    }
    check(
        "http.port = 1_000_000",
        "k1s.toml:1: http.port: must be a whole number from 0 to 65535, not 1_000_000",
    );
    check(
        "http.port = 0xfffff",
        "k1s.toml:1: http.port: must be a whole number from 0 to 65535, not 0xfffff",
    );
    check(
        "http.port = 1e3",
        "k1s.toml:1: http.port: must be a whole number from 0 to 65535; `1e3` is a float",
    );
    check(
        "http.port = {}",
        "k1s.toml:1: http.port: must be a whole number from 0 to 65535, not a table",
    );
    check("job.x = []", "k1s.toml:1: job.x: must be a table, not an array");
    let job = |fields: &str| format!("[job.x]\ntype = \"cron\"\nexecutable = \"x\"\n{fields}");
    for (fields, error) in [
        ("cwd = 1", "cwd: unknown field; here it is `working_directory`"),
        (
            "workingDirectori = 1",
            "workingDirectori: unknown field; did you mean `workingDirectory`?",
        ),
        ("environment = []", "environment: must be a table of strings, not an array"),
        (
            "schedule = \"TZ=Asia/Tokyo @daily\"",
            "schedule: must be only the expression; set `time_zone` to \"Asia/Tokyo\"",
        ),
        (
            "stop.timeout_seconds = -1.50",
            "stop.timeout_seconds: must be a number from 0 to 3162240000, not -1.50",
        ),
        (
            "stop.signal = \"a list\"",
            "stop.signal: must be the name of a signal, such as \"SIGTERM\", not \"a list\"",
        ),
        (
            "schedule = \"@daily\"\nschedule_in_seconds = 1",
            "schedule: cannot be given with `schedule_in_seconds`",
        ),
    ] {
        check(&job(fields), &format!("k1s.toml:4: job.x.{error}"));
    }
    check("http.max_headers = 0", "k1s.toml:1: http.max_headers: must be");
    check("http.head_timeout_seconds = 0", "k1s.toml:1: http.head_timeout_seconds: must");
    check("http.idle_timeout_seconds = nan", "k1s.toml:1: http.idle_timeout_seconds: must");
    check("shutdown.timeout_seconds = inf", "k1s.toml:1: shutdown.timeout_seconds: must");
    check("shutdown.timeout_seconds = 1e999", "k1s.toml:1: shutdown.timeout_seconds: must");
    check("output.forward = \"no\"", "k1s.toml:1: output.forward: must be one of \"prefix\",");
    check("log.format = true", "k1s.toml:1: log.format: must be one of \"text\", \"json\", not");
    check("a = ", "k1s.toml:1:5: ");
}

#[test]
fn tokens_that_are_wrong_are_named_and_not_shown() {
    check(
        "[http]\nauth_token_file = \"/token\"\nauth_token = \"x\"",
        "k1s.toml:2: http.auth_token_file: cannot be given with `auth_token`",
    );
    check("http.auth_token = \"\"", "k1s.toml:1: http.auth_token: must not be empty");
    check("http.auth_token = 5", "k1s.toml:1: http.auth_token: must be a string");
    check(
        "http.auth_token_file = \"/empty\"",
        "k1s.toml:1: http.auth_token_file: \"/empty\" must not be empty",
    );
    check(
        "http.auth_token_file = \"/missing\"",
        "k1s.toml:1: http.auth_token_file: \"/missing\" cannot be read: ",
    );
    for (token, why) in [
        ("a b", ""),
        ("\\uFEFFab", "; this begins with a byte order mark (BOM): save the file without one"),
        (
            "ab\\r\\n",
            "; this ends with a carriage return (\\r): save the file with the line ends of",
        ),
        ("ab\\n\\n", "; this has more than one line"),
        ("ab\\ncd", "; this has more than one line"),
    ] {
        check(
            &format!("http.auth_token = \"{token}\""),
            &format!(
                "k1s.toml:1: http.auth_token: must be visible ASCII characters, without blanks{why}"
            ),
        );
    }
    let error = parse("http.auth_token = \"hunter 2\"", "f", &environment()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter"));
}

#[test]
fn jobs_that_are_wrong_are_named_with_their_place() {
    let job = "[job.web]\ntype = \"continuous\"\nexecutable = \"x\"\n";
    let check = |text: &str, error: &str| check(&format!("{job}{text}"), error);
    check(
        "restart.polcy = \"always\"",
        "k1s.toml:4: job.web.restart.polcy: unknown field; did you mean `policy`?",
    );
    check(
        "workng_directory = \"/\"",
        "k1s.toml:4: job.web.workng_directory: unknown field; did you mean `working_directory`?",
    );
    check(
        "workngDirectory = \"/\"",
        "k1s.toml:4: job.web.workngDirectory: unknown field; did you mean `workingDirectory`?",
    );
    check(
        "output.zzzz = 1",
        "k1s.toml:4: job.web.output.zzzz: unknown field; known are limit_bytes",
    );
    check(
        "[job.web.restart]\npolicy = \"x\"",
        "k1s.toml:5: job.web.restart.policy: must be one of",
    );
    check("arguments = [\n\"a\",\n1]", "k1s.toml:6: job.web.arguments.1: must be a string");
    check(
        "clear_environment = true\nclearEnvironment = true",
        "k1s.toml:5: job.web.clearEnvironment: is given twice",
    );
    check("[job.\"a b\"]", "k1s.toml:4: job.\"a b\": Invalid job id");
    check("[job.b]\ntype = \"cron\"", "k1s.toml:4: job.b.executable: is required");
    check("[limits]\njobs = 0", "k1s.toml:1: job.web: is more than `limits.jobs` allows, 0");
    super::tests::check("job = []", "k1s.toml:1: job: must be a table of jobs");
}

/// The error had the spelling of the API, and the line of the table.
#[test]
fn a_time_zone_that_is_wrong_is_named_as_it_was_spelled() {
    let cron = "[job.a]\ntype = \"cron\"\nexecutable = \"x\"\n";
    check(&format!("{cron}time_zone = \"UTC\""), "k1s.toml:4: job.a.time_zone: needs a `schedule`");
    check(
        &format!("{cron}schedule = \"@daily\"\ntime_zone = \"Nowhere\""),
        "k1s.toml:5: job.a.time_zone: time zone \"Nowhere\" is not known",
    );
    check(&format!("{cron}timeZone = \"UTC\""), "k1s.toml:4: job.a.timeZone: needs a `schedule`");
}

/// The content of a file was written to the terminal as it was.
#[test]
fn control_characters_are_escaped_in_errors() {
    check("a = \"\u{1b}[31m\"", "k1s.toml:1:6: invalid basic string");
    for text in ["a = \"\u{1b}[31m\"", "a = \r", "\"\\u001b\" = 1", "[job.\"a\\u0085\"]"] {
        let error = parse(text, "k1s.toml", &environment()).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

/// The path was shown with escapes of Rust, which TOML does not have.
#[test]
fn the_path_of_a_token_file_is_described_as_toml() {
    let text = r#"http.auth_token_file = "/\u001b\"\\'\u007f\u0085\u2028é""#;
    let environment = Environment { read: |_| Ok(b"secret".to_vec()), ..environment() };
    let settings = parse(text, "f", &environment).unwrap();
    let again = parse(&describe(&settings), "described", &environment).unwrap();
    assert_eq!(again.without_places(), settings.without_places());
}

#[test]
fn files_are_read_or_named() {
    let settings = load(Some(Path::new("/k1s.toml")), &environment()).unwrap();
    assert_eq!(settings.fixed.port, 7);
    let error = |path| load(Some(Path::new(path)), &environment()).unwrap_err();
    assert_eq!(error("/latin1.toml").to_string(), "/latin1.toml:2: is not UTF-8");
    assert!(error("/none").to_string().starts_with("/none: cannot be read: "));
}

#[test]
fn the_token_and_secrets_are_never_shown() {
    let secret = "secret_environment = [\"PASSWORD\"]\nenvironment = {";
    let everything = EVERYTHING.replace("environment = {", secret);
    for (text, token) in
        [("", Some("hunter2")), ("http.auth_token = \"hunter2\"", None), (&everything, None)]
    {
        let settings = parse(text, "f", &with(None, token)).unwrap();
        assert!(!format!("{:?}", settings.live).contains("hunter2"));
        assert!(!describe(&settings).contains("hunter2"));
        assert!(!describe(&settings).contains("\"secret"));
    }
}

/// What `describe` prints means the same when it is read again, except for the token.
fn check_description(settings: &Settings) {
    let text = describe(settings);
    let mut again = parse(&text, "described", &environment()).unwrap();
    again.live.tokens = settings.live.tokens.clone();
    again.live.token = settings.live.token.clone();
    again.live.token_origin = settings.live.token_origin.clone();
    assert_eq!(again.without_places(), settings.clone().without_places(), "{text}");
}

#[test]
fn a_description_means_the_same_again() {
    check_description(&read(""));
    check_description(&read(EVERYTHING));
    check_description(&read("http.auth_token_file = \"/token\""));
    let text = describe(&read(EVERYTHING));
    assert!(
        text.contains("\n[job.web]  # k1s.toml:35\ntype = \"continuous\"  # k1s.toml:36\n"),
        "{text}"
    );
    assert!(
        text.contains("\nlimits = {}  # default\n") && text.contains(", timeout_seconds = 10, "),
        "{text}"
    );
    check_description(&read(
        "[job.\"a.b\"]\ntype = 'one-off'\nexecutable = '\"\\'\nlabels.'a b' = \"\\n\"\n\
         limits.nproc = { soft = 1, hard = 2 }\nttl_seconds_after_finished = 0.25",
    ));
}

#[test]
fn the_time_zone_of_expressions_is_the_configs_or_that_of_tz() {
    let zone = |text: &str, tz: &str| {
        let environment = Environment { time_zone: Some(tz.into()), ..environment() };
        let job = "\n[job.x]\ntype = \"cron\"\nschedule = \"@daily\"\nexecutable = \"x\"";
        let settings = parse(&format!("{text}{job}"), "k1s.toml", &environment).unwrap();
        let shown = describe(&settings);
        assert_eq!(shown.matches(&settings.live.time_zone).count(), 2, "{shown}");
        settings.live.time_zone
    };
    let berlin = "cron.time_zone = \"Europe/Berlin\"";
    for (text, tz, expected) in [
        ("", "", "UTC"),
        ("", "Asia/Tokyo", "Asia/Tokyo"),
        ("", ":Asia/Tokyo", "Asia/Tokyo"),
        ("", "JST-9", "UTC"),
        ("", ":/etc/localtime", "UTC"),
        (berlin, "Asia/Tokyo", "Europe/Berlin"),
    ] {
        assert_eq!(zone(text, tz), expected, "{text} {tz}");
    }
    check(
        "[cron]\ntime_zone = \"Mars/Base\"",
        "k1s.toml:2: cron.time_zone: must be the IANA name of a time zone, such as ",
    );
}

#[test]
fn what_jobs_wait_for_is_declared_and_no_circle() {
    let jobs = |entries: &[(&str, &str)]| {
        let job = |(id, on): &(&str, &str)| {
            format!("[job.{id}]\ntype = \"one-off\"\nexecutable = \"x\"\n{on}\n")
        };
        entries.iter().map(job).collect::<String>()
    };
    let on = |on: &str| format!("depends_on = {{{on}}}");
    let (on_b, on_c) = (on("b = \"ready\""), on("c = \"ended\", b = \"started\""));
    let right = jobs(&[("a", &on_c), ("b", ""), ("c", &on_b)]);
    let settings = parse(&right, "k1s.toml", &environment()).unwrap();
    let names: Vec<_> = settings.jobs[0].spec.depends_on.keys().map(|id| id.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    check(&jobs(&[("a", &on_b)]), "k1s.toml:4: job.a.depends_on: the config declares no job b");
    check(
        &jobs(&[("web", ""), ("a", "dependsOn.wed = \"ready\"")]),
        "k1s.toml:8: job.a.depends_on: the config declares no job wed; did you mean \"web\"?",
    );
    check(
        &jobs(&[("a", &on("main = \"started\""))]),
        "k1s.toml:4: job.a.depends_on: the config declares no job main, and none waits for the \
         command of k1s init",
    );
    let on_a = on("a = {condition = \"succeeded\", restart = true}");
    check(&jobs(&[("a", &on_a)]), "k1s.toml:4: job.a.depends_on: a job cannot wait for itself");
    check(
        &jobs(&[("x", &on_b), ("b", &on("c = \"ready\"")), ("c", &on_a), ("a", &on_b)]),
        "k1s.toml:16: job.a.depends_on: b → c → a → b is a circle: none of them would ever start",
    );
}

/// As many as there may be, each waiting for the next: the check walks, it does not recurse.
#[test]
fn a_long_chain_of_declared_jobs_is_no_circle() {
    let job = |n: usize| {
        let on = if n == 0 { String::new() } else { format!("dependsOn.j{} = \"ready\"", n - 1) };
        format!("[job.j{n}]\ntype = \"one-off\"\nexecutable = \"x\"\n{on}\n")
    };
    let text: String = (0..10_000).rev().map(job).collect();
    assert_eq!(parse(&text, "f", &environment()).unwrap().jobs.len(), 10_000);
}

/// Any file is either settings or an error on one line.
#[test]
fn damaged_configs_are_answered() {
    let answer = |text: &str| match parse(text, "f", &environment()) {
        Ok(settings) => check_description(&settings),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    };
    for at in 0..EVERYTHING.len() {
        let (before, after) = EVERYTHING.split_at(at);
        let mut rest = after.chars();
        rest.next();
        answer(before);
        for damage in ["", "\n", "\"", "[", "]", "{", "=", ".", "9", "\0", "é", ","] {
            answer(&format!("{before}{damage}{}", rest.as_str()));
        }
    }
}

/// The toml crate frees tables by recursion. It limits nesting to 80 inline tables with dotted keys
/// of 80 parts, for which the stack of the main thread, 8 MiB, is enough.
#[test]
fn deep_nests_are_answered() {
    let dotted = "a.".repeat(78) + "a = {";
    let texts = [
        "a = ".to_owned() + &"[".repeat(10_000),
        "a.".repeat(10_000) + "a = 1",
        dotted.repeat(77) + "b = 1" + &"}".repeat(77),
        dotted.repeat(1_000) + "b = 1",
        format!("[{}a]\n", "a.".repeat(70)).repeat(2),
    ];
    let answer = move || {
        for text in texts {
            assert!(parse(&text, "f", &environment()).is_err());
        }
    };
    let main_thread = std::thread::Builder::new().stack_size(8 << 20);
    main_thread.spawn(answer).unwrap().join().unwrap();
}

/// A file that [`environment`] has.
fn text_of(path: &str) -> Option<Vec<u8>> {
    let job = |id: &str| format!("[job.{id}]\ntype = \"continuous\"\nexecutable = \"x\"\n");
    let text = match path {
        "conf.d/10-web.toml" => format!("[defaults]\nuser = \"www\"\n{}", job("web")),
        "conf.d/20-db.toml" => job("db"),
        "conf.d/twice.conf" => job("db"),
        "conf.d/late.conf" => format!("\n\n{}nice = 99\n", job("late")),
        "conf.d/http.conf" => "[http]\nport = 1\n".to_owned(),
        "conf.d/nested.conf" => "include = [\"x\"]\n".to_owned(),
        "conf.d/bad.conf" => "[job\n".to_owned(),
        "conf.d/wrong.conf" => format!("[defaults]\nnice = \"x\"\n{}", job("web")),
        "web.toml" => job("web"),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn names_in_conf_d() -> Vec<OsString> {
    ["20-db.toml", ".hidden.toml", "10-web.toml", "late.conf", "README"].map(Into::into).into()
}

fn ids(settings: &Settings) -> Vec<&str> {
    settings.jobs.iter().map(|job| job.id.as_str()).collect()
}

#[test]
fn included_files_come_in_the_order_of_their_names_after_the_config() {
    let own = "[job.own]\ntype = \"continuous\"\nexecutable = \"x\"\n";
    for (include, expected) in [
        ("[\"conf.d/*.toml\"]", &["own", "web", "db"][..]),
        ("[\"conf.d/20*\", \"conf.d/*.toml\"]", &["own", "db", "web"]),
        ("[\"conf.d/2?-db.toml\"]", &["own", "db"]),
        ("[\"conf.d/10-web.toml\", \"conf.d/10-web.toml\"]", &["own", "web"]),
        ("[\"conf.d/none*\"]", &["own"]),
        ("[\"conf.d/.h*ml~\"]", &["own"]),
        ("[\"*.toml\"]", &["own", "web"]),
        ("[]", &["own"]),
    ] {
        let settings = read(&format!("include = {include}\n{own}"));
        assert_eq!(ids(&settings), expected, "{include}");
    }
    let settings = read("include = [\"conf.d/*.toml\"]\n[defaults]\nuser = \"own\"");
    let users: Vec<_> = settings.jobs.iter().map(|job| job.spec.command.user.clone()).collect();
    assert_eq!(users, [Some("www".to_owned()), None], "defaults are those of the file");
    let places: Vec<_> = settings.jobs.iter().map(|job| job.place.to_string()).collect();
    assert_eq!(places, ["conf.d/10-web.toml:3", "conf.d/20-db.toml:1"]);
}

#[test]
fn paths_of_included_files_begin_where_that_of_the_config_does() {
    let environment = Environment {
        read: |path| match path.to_str() {
            Some("/etc/k1s/more.toml") => Ok(b"[job.x]\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        ..environment()
    };
    for include in ["more.toml", "/etc/k1s/more.toml"] {
        let text = format!("include = [\"{include}\"]");
        let error = parse(&text, "/etc/k1s/k1s.toml", &environment).unwrap_err().to_string();
        assert!(error.starts_with("/etc/k1s/more.toml:1: job.x.type: is required"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_included_files_is_named_with_its_place() {
    let job = "[job.db]\ntype = \"continuous\"\nexecutable = \"x\"";
    let include = |pattern: &str| format!("\ninclude = [\"conf.d/*.toml\", \"{pattern}\"]\n");
    for (pattern, error) in [
        ("none.toml", "k1s.toml:2: include.1: \"none.toml\" cannot be read: "),
        ("none/*.toml", "k1s.toml:2: include.1: the directory \"none/\" cannot be read: "),
        ("conf.d/?", "k1s.toml:2: include.1: \"conf.d/?\" matches no file"),
        ("*/x.toml", "k1s.toml:2: include.1: must have `*` and `?` after the last `/` alone, not"),
        ("conf.d/", "k1s.toml:2: include.1: must be the path of files, not \"conf.d/\""),
        ("", "k1s.toml:2: include.1: must not be empty"),
        (
            "conf.d/twice.conf",
            "conf.d/twice.conf:1: job.db: job db is declared already, at conf.d/20-db.toml:1",
        ),
        ("conf.d/l*.conf", "conf.d/late.conf:6: job.late.nice: must be a whole number from -20"),
        ("conf.d/http.conf", "conf.d/http.conf:1: http: an included file holds [job.ID] and [d"),
        ("conf.d/nested.conf", "conf.d/nested.conf:1: include: an included file holds [job.ID] an"),
        ("conf.d/bad.conf", "conf.d/bad.conf:1:5: "),
        ("conf.d/wrong.conf", "conf.d/wrong.conf:2: defaults.nice: must be a whole number from "),
    ] {
        check(&include(pattern), error);
    }
    check(
        &format!("{}{job}", include("conf.d/none*")),
        "conf.d/20-db.toml:1: job.db: job db is declared already, at k1s.toml:3",
    );
    check("include = \"x\"", "k1s.toml:1: include: must be an array, not a string");
    check(
        "include = [\"conf.d/*.toml\"]\nlimits.jobs = 1",
        "conf.d/20-db.toml:1: job.db: is more than `limits.jobs` allows, 1",
    );
}

#[test]
fn defaults_lie_under_the_jobs_whose_type_has_them() {
    let settings = read(
        "[defaults]\ntype = \"continuous\"\nworking_directory = \"/a\"\nretries = 3\n\
         environment = { A = \"1\", B = \"1\" }\n\
         [job.x]\nexecutable = \"x\"\nworkingDirectory = \"/b\"\nenvironment.B = \"2\"\n\
         [job.y]\ntype = \"one-off\"\nexecutable = \"y\"\n",
    );
    let [x, y] = &settings.jobs[..] else { panic!() };
    assert_eq!(x.spec.command.working_directory, "/b");
    let environment: Vec<_> = x.spec.command.environment.iter().collect();
    assert_eq!(environment, [(&"A".into(), &"1".into()), (&"B".into(), &"2".into())]);
    assert_eq!(y.spec.command.working_directory, "/a");
    assert!(matches!(y.spec.kind, crate::job::spec::Kind::OneOff { retries: 3, .. }));
}

#[test]
fn defaults_that_are_wrong_are_named_in_their_table() {
    let job = "[job.x]\ntype = \"continuous\"\nexecutable = \"x\"\ninstances = 2\n";
    let check =
        |defaults: &str, error: &str| check(&format!("[defaults]\n{defaults}\n{job}"), error);
    check("nice = 99", "k1s.toml:2: defaults.nice: must be a whole number from -20 to 19, not 99");
    check("nise = 1", "k1s.toml:2: defaults.nise: unknown field; did you mean `nice`?");
    check("instances = 1", "k1s.toml:2: defaults.instances: unknown field");
    check("retries = -1", "k1s.toml:2: defaults.retries: must be");
    check("\n[defaults.stop]\nsignal = \"X\"", "k1s.toml:4: defaults.stop.signal: must be");
    check("labels.instances = \"x\"", "k1s.toml:2: defaults.labels.instances: is set by `inst");
    check("environment.K1S_INSTANCE = \"x\"", "k1s.toml:2: defaults.environment.K1S_INSTANCE: is");
    super::tests::check("defaults = 1", "k1s.toml:1: defaults: must be a table, not 1");
}

#[test]
fn instances_are_jobs_with_numbers() {
    let job = "[job.w]\ntype = \"continuous\"\nexecutable = \"x\"\n";
    let settings = read(&format!("{job}instances = 3\nlabels.team = \"a\"\n"));
    assert_eq!(ids(&settings), ["w:0", "w:1", "w:2"]);
    for (number, job) in settings.jobs.iter().enumerate() {
        assert_eq!(job.spec.command.environment["K1S_INSTANCE"], number.to_string());
        let labels: Vec<_> = job.spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["instances=w", "team=a"]);
    }
    check_description(&settings);
    let check = |rest: &str, error: &str| check(&format!("{job}{rest}"), error);
    check("instances = 0", "k1s.toml:4: job.w.instances: must be a whole number from 1 to 1000");
    check("instances = 1001", "k1s.toml:4: job.w.instances: must be a whole number from 1 to 10");
    check("instances = \"2\"", "k1s.toml:4: job.w.instances: must be a whole number");
    check(
        "instances = 2\n[job.x]\ntype = \"one-off\"\nexecutable = \"x\"\ninstances = 2",
        "k1s.toml:8: job.x.instances: is for continuous jobs only",
    );
    check(
        "instances = 2\n[job.\"w:1\"]\ntype = \"one-off\"\nexecutable = \"x\"",
        "k1s.toml:5: job.\"w:1\": job w:1 is declared already, at k1s.toml:1",
    );
    check(
        "instances = 2\nenvironment = { K1S_INSTANCE = \"7\" }",
        "k1s.toml:5: job.w.environment.K1S_INSTANCE: is set by `instances`",
    );
    check("instances = 2\nlabels.instances = \"a\"", "k1s.toml:5: job.w.labels.instances: is set");
    check("instances = 2\n[limits]\njobs = 1", "k1s.toml:1: job.w: is more than `limits.jobs`");
    let long = "x".repeat(127);
    super::tests::check(
        &job.replace(".w", &format!(".{long}")).replace("\"x\"", "\"x\"\ninstances = 1"),
        &format!("k1s.toml:4: job.{long}.instances: Invalid job id: an id is 1 to 128"),
    );
}

#[test]
fn a_description_says_where_each_value_comes_from() {
    let text = "include = [\"conf.d/10-web.toml\"]\n[http]\nport = 1\n\n[defaults]\nuser = \"app\"\n\
                environment = { A = \"1\" }\n[job.w]\ntype = \"continuous\"\nexecutable = \"x\"\n\
                instances = 1\nenvironment.B = \"2\"\n";
    let shown = describe(&read(text));
    for line in [
        "port = 1  # k1s.toml:3",
        "host = \"0.0.0.0\"  # default",
        "[job.\"w:0\"]  # k1s.toml:8",
        "executable = \"x\"  # k1s.toml:10",
        "user = \"app\"  # [defaults] k1s.toml:6",
        "environment = { A = \"1\", B = \"2\", K1S_INSTANCE = \"0\" }  # instances k1s.toml:11, \
         k1s.toml:12, [defaults] k1s.toml:7",
        "labels = { instances = \"w\" }  # instances k1s.toml:11",
        "[job.web]  # conf.d/10-web.toml:3",
        "user = \"www\"  # [defaults] conf.d/10-web.toml:2",
        "arguments = []  # default",
        "time_zone = \"UTC\"  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let environment = Environment { time_zone: Some("Asia/Tokyo".into()), ..with(Some("7"), None) };
    let shown = describe(&parse(text, "a\nb", &environment).unwrap());
    for line in [
        "port = 7  # PORT in the environment",
        "time_zone = \"Asia/Tokyo\"  # TZ in the environment",
        "[job.\"w:0\"]  # a\\nb:8",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

const TOKENS: &str = r#"
[[token]]
name = "ci"
token = "given-secret"
scope = "run"
jobs = ["web*", "db"]

[[token]]
name = "prometheus"
token_file = "/token"
scope = "read"

[[token]]
name = "ops"
token_sha256 = "6CA13D52ca70c883e0f0bb101e425a89e8624de51db2d2392593af6a84118090"
scope = "admin"
"#;

#[test]
fn tables_of_tokens_are_read() {
    let settings = read(TOKENS);
    assert_eq!(settings.live.token_origin, TokenOrigin::None, "no default token");
    let of = |secret: &[u8]| {
        let access = settings.live.tokens.find(secret)?;
        let patterns = access.visible.patterns().join(" ");
        Some(format!("{} {} {patterns}", access.asker, access.scope.name()))
    };
    assert_eq!(of(b"given-secret").as_deref(), Some("token ci run web* db"));
    assert_eq!(of(b"secret").as_deref(), Some("token prometheus read "));
    assert_eq!(of(b"abc123").as_deref(), Some("token ops admin "));
    let settings = read(&format!("http.auth_token = \"x\"{TOKENS}"));
    assert_eq!(settings.live.token_origin, TokenOrigin::Key);
    assert!(settings.live.tokens.find(b"x").is_some());
    let text = describe(&settings);
    assert!(text.contains("[[token]]  # k1s.toml:2\nname = \"ci\"\n# token: as given, not shown"));
    assert!(!text.contains("given-secret") && !format!("{:?}", settings.live).contains("given-s"));
    assert!(text.contains("\n# jobs: all\n") && text.contains("\njobs = [\"web*\", \"db\"]\n"));
    assert_eq!(read("token = []").live.token_origin, TokenOrigin::Default);
}

/// Nobody can read the description of a token that was given in clear: it gets another.
#[test]
fn a_description_of_tokens_means_the_same_again() {
    let settings = read(TOKENS);
    let text = describe(&settings).replace("# token: as given, not shown", "token = \"other\"");
    let again = parse(&text, "described", &environment()).unwrap();
    assert_eq!(again.live.token_tables, settings.live.token_tables, "{text}");
    assert_eq!(again.live.token_origin, TokenOrigin::None);
}

#[test]
fn tables_of_tokens_that_are_wrong_are_named_with_their_place() {
    let table = |fields: &str| format!("[[token]]\n{fields}");
    for (fields, error) in [
        ("name = \"a\"\ntoken = \"x\"", "1: token.0.scope: is required"),
        ("scope = \"read\"\ntoken = \"x\"", "1: token.0.name: is required"),
        ("name = \"a\"\nscope = \"read\"", "1: token.0: must have one of `token`, `token_file`"),
        (
            "name = \"a\"\nscope = \"read\"\ntoken = \"x\"\ntoken_file = \"/token\"",
            "1: token.0: must have one of `token`, `token_file` and `token_sha256`, and only one",
        ),
        (
            "name = \"a\"\ntoken = \"x\"\nscope = \"root\"",
            "4: token.0.scope: must be one of \"read\"",
        ),
        ("name = \"a b\"", "2: token.0.name: must be 1 to 64 of A-Z a-z 0-9 . _ -, not \"a b\""),
        ("name = \"\"", "2: token.0.name: must not be empty"),
        ("name = \"default\"", "2: token.0.name: \"default\" is the name of `http.auth_token`"),
        ("name = \"a\"\ntoken = \"\"", "3: token.0.token: must not be empty"),
        ("name = \"a\"\ntoken = \"a b\"", "3: token.0.token: must be visible ASCII"),
        (
            "name = \"a\"\ntoken_file = \"/missing\"\nscope = \"read\"",
            "3: token.0.token_file: \"/missing\" cannot",
        ),
        (
            "name = \"a\"\ntoken_file = \"/empty\"\nscope = \"read\"",
            "3: token.0.token_file: \"/empty\" must not",
        ),
        (
            "name = \"a\"\ntoken_sha256 = \"abc\"",
            "3: token.0.token_sha256: must be the 64 hexadecimal",
        ),
        (
            "name = \"a\"\ntoken_sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
            "3: token.0.token_sha256: must not be that of an empty token",
        ),
        ("name = \"a\"\nscope = \"read\"\njobs = []", "4: token.0.jobs: must not be empty; leave"),
        (
            "name = \"a\"\nscope = \"read\"\njobs = [\"x\", \"a/b\"]",
            "4: token.0.jobs.1: must be the id",
        ),
        ("name = \"a\"\nscope = \"read\"\njobs = \"x\"", "4: token.0.jobs: must be an array"),
        ("nam = \"a\"", "2: token.0.nam: unknown field; did you mean `name`?"),
    ] {
        check(&table(fields), &format!("k1s.toml:{error}"));
    }
    check("[token]\nname = \"a\"", "k1s.toml:1: token: must be a table [[token]], in double");
    let again = |name: &str, secret: &str| {
        format!("{TOKENS}\n[[token]]\nname = \"{name}\"\nscope = \"read\"\ntoken = \"{secret}\"")
    };
    check(&again("ci", "y"), "k1s.toml:19: token.3.name: \"ci\" is the name of another token");
    check(&again("x", "abc123"), "k1s.toml:21: token.3.token: the same as that of \"ops\": each");
    let text = again("x", "y")
        .replace("[[token]]\nname = \"ci", "http.auth_token = \"y\"\n[[token]]\nname = \"ci");
    check(&text, "k1s.toml:22: token.3.token: the same as that of \"default\"");
    let included = "include = [\"tokens.toml\"]\n";
    let read = |path: &Path| match path.to_str() {
        Some("tokens.toml") => Ok(TOKENS.as_bytes().to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let environment = Environment { read, ..environment() };
    check_in(&environment, included, "tokens.toml:2: token: an included file holds");
}
