//! The command line: from the arguments to what is to be done.
//!
//! ```text
//! k1s [-c FILE]                                                Run
//! k1s check -c FILE [--against URL]                            Check
//! k1s init [-c FILE] [--] CMD [ARG…]                           Init
//! k1s state [-d DIR] [--json]                                  State
//! k1s schedule EXPR [--tz ZONE] [--after RFC3339] [-n N]       Schedule
//! k1s explain [NAME]                                           Explain
//! k1s [--url URL] [--token-file FILE] [--json] ps …            Client: see `client`
//! k1s --version                                                Version
//! k1s [COMMAND] --help                                         Help
//! ```
//!
//! [`main`] does it. A usage error, or an error in the config, is one line on stderr and exit
//! code 2. The options of the client may stand after its command, too.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::{FromArgs, SubCommands};

use crate::calendar::{format_rfc3339_seconds, parse_rfc3339};
use crate::client::{self, Options};
use crate::config;
use crate::daemon::{self, Clock, Daemon, Role, Startup};
use crate::explain::explain;
use crate::schedule::{CronSchedule, ScheduleError};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Supervise.
    Run {
        /// The config; `None`: the defaults.
        config: Option<PathBuf>,
    },
    /// Show what a config means, or what is wrong with it.
    Check {
        /// The config.
        config: PathBuf,
        /// The k1s to compare it with, which it says instead.
        against: Option<String>,
    },
    /// Supervise with a command as the main job, whose end ends everything.
    Init {
        /// The config; `None`: the defaults.
        config: Option<PathBuf>,
        /// The executable and its arguments; never empty.
        command: Vec<String>,
    },
    /// Show what a state directory contains.
    State {
        /// The directory; `None`: that of `K1S_STATE`.
        directory: Option<PathBuf>,
        /// In JSON, as the API shows it.
        json: bool,
    },
    /// Print the next times of a schedule.
    Schedule(ScheduleQuery),
    /// Say what a name means.
    Explain {
        /// A field, a key or a route; `None`: all of them.
        name: Option<String>,
    },
    /// Ask a running k1s.
    Client(client::Command, Options),
    /// Print `VERSION`.
    Version,
    /// Print this help.
    Help(String),
}

impl Invocation {
    /// Whether it starts a supervisor, which handles signals. Any signal may end the others.
    fn supervises(&self) -> bool {
        match self {
            Invocation::Run { .. } | Invocation::Init { .. } => true,
            Invocation::Check { .. }
            | Invocation::State { .. }
            | Invocation::Schedule(_)
            | Invocation::Explain { .. }
            | Invocation::Client(..)
            | Invocation::Version
            | Invocation::Help(_) => false,
        }
    }
}

/// `k1s schedule`: which times of which schedule. The texts are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleQuery {
    /// The cron expression.
    expression: String,
    /// The IANA name of the time zone; `None`: UTC.
    zone: Option<String>,
    /// An RFC 3339 time; only later ones are printed. `None`: now.
    after: Option<String>,
    /// How many to print.
    count: NonZeroU32,
}

/// Runs the whole process, from the arguments to the exit code.
pub fn main() -> ExitCode {
    // First of all, because PID 1 loses signals that come before this.
    let startup = daemon::prepare();
    let invocation = parse(std::env::args_os().skip(1));
    if !invocation.as_ref().is_ok_and(Invocation::supervises) {
        startup.release_signals();
    }
    let result = match invocation {
        Ok(Invocation::Run { config }) => supervise(config.as_deref(), None, &startup),
        Ok(Invocation::Check { config, against }) => check(&config, against.as_deref()),
        Ok(Invocation::Init { config, command }) => {
            supervise(config.as_deref(), Some(command), &startup)
        }
        Ok(Invocation::State { directory, json }) => state(directory, json),
        Ok(Invocation::Schedule(query)) => schedule(&query),
        Ok(Invocation::Explain { name }) => explained(name.as_deref()),
        Ok(Invocation::Client(command, options)) => Ok(ask(&command, &options)),
        Ok(Invocation::Version) => show(&format!("{VERSION}\n")),
        Ok(Invocation::Help(text)) => show(&text),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        say(&error);
        ExitCode::from(USAGE)
    })
}

/// Supervises; with a `command`, as the first process of a container.
fn supervise(
    config: Option<&Path>,
    command: Option<Vec<String>>,
    startup: &Startup,
) -> Result<ExitCode, String> {
    let environment = environment();
    let settings = config::load(config, &environment).map_err(|error| error.to_string())?;
    let has_token = settings.live.token_origin != config::TokenOrigin::Default;
    let is_asked_for = config.is_some() || environment.port.is_some() || has_token;
    let (settings, role) = match command {
        None => (settings, Role::Supervisor),
        Some(command) => {
            if !is_asked_for {
                startup.reveal();
            }
            (settings.for_init(), Role::Init { command, opens_port: is_asked_for })
        }
    };
    let format = settings.live.log_format;
    let mut daemon = match Daemon::new(settings, role, startup, Clock::of_the_system()) {
        Ok(daemon) => daemon,
        Err(error) => {
            let _ = io::stderr().write_all(&daemon::error_line(format, &error));
            return Ok(ExitCode::from(USAGE));
        }
    };
    if let Some(config) = config {
        daemon.read_again_from(config.to_owned(), environment);
    }
    if let Some(address) = daemon.address() {
        if !has_token {
            daemon.say(config::LogLevel::Warn, &DEFAULT_TOKEN_WARNING);
        }
        daemon.say(config::LogLevel::Info, &format_args!("listening on http://{address}"));
        if let Some(path) = daemon.socket() {
            let path = path.display();
            daemon.say(config::LogLevel::Info, &format_args!("listening on unix://{path}"));
        }
    }
    Ok(ExitCode::from(daemon.run()))
}

/// That of this process, whose files are read so that a signal can end k1s meanwhile.
fn environment() -> config::Environment {
    config::Environment {
        default_socket: daemon::default_socket(),
        ..config::Environment::of_process(
            |path| daemon::read_config(path, config::LARGEST_FILE),
            |path| daemon::read_file(path, config::LARGEST_FILE),
        )
    }
}

fn check(config: &Path, against: Option<&str>) -> Result<ExitCode, String> {
    let settings = config::load(Some(config), &environment()).map_err(|error| error.to_string())?;
    if let Some(url) = against {
        let (code, said) = client::against(&settings, url);
        said.iter().for_each(|said| say(said));
        return Ok(code);
    }
    for config::Declaration { id, spec, place, .. } in &settings.jobs {
        for what in daemon::missing(id, spec) {
            say(&format!("warning: {place}: job {id}: {what}"));
        }
    }
    show(&config::describe(&settings))
}

/// Shows what a state directory contains. Exit code 1 if something in it is wrong.
fn state(directory: Option<PathBuf>, json: bool) -> Result<ExitCode, String> {
    let named = std::env::var_os("K1S_STATE").map(PathBuf::from);
    let directory = directory
        .or(named)
        .ok_or_else(|| usage("state needs a directory: k1s state -d DIR, or K1S_STATE"))?;
    let contents = daemon::contents(&directory, json)?;
    contents.problems.iter().for_each(|problem| say(problem));
    let shown = show(&contents.text)?;
    Ok(if contents.problems.is_empty() { shown } else { ExitCode::from(DAMAGED) })
}

/// Prints the next times of a schedule. Exit code 1 for one that never comes.
fn schedule(query: &ScheduleQuery) -> Result<ExitCode, String> {
    let never = |why: &str| {
        say(why);
        Ok(ExitCode::from(NEVER))
    };
    let zone = query.zone.as_deref().unwrap_or("UTC");
    let schedule = match CronSchedule::parse(&query.expression, zone) {
        Ok(schedule) => schedule,
        Err(error @ ScheduleError::Never(_)) => return never(&error.to_string()),
        Err(error @ (ScheduleError::Expression(_) | ScheduleError::Zone(_))) => {
            return Err(error.to_string());
        }
    };
    let after = match query.after.as_deref().map(parse_rfc3339) {
        None => daemon::now().wall,
        Some(given) => given.map_err(|error| format!("--after: {error}"))?,
    };
    let count = usize::try_from(query.count.get()).unwrap_or(usize::MAX);
    let mut times = schedule.upcoming(after, count).map(format_rfc3339_seconds).peekable();
    if times.peek().is_none() {
        return never("there is no such time before the end of the calendar, the year 9999");
    }
    shown(print_lines(times))
}

fn explained(name: Option<&str>) -> Result<ExitCode, String> {
    show(&explain(name)?)
}

/// Does what a command of the client says.
fn ask(command: &client::Command, options: &Options) -> ExitCode {
    let (code, said) = client::run(command, options);
    if let Some(said) = said {
        say(&said);
    }
    code
}

fn show(text: &str) -> Result<ExitCode, String> {
    shown(print(text))
}

fn shown(printed: io::Result<()>) -> Result<ExitCode, String> {
    printed.map_err(|error| format!("cannot write to stdout: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a line to stderr; if that fails, k1s goes on.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "k1s: {message}");
}

/// What `k1s --version` prints.
const VERSION: &str = concat!("k1s ", env!("CARGO_PKG_VERSION"));

/// Reads the arguments, without the name of the program.
///
/// # Errors
/// One line that says what is wrong with them, for stderr; the exit code is 2.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let arguments = arguments
        .into_iter()
        .map(|argument| {
            argument
                .into_string()
                .map_err(|argument| format!("an argument is not UTF-8: {argument:?}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let arguments = options_first(arguments.iter().map(String::as_str).collect())?;
    match TopLevel::from_args(&["k1s"], &arguments) {
        Ok(top) => top.invocation(),
        Err(exit) if exit.status.is_ok() => Ok(Invocation::Help(exit.output)),
        Err(exit) => Err(usage(&exit.output)),
    }
}

/// Moves the options of the client before its command, where they are read. What follows `--` is
/// not k1s's own.
fn options_first(mut arguments: Vec<&str>) -> Result<Vec<&str>, String> {
    let is_command = |word: &str| Subcommand::COMMANDS.iter().any(|known| known.name == word);
    let Some(command) = arguments.iter().position(|word| is_command(word)) else {
        return Ok(arguments);
    };
    if arguments.get(command).is_some_and(|name| OWN_COMMANDS.contains(name)) {
        return Ok(arguments);
    }
    let mut rest = arguments.split_off(command).into_iter();
    let mut after = Vec::new();
    while let Some(word) = rest.next() {
        match word {
            "--" => {
                after.push(word);
                after.extend(rest.by_ref());
            }
            "--json" => arguments.push(word),
            "--url" | "--token-file" => {
                let value = rest.next().ok_or_else(|| usage(&format!("{word} needs a value")))?;
                arguments.extend([word, value]);
            }
            _ => after.push(word),
        }
    }
    arguments.extend(after);
    Ok(arguments)
}

/// Writes to stdout. A reader that has gone is no error: `k1s schedule … | head -1`.
///
/// # Errors
/// Any other error of write(2).
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    unless_gone(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Writes lines to stdout one by one, since there may be more of them than fit in memory.
fn print_lines(mut lines: impl Iterator<Item = impl Display>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let written = lines.try_for_each(|line| writeln!(stdout, "{line}"));
    unless_gone(written.and_then(|()| stdout.flush()))
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A process supervisor with a REST API.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help", "help"),
    note = "Without a command, k1s supervises: it listens on 0.0.0.0:1298, unless the config or
PORT in the environment says otherwise. K1S_AUTH_TOKEN in the environment is the token."
)]
struct TopLevel {
    /// the config, in TOML
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,
    /// where k1s is, for the commands that ask it: http://HOST:PORT or unix:///PATH
    #[argh(option, arg_name = "URL")]
    url: Option<String>,
    /// a file that holds the token for it (default: K1S_AUTH_TOKEN)
    #[argh(option, arg_name = "FILE")]
    token_file: Option<PathBuf>,
    /// print what it said, as JSON
    #[argh(switch)]
    json: bool,
    #[argh(subcommand)]
    command: Option<Subcommand>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Subcommand {
    Check(Check),
    Init(Init),
    State(State),
    Schedule(Schedule),
    Explain(Explain),
    Ps(client::Ps),
    Show(client::Show),
    Start(client::Start),
    Kill(client::Kill),
    Restart(client::Restart),
    Run(client::Run),
    Remove(client::Remove),
    Signal(client::Signal),
    Events(client::Events),
    Wait(client::Wait),
    Logs(client::Logs),
    Exec(client::Exec),
    Apply(client::Apply),
    Set(client::Set),
    Reload(client::Reload),
    Top(client::Top),
    Completions(client::Completions),
}

/// Show what a config means, or what is wrong with it; start nothing.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "check",
    help_triggers("-h", "--help", "help"),
    error_code(2, "something is wrong with the config")
)]
struct Check {
    /// the config, in TOML
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// say what a reload of it would do to the jobs of the k1s at this URL instead: http://HOST:PORT
    #[argh(option, arg_name = "URL")]
    against: Option<String>,
}

/// Show the jobs and results of a state directory; change nothing.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "state",
    help_triggers("-h", "--help", "help"),
    error_code(1, "something in it is damaged"),
    error_code(2, "it cannot be read")
)]
struct State {
    /// the directory (default: that of K1S_STATE)
    #[argh(option, short = 'd', arg_name = "DIR")]
    directory: Option<PathBuf>,
    /// in JSON, as the API shows it
    #[argh(switch)]
    json: bool,
}

/// Be the first process of a container: run CMD, and exit with its exit code.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "init",
    help_triggers("-h", "--help"),
    usage = "k1s init [-c FILE] -- CMD [ARG…]",
    example = "k1s init -- nginx -g 'daemon off;'"
)]
struct Init {
    /// the config, in TOML; without it, PORT and K1S_AUTH_TOKEN there is no API
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// what to run, with its arguments
    #[argh(positional, greedy, arg_name = "CMD")]
    command: Vec<String>,
}

/// Print the next times of a schedule, in UTC.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "schedule",
    help_triggers("-h", "--help", "help"),
    example = "k1s schedule '30 2 * * mon-fri' --tz Europe/Berlin -n 3",
    error_code(1, "the schedule never comes"),
    error_code(2, "something is wrong with the expression, the zone or the time")
)]
struct Schedule {
    /// a cron expression, as one argument
    #[argh(positional, arg_name = "EXPR")]
    expression: String,
    /// the time zone, by its IANA name (default: UTC)
    #[argh(option, arg_name = "ZONE")]
    tz: Option<String>,
    /// the times after this one, in RFC 3339 (default: now)
    #[argh(option, arg_name = "RFC3339")]
    after: Option<String>,
    /// how many (default: 5)
    #[argh(option, short = 'n', arg_name = "N", default = "DEFAULT_COUNT", from_str_fn(count))]
    count: NonZeroU32,
}

/// Say what a field of a job, a key of the config or a route means.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "explain",
    help_triggers("-h", "--help", "help"),
    example = "k1s explain concurrencyPolicy\nk1s explain http.port\nk1s explain GET /events"
)]
struct Explain {
    /// its name; without one, all names are listed
    #[argh(positional, arg_name = "NAME")]
    name: Vec<String>,
}

impl TopLevel {
    fn invocation(self) -> Result<Invocation, String> {
        if self.version {
            return Ok(Invocation::Version);
        }
        let options = Options { url: self.url, token_file: self.token_file, json: self.json };
        let is_for_client = options != Options::default();
        let has_config = self.config.is_some();
        let ask = |command| Ok(Invocation::Client(command, options));
        let invocation = match self.command {
            None => Ok(Invocation::Run { config: self.config }),
            Some(Subcommand::Check(check)) => check.invocation(self.config),
            Some(Subcommand::Init(init)) => init.invocation(self.config),
            Some(Subcommand::State(_)) if has_config => Err(usage("state reads no config")),
            Some(Subcommand::State(State { directory, json })) => {
                Ok(Invocation::State { directory, json })
            }
            Some(Subcommand::Schedule(_)) if has_config => Err(usage("schedule reads no config")),
            Some(Subcommand::Schedule(query)) => Ok(query.invocation()),
            Some(Subcommand::Explain(_)) if has_config => Err(usage("explain reads no config")),
            Some(Subcommand::Explain(it)) => {
                Ok(Invocation::Explain { name: (!it.name.is_empty()).then(|| it.name.join(" ")) })
            }
            Some(Subcommand::Ps(it)) => ask(client::Command::Ps(it)),
            Some(Subcommand::Show(it)) => ask(client::Command::Show(it)),
            Some(Subcommand::Start(it)) => ask(client::Command::Start(it)),
            Some(Subcommand::Kill(it)) => ask(client::Command::Kill(it)),
            Some(Subcommand::Restart(it)) => ask(client::Command::Restart(it)),
            Some(Subcommand::Run(it)) => ask(client::Command::Run(it)),
            Some(Subcommand::Remove(it)) => ask(client::Command::Remove(it)),
            Some(Subcommand::Signal(it)) => ask(client::Command::Signal(it)),
            Some(Subcommand::Events(it)) => ask(client::Command::Events(it)),
            Some(Subcommand::Wait(it)) => ask(client::Command::Wait(it)),
            Some(Subcommand::Logs(it)) => ask(client::Command::Logs(it)),
            Some(Subcommand::Exec(it)) => ask(client::Command::Exec(it)),
            Some(Subcommand::Apply(it)) => ask(client::Command::Apply(it)),
            Some(Subcommand::Set(it)) => ask(client::Command::Set(it)),
            Some(Subcommand::Reload(it)) => ask(client::Command::Reload(it)),
            Some(Subcommand::Top(it)) => ask(client::Command::Top(it)),
            Some(Subcommand::Completions(it)) => ask(client::Command::Completions(it)),
        }?;
        match invocation {
            Invocation::Client(..) if has_config => {
                Err(usage("-c is for k1s itself; the client finds k1s by --url"))
            }
            Invocation::Client(..) => Ok(invocation),
            _ if is_for_client => Err(usage("--url, --token-file and --json are for the client")),
            _ => Ok(invocation),
        }
    }
}

impl Check {
    fn invocation(self, config: Option<PathBuf>) -> Result<Invocation, String> {
        let config = one_config(config, self.config)?
            .ok_or_else(|| usage("check needs a config: k1s check -c FILE"))?;
        Ok(Invocation::Check { config, against: self.against })
    }
}

impl Init {
    fn invocation(self, config: Option<PathBuf>) -> Result<Invocation, String> {
        let config = one_config(config, self.config)?;
        let command = self.command;
        if command.first().is_none_or(String::is_empty) {
            return Err(usage("init needs a command: k1s init -- CMD [ARG…]"));
        }
        Ok(Invocation::Init { config, command })
    }
}

impl Schedule {
    fn invocation(self) -> Invocation {
        Invocation::Schedule(ScheduleQuery {
            expression: self.expression,
            zone: self.tz,
            after: self.after,
            count: self.count,
        })
    }
}

/// `-c FILE` may come before the command or after it.
fn one_config(before: Option<PathBuf>, after: Option<PathBuf>) -> Result<Option<PathBuf>, String> {
    match (before, after) {
        (Some(_), Some(_)) => Err(usage("-c is given twice")),
        (before, after) => Ok(before.or(after)),
    }
}

fn count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("must be a whole number from 1 to {}", u32::MAX))
}

/// A usage error on one line, with a reference to the help.
fn usage(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    format!("{} (see k1s --help)", words.join(" "))
}

/// The commands that are not the client's.
const OWN_COMMANDS: [&str; 5] = ["check", "explain", "init", "state", "schedule"];

const DEFAULT_COUNT: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

const USAGE: u8 = 2;
const NEVER: u8 = 1;
const DAMAGED: u8 = 1;
const DEFAULT_TOKEN_WARNING: &str = "the default token is in use, which everyone knows: \
     whoever reaches the port can run any program. Set K1S_AUTH_TOKEN, or http.auth_token in a config";

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Invocation, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[track_caller]
    fn check(arguments: &[&str], wanted: Invocation) {
        assert_eq!(parsed(arguments), Ok(wanted));
    }

    #[track_caller]
    fn check_refused(arguments: &[&str], wanted: &str) {
        let message = parsed(arguments).unwrap_err();
        assert!(message.contains(wanted), "{message}");
        assert!(message.ends_with("(see k1s --help)"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    fn file(name: &str) -> Option<PathBuf> {
        Some(name.into())
    }

    fn init(config: Option<PathBuf>, command: &[&str]) -> Invocation {
        let command = command.iter().map(|word| word.to_string()).collect();
        Invocation::Init { config, command }
    }

    #[test]
    fn each_command_is_understood() {
        let config = file("k1s.toml");
        let run = |config| Invocation::Run { config };
        check(&[], run(None));
        check(&["-c", "k1s.toml"], run(config.clone()));
        check(&["--config", "k1s.toml"], run(config.clone()));
        let checked = Invocation::Check { config: "k1s.toml".into(), against: None };
        check(&["check", "-c", "k1s.toml"], checked.clone());
        check(&["-c", "k1s.toml", "check"], checked);
        check(&["init", "-c", "k1s.toml", "--", "x"], init(config, &["x"]));
        check(&["--version"], Invocation::Version);
        assert_eq!(VERSION, "k1s 0.1.0");
    }

    #[test]
    fn what_follows_the_dashes_of_init_is_the_commands_own() {
        for command in [
            &["sh", "-c", "exit 3"][..],
            &["--version"],
            &["-c", "x"],
            &["--", "--"],
            &["help"],
            &["--help"],
            &["x", "", "é", "a b"],
        ] {
            let arguments = [&["init", "--"], command].concat();
            check(&arguments, init(None, command));
        }
        check(&["init", "sh", "-c", "x"], init(None, &["sh", "-c", "x"]));
    }

    #[test]
    fn a_schedule_has_defaults() {
        let query = |zone: Option<&str>, after: Option<&str>, count| {
            Invocation::Schedule(ScheduleQuery {
                expression: "0 3 * * *".into(),
                zone: zone.map(Into::into),
                after: after.map(Into::into),
                count: NonZeroU32::new(count).unwrap(),
            })
        };
        check(&["schedule", "0 3 * * *"], query(None, None, 5));
        let after = "2026-03-29T01:30:00Z";
        check(
            &["schedule", "--tz", "Europe/Berlin", "0 3 * * *", "--after", after, "-n", "1"],
            query(Some("Europe/Berlin"), Some(after), 1),
        );
    }

    #[test]
    fn the_options_of_the_client_may_stand_after_its_command() {
        let wanted = parsed(&["--json", "--url", "u", "--token-file", "t", "ps", "web"]);
        let Ok(Invocation::Client(client::Command::Ps(_), options)) = &wanted else {
            panic!("{wanted:?}");
        };
        let all = Options { url: Some("u".into()), token_file: Some("t".into()), json: true };
        assert_eq!(*options, all);
        assert_eq!(parsed(&["ps", "web", "--json", "--url", "u", "--token-file", "t"]), wanted);
        assert_eq!(parsed(&["--url", "u", "ps", "--token-file", "t", "web", "--json"]), wanted);
        check(&["init", "ps", "--json"], init(None, &["ps", "--json"]));
        check(&["init", "--", "ps", "--json"], init(None, &["ps", "--json"]));
        check_refused(&["ps", "--url"], "--url needs a value");
    }

    #[test]
    fn what_is_wrong_is_one_clear_line() {
        check_refused(&["frobnicate"], "frobnicate");
        check_refused(&["--frobnicate"], "--frobnicate");
        check_refused(&["-c"], "No value provided for option '-c'");
        check_refused(&["-c", "a", "-c", "b"], "duplicate values");
        check_refused(&["-c", "a", "check", "-c", "b"], "-c is given twice");
        check_refused(&["check"], "check needs a config");
        check_refused(&["check", "a.toml"], "a.toml");
        check_refused(&["init"], "init needs a command");
        check_refused(&["init", "--"], "init needs a command");
        check_refused(&["init", "--", ""], "init needs a command");
        check_refused(&["schedule"], "EXPR");
        check_refused(&["schedule", "*", "*"], "Unrecognized argument: *");
        check_refused(&["schedule", "@daily", "-n", "0"], "whole number from 1");
        check_refused(&["schedule", "@daily", "-n", "x"], "whole number from 1");
        check_refused(&["-c", "a", "schedule", "@daily"], "reads no config");
        check_refused(&["--json"], "are for the client");
        check_refused(&["--url", "x", "check", "-c", "a"], "are for the client");
        check_refused(&["-c", "a", "ps"], "-c is for k1s itself");
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        assert!(parse([bytes]).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn help_is_text_for_stdout() {
        for arguments in [
            &["--help"][..],
            &["-h"],
            &["help"],
            &["check", "--help"],
            &["init", "--help"],
            &["init", "-h"],
            &["schedule", "--help"],
        ] {
            match parsed(arguments) {
                Ok(Invocation::Help(text)) => assert!(text.contains("Usage: k1s"), "{text}"),
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }
}
