//! The real binary, and a client for it.
//!
//! ```text
//! K1s::start()            a k1s with its own config, in its own directory
//! K1s::with()…start()     the same, with more keys, environment, arguments, or as PID 1
//! K1s::with()…run()       a k1s that is expected to end by itself: exit code and output
//! K1s::with()…launch()    a k1s that does not listen: `k1s init` without an API
//! k1s.get("/job/x")       a request on its own connection
//! k1s.connect()           raw bytes, replies in order
//! k1s.client(&["ps"])     a command of the client, to its end: exit code and output
//! wait_until("what", …)   polls what can be seen; the only pause in all tests
//! ```
//!
//! When a [`K1s`] is dropped, also by a panicking test, it is killed with all its descendants.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Ends a test that this machine cannot run, and says why in a line that begins with `SKIPPED`,
/// which libtest does not capture (`.ci/run` repeats them at its end).
macro_rules! skip {
    ($reason:expr) => {{
        $crate::harness::note_skipped(module_path!(), line!(), &$reason);
        return;
    }};
}
pub(crate) use skip;

/// Tests each function with a k1s next to other processes, and with one as PID 1 if that is
/// permitted.
macro_rules! both_ways {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn beside_others() {
                super::$name($crate::harness::K1s::with());
            }

            #[test]
            fn as_pid_1() {
                if let Some(reason) = $crate::harness::cannot_unshare() {
                    $crate::harness::skip!(reason);
                }
                super::$name($crate::harness::K1s::with().pid1());
            }
        }
    )*};
}
pub(crate) use both_ways;

/// What [`skip!`] prints.
pub(crate) fn note_skipped(module: &str, line: u32, reason: &dyn fmt::Display) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let text = format!("SKIPPED: {reason} ({module}:{line}, number {number} of this run)\n");
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Polls until `look` sees something. The deadline decides nothing but failure.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        thread::sleep(PAUSE);
    }
}

/// Polls until `look` says yes.
pub(crate) fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}

/// Watches for `window` that something does *not* happen; fails as soon as `holds` says no.
pub(crate) fn stays_true(what: &str, window: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < window {
        assert!(holds(), "did not stay true: {what}");
        thread::sleep(PAUSE);
    }
}

/// A running k1s.
pub(crate) struct K1s {
    child: Owned,
    pid: u32,
    address: SocketAddr,
    token: String,
    stdout: Captured,
    stderr: Captured,
    terminal: Option<Terminal>,
    dir: Arc<TempDir>,
    insists: bool,
}

impl K1s {
    /// Starts a k1s with the settings of the tests.
    pub(crate) fn start() -> K1s {
        K1s::with().start()
    }

    /// Begins a k1s with other settings.
    pub(crate) fn with() -> Builder {
        Builder::new()
    }

    /// The pid of k1s as this process sees it, not that of unshare around it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory that k1s was started in; jobs run there unless told otherwise.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the directory for longer than k1s.
    pub(crate) fn keep_dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What k1s wrote to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The terminal that it was started on.
    pub(crate) fn terminal(&self) -> &Terminal {
        self.terminal.as_ref().expect("a terminal was asked for")
    }

    /// What k1s wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The header line that shows the token.
    pub(crate) fn authorization(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// The token that requests send.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A command of the client that finds this k1s by its port, to be changed and started.
    pub(crate) fn client_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .current_dir(self.dir())
            .env("K1S_URL", format!("http://{}", self.address))
            .env("K1S_AUTH_TOKEN", &self.token)
            .env("K1S_SOCKET", "")
            .env_remove("PORT")
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR");
        command
    }

    /// Starts a command of the client.
    pub(crate) fn start_client(&self, arguments: &[&str]) -> Asking {
        Asking::start(self.client_command(arguments))
    }

    /// Starts a command of the client on a terminal of this size, which it has for everything.
    pub(crate) fn client_on_terminal(
        &self,
        arguments: &[&str],
        rows: u16,
        columns: u16,
    ) -> (Asking, Terminal) {
        let terminal = Terminal::open();
        terminal.resize(rows, columns);
        let mut command = self.client_command(arguments);
        command.env("TERM", "xterm");
        let [stdin, stdout, stderr] = [(); 3].map(|()| terminal.slave());
        // As a shell does: so it can be stopped without this process.
        command.process_group(0);
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        let stdout = Captured::from(terminal.master.try_clone().unwrap());
        let stderr = Captured::from(io::empty());
        (Asking { child: Owned(child), stdout, stderr }, terminal)
    }

    /// A command of the client, to its end.
    pub(crate) fn client(&self, arguments: &[&str]) -> Finished {
        self.start_client(arguments).end()
    }

    /// The same, which must succeed; returns what it printed.
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let finished = self.client(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        finished.stdout
    }

    /// A connection on which nothing has been sent.
    pub(crate) fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// From here on, sends a request again if its connection ends without an answer.
    pub(crate) fn insist(&mut self) {
        self.insists = true;
    }

    /// A request with the token, on its own connection.
    pub(crate) fn request(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: k1s\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.authorization(),
            body.len()
        );
        wait_for("an answer", || {
            let mut client = self.connect();
            client.send([head.as_bytes(), body].concat());
            (!self.insists || client.is_answered()).then(|| client.reply_to(method))
        })
    }

    /// GET.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.request("GET", target, b"")
    }

    /// POST of a JSON value.
    pub(crate) fn post(&self, target: &str, body: &Value) -> Reply {
        self.request("POST", target, body.to_string().as_bytes())
    }

    /// PUT without a body.
    pub(crate) fn put(&self, target: &str) -> Reply {
        self.request("PUT", target, b"")
    }

    /// DELETE.
    pub(crate) fn delete(&self, target: &str) -> Reply {
        self.request("DELETE", target, b"")
    }

    /// Creates a job that must be accepted.
    pub(crate) fn create(&self, id: &str, body: &Value) {
        let reply = self.post(&format!("/job/{id}"), body);
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
    }

    /// The job object of a job that must exist.
    pub(crate) fn job(&self, id: &str) -> Value {
        let reply = self.get(&format!("/job/{id}"));
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
        reply.json()
    }

    /// The results of a job, once there are at least so many.
    pub(crate) fn results(&self, id: &str, at_least: usize) -> Vec<Value> {
        wait_for(&format!("{at_least} results of {id}"), || {
            let results = self.job(id)["results"].as_array()?.clone();
            (results.len() >= at_least).then_some(results)
        })
    }

    /// Runs a one-off job to its end; returns its only result.
    pub(crate) fn run(&self, id: &str, body: &Value) -> Value {
        self.create(id, body);
        self.results(id, 1).remove(0)
    }

    /// The job object, once the job is in this state.
    pub(crate) fn in_state(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("{id} is {state}"), || {
            let job = self.job(id);
            (job["state"] == state).then_some(job)
        })
    }

    /// Waits until a job has created this file in the directory that k1s was started in.
    pub(crate) fn wait_for_file(&self, name: &str) {
        wait_until(&format!("there is a file {name}"), || self.dir().join(name).exists());
    }

    /// The pid of a job's run, when it has one, in the pid namespace of k1s.
    pub(crate) fn pid_of(&self, id: &str) -> u32 {
        wait_for(&format!("{id} has a pid"), || as_pid(&self.job(id)["pid"]))
    }

    /// The pid of a job's run, in the pid namespace of the test.
    pub(crate) fn process_of(&self, id: &str) -> u32 {
        let pid = self.pid_of(id);
        wait_for(&format!("{id} is seen from here"), || {
            let mut pids = self.descendants().into_iter().map(|process| process.pid);
            pids.find(|seen| innermost_pid(*seen) == Some(pid))
        })
    }

    /// Sends k1s itself a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.pid, signal);
    }

    /// Waits until k1s ends by itself; returns its exit status and stderr.
    pub(crate) fn exit(mut self) -> (ExitStatus, String) {
        let status = wait_for("k1s ends", || self.child.0.try_wait().unwrap());
        wait_until("stderr is closed", || self.stderr.is_closed());
        (status, self.stderr.text())
    }

    /// Waits until a k1s on a terminal ends by itself; returns its exit status and everything that
    /// was written to the terminal.
    pub(crate) fn exit_on_terminal(mut self) -> (ExitStatus, String) {
        let status = wait_for("k1s ends", || self.child.0.try_wait().unwrap());
        wait_until("the terminal is closed", || self.stdout.is_closed());
        (status, self.stdout.text())
    }

    /// Asks k1s to end; returns its whole stdout and stderr.
    pub(crate) fn end(mut self) -> (String, String) {
        self.signal(Signal::SIGTERM);
        let status = wait_for("k1s ends", || self.child.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        wait_until("its output is closed", || self.stdout.is_closed() && self.stderr.is_closed());
        (self.stdout.text(), self.stderr.text())
    }

    /// How many file descriptors k1s has open. Only root may read this, because k1s is not
    /// dumpable.
    pub(crate) fn open_fds(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// How many context switches k1s has had; each wake-up adds some.
    pub(crate) fn context_switches(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        status
            .lines()
            .filter_map(|line| line.split_once("_ctxt_switches:"))
            .map(|(_, count)| count.trim().parse::<u64>().unwrap())
            .sum()
    }

    /// k1s comes to rest, and then sleeps for so long: every wake-up is a context switch, so it makes
    /// no system call. On a loaded machine it may wait for a core between two looks, so more of them
    /// must see nothing.
    pub(crate) fn rests(&self, window: Duration) {
        let mut before = self.context_switches();
        let mut quiet_looks = 0;
        wait_until("what was going on has settled", || {
            let now = self.context_switches();
            let same = std::mem::replace(&mut before, now) == now;
            quiet_looks = if same { quiet_looks + 1 } else { 0 };
            quiet_looks >= 20
        });
        stays_true("k1s sleeps", window, || self.context_switches() == before);
    }

    /// The resident memory of k1s, in bytes.
    pub(crate) fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The same without pages of files, such as its own code.
    pub(crate) fn anonymous(&self) -> usize {
        self.memory("RssAnon:")
    }

    /// A line of proc_pid_status(5), in bytes.
    fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// The descendants of k1s, including zombies.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        descendants(self.pid)
    }

    /// Kills k1s and all its descendants. k1s is stopped first: it inherits every orphan, so
    /// nothing can leave the tree meanwhile.
    fn kill_tree(&mut self) {
        if self.pid == self.child.0.id() {
            send_signal(self.pid, Signal::SIGSTOP);
            let started = Instant::now();
            loop {
                let alive: Vec<_> = self.descendants().into_iter().filter(|p| !p.zombie).collect();
                if alive.is_empty() || started.elapsed() > DEADLINE {
                    break;
                }
                for process in alive {
                    send_signal(process.pid, Signal::SIGKILL);
                }
                thread::sleep(PAUSE);
            }
        } else {
            // With it, its namespace ends. That `unshare` is killed does not tell it, if it has
            // become another user since (PR_SET_PDEATHSIG(2const)).
            send_signal(self.pid, Signal::SIGKILL);
        }
        self.child.kill();
    }
}

impl Drop for K1s {
    fn drop(&mut self) {
        if self.child.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.kill_tree();
        }
        if thread::panicking() {
            eprintln!("k1s wrote to stdout:\n{}", self.stdout.text());
            eprintln!("k1s wrote to stderr:\n{}", self.stderr.text());
        }
    }
}

/// The settings of a k1s to be started.
#[derive(Clone)]
pub(crate) struct Builder {
    program: PathBuf,
    dir: Arc<TempDir>,
    http: String,
    config: String,
    has_config: bool,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, String>,
    token: String,
    contained: bool,
    around: Vec<OsString>,
    stdin: Vec<u8>,
    has_terminal: bool,
    stdout: Option<Arc<OwnedFd>>,
}

impl Builder {
    fn new() -> Builder {
        Builder {
            program: BINARY.into(),
            dir: Arc::new(TempDir::new()),
            http: format!("host = \"127.0.0.1\"\nauth_token = \"{TOKEN}\"\n"),
            config: String::new(),
            has_config: true,
            arguments: Vec::new(),
            environment: BTreeMap::from([
                ("PORT".to_owned(), "0".to_owned()),
                // Only the tests of the unix socket have one, each its own.
                ("K1S_SOCKET".to_owned(), String::new()),
            ]),
            token: TOKEN.to_owned(),
            contained: false,
            around: Vec::new(),
            stdin: Vec::new(),
            has_terminal: false,
            stdout: None,
        }
    }

    /// The same again, in its own directory.
    pub(crate) fn again(&self) -> Builder {
        Builder { dir: Arc::new(TempDir::new()), ..self.clone() }
    }

    /// The directory that it will be started in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Another program instead of k1s, which behaves like it.
    #[allow(dead_code, reason = "only the tests of the clock have one")]
    pub(crate) fn program(mut self, path: impl Into<PathBuf>) -> Builder {
        self.program = path.into();
        self
    }

    /// Adds a line to `[http]`.
    pub(crate) fn http(mut self, line: &str) -> Builder {
        self.http.push_str(line);
        self.http.push('\n');
        self
    }

    /// Adds tables after `[http]`.
    pub(crate) fn config(mut self, tables: &str) -> Builder {
        self.config.push_str(tables);
        self.config.push('\n');
        self
    }

    /// Without `-c`: the defaults of k1s, plus what the test sets.
    pub(crate) fn bare(mut self) -> Builder {
        self.has_config = false;
        self
    }

    /// With exactly this config, under this name in its directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Builder {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        self.bare().argument("-c").argument(path)
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Builder {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves `PORT` unset.
    pub(crate) fn without_port(mut self) -> Builder {
        self.environment.remove("PORT");
        self
    }

    /// Leaves `K1S_SOCKET` unset; the default must then be nobody else's.
    pub(crate) fn without_socket_variable(mut self) -> Builder {
        self.environment.remove("K1S_SOCKET");
        self
    }

    /// The token that requests send.
    pub(crate) fn token(mut self, token: &str) -> Builder {
        self.token = token.to_owned();
        self
    }

    /// As the first process of a PID namespace; only where [`can_unshare`].
    pub(crate) fn pid1(mut self) -> Builder {
        self.contained = true;
        self
    }

    /// `k1s init` with this command.
    pub(crate) fn init(self, command: &[&str]) -> Builder {
        let words = ["init", "--"].iter().chain(command);
        words.fold(self, |start, word| start.argument(word))
    }

    /// Started by this command, which gets the path and the arguments of k1s, and executes it:
    /// `prlimit --nofile=40`.
    pub(crate) fn around(mut self, command: &[&str]) -> Builder {
        self.around.extend(command.iter().map(OsString::from));
        self
    }

    /// Its standard input.
    pub(crate) fn stdin(mut self, text: &[u8]) -> Builder {
        self.stdin = text.to_owned();
        self
    }

    /// On its own terminal, like `docker run -it`: standard input, output and error are the
    /// terminal, and k1s leads its session.
    pub(crate) fn on_terminal(self) -> Builder {
        Builder { has_terminal: true, ..self.around(&["setsid", "--ctty"]) }
    }

    /// Its standard output, which the test then does not capture.
    pub(crate) fn stdout_to(mut self, file: impl Into<OwnedFd>) -> Builder {
        self.stdout = Some(Arc::new(file.into()));
        self
    }

    /// Started by a shell with this redirection, such as `>&-`.
    pub(crate) fn redirect(self, redirection: &str) -> Builder {
        self.around(&["sh", "-c", &format!("exec \"$0\" \"$@\" {redirection}")])
    }

    /// With at most so many descriptors, soft and hard.
    pub(crate) fn nofile(self, most: u32) -> Builder {
        self.around(&["prlimit", &format!("--nofile={most}:{most}")])
    }

    /// Started by a process that ignores SIGCHLD, which exec keeps.
    pub(crate) fn ignoring_sigchld(self) -> Builder {
        self.around(&IGNORING_SIGCHLD)
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(self) -> K1s {
        let mut k1s = self.launch();
        k1s.address = wait_for("k1s listens", || {
            let text = k1s.stderr.text();
            if let Some(status) = k1s.child.0.try_wait().unwrap() {
                panic!("k1s ended before it listened: {status}\n{text}");
            }
            listening_address(&text)
        });
        k1s
    }

    /// Starts it without waiting: it may not listen.
    pub(crate) fn launch(self) -> K1s {
        let terminal = self.has_terminal.then(Terminal::open);
        let (mut child, stdout, stderr) = match &terminal {
            None => self.spawn(),
            Some(terminal) => self.spawn_on(terminal),
        };
        let pid = if self.contained {
            wait_for("unshare has a child, or has ended", || {
                let ended = child.0.try_wait().unwrap().map(|_| child.0.id());
                descendants(child.0.id()).first().map(|process| process.pid).or(ended)
            })
        } else {
            child.0.id()
        };
        let (token, dir) = (self.token, self.dir);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        K1s { child, pid, address, token, stdout, stderr, terminal, dir, insists: false }
    }

    /// Starts it, and waits until it has ended by itself.
    pub(crate) fn run(self) -> Finished {
        let (mut child, stdout, stderr) = self.spawn();
        let status = wait_for("k1s ends by itself", || {
            let listens = listening_address(&stderr.text()).is_some();
            assert!(!listens, "k1s should not have started: {}", stderr.text());
            child.0.try_wait().unwrap()
        });
        wait_until("its output is closed", || stdout.is_closed() && stderr.is_closed());
        Finished { code: status.code(), stdout: stdout.text(), stderr: stderr.text() }
    }

    fn spawn_on(&self, terminal: &Terminal) -> (Owned, Captured, Captured) {
        let mut command = self.command();
        let [stdin, stdout, stderr] = [(); 3].map(|()| terminal.slave());
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = command.spawn().expect("setsid can be started");
        (
            Owned(child),
            Captured::from(terminal.master.try_clone().unwrap()),
            Captured::from(io::empty()),
        )
    }

    fn spawn(&self) -> (Owned, Captured, Captured) {
        let mut command = self.command();
        command
            .stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(match &self.stdout {
                Some(file) => Stdio::from(file.try_clone().unwrap()),
                None => Stdio::piped(),
            })
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        if let Some(mut pipe) = child.stdin.take() {
            let text = self.stdin.clone();
            thread::spawn(move || pipe.write_all(&text));
        }
        let stdout = match child.stdout.take() {
            Some(pipe) => Captured::from(pipe),
            None => Captured::from(io::empty()),
        };
        let stderr = Captured::from(child.stderr.take().unwrap());
        (Owned(child), stdout, stderr)
    }

    fn command(&self) -> Command {
        let unshare = ["unshare"].iter().chain(&UNSHARE).map(OsString::from);
        let mut words: Vec<OsString> = unshare.filter(|_| self.contained).collect();
        words.extend(self.around.iter().cloned());
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if self.has_config {
            let path = self.dir.path().join("k1s.toml");
            fs::write(&path, format!("[http]\n{}\n{}", self.http, self.config)).unwrap();
            // k1s may run as another user, whatever the umask.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            command.arg("-c").arg(path);
        }
        command
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .env_remove("K1S_AUTH_TOKEN")
            .env_remove("K1S_SOCKET")
            .env_remove("PORT")
            .envs(&self.environment);
        command
    }
}

/// A terminal, from the side of its user: pty(7).
pub(crate) struct Terminal {
    master: fs::File,
    path: String,
}

impl Terminal {
    /// Opens a new terminal, which is not inherited.
    pub(crate) fn open() -> Terminal {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname_r(&master).unwrap();
        Terminal { master: fs::File::from(OwnedFd::from(master)), path }
    }

    /// Presses these keys.
    pub(crate) fn type_in(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).unwrap();
    }

    /// Changes the size of its window.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let [rows, columns] = [rows, columns].map(|number| number.to_string());
        let mut stty = Command::new("stty");
        stty.args(["-F", &self.path, "rows", &rows, "cols", &columns]);
        assert!(stty.status().unwrap().success());
    }

    /// Its settings, as text that can be compared.
    pub(crate) fn settings(&self) -> String {
        let output = Command::new("stty").args(["-F", &self.path, "-g"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn slave(&self) -> fs::File {
        let flags = OFlag::O_NOCTTY.bits();
        fs::File::options().read(true).write(true).custom_flags(flags).open(&self.path).unwrap()
    }
}

/// A command of the client that is under way.
pub(crate) struct Asking {
    child: Owned,
    stdout: Captured,
    stderr: Captured,
}

impl Asking {
    /// Starts it, and reads what it prints.
    pub(crate) fn start(mut command: Command) -> Asking {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let stdout = Captured::from(child.stdout.take().unwrap());
        let stderr = Captured::from(child.stderr.take().unwrap());
        Asking { child: Owned(child), stdout, stderr }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// What it wrote to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self) -> Finished {
        let status = wait_for("the client ends", || self.child.0.try_wait().unwrap());
        wait_until("its output is closed", || self.stdout.is_closed() && self.stderr.is_closed());
        Finished { code: status.code(), stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

/// How a k1s ended that was expected to end by itself.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

/// Why k1s cannot be PID 1 here, or `None` when it can.
pub(crate) fn cannot_unshare() -> Option<String> {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            Some(format!("unshare is refused: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Some(format!("unshare cannot be started: {error}")),
    }
}

/// Whether this process may change to any user. Root of a user namespace may change only to users
/// that are mapped: user_namespaces(7).
pub(crate) fn may_become_others() -> bool {
    let other = ["--reuid=60000", "--regid=60000", "--clear-groups", "true"];
    Command::new("setpriv").args(other).output().is_ok_and(|it| it.status.success())
}

/// A process as /proc shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Its parent, which may have changed since it started.
    pub(crate) parent: u32,
    /// It has ended, and its parent has not waited for it.
    pub(crate) zombie: bool,
}

/// Whether a process with this id exists and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    process(pid).is_some_and(|process| !process.zombie)
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

/// A JSON number as a process id; `None` for null.
pub(crate) fn as_pid(value: &Value) -> Option<u32> {
    value.as_u64().map(|pid| u32::try_from(pid).unwrap())
}

/// An RFC 3339 time in JSON: milliseconds since the epoch.
pub(crate) fn milliseconds(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

/// A one-off job that runs this shell script.
pub(crate) fn one_off(script: &str) -> Value {
    job("one-off", script)
}

/// A continuous job that runs this shell script.
pub(crate) fn continuous(script: &str) -> Value {
    job("continuous", script)
}

/// A cron job that runs this shell script every so many seconds.
pub(crate) fn cron(script: &str, seconds: u64) -> Value {
    with(job("cron", script), json!({"scheduleInSeconds": seconds}))
}

/// The payload with these fields added.
pub(crate) fn with(mut payload: Value, fields: Value) -> Value {
    let (Value::Object(into), Value::Object(fields)) = (&mut payload, fields) else {
        panic!("both are objects");
    };
    into.extend(fields);
    payload
}

/// A directory that is removed with its content when it is dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// A new, empty one, which everyone may enter. Its path contains no symbolic link.
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let base = fs::canonicalize(std::env::temp_dir()).unwrap();
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("k1s-it-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                // One of another process, which had this number, or has it in its namespace.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    created.unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                    return TempDir(path);
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client { stream, unread: Vec::new() }
    }

    /// Sends bytes. If the peer has closed already, reading its answer shows that.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// The same connection, for a thread that only sends.
    pub(crate) fn another_half(&self) -> Client {
        Client { stream: self.stream.try_clone().unwrap(), unread: Vec::new() }
    }

    /// Sends one byte more; false once the peer has closed.
    pub(crate) fn drip(&mut self) -> bool {
        self.stream.write_all(b"x").is_ok()
    }

    /// Sends no more, and goes on reading.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next reply, to a request that was not HEAD.
    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    /// The next reply, to a request of this method.
    pub(crate) fn reply_to(&mut self, method: &str) -> Reply {
        let mut reply = self.head();
        let bodiless = method == "HEAD" || reply.status < 200 || reply.status == 204;
        if bodiless {
            return reply;
        }
        reply.body = if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks()
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().expect("a length in digits");
            self.take(length)
        } else {
            self.rest()
        };
        reply
    }

    /// The head of a reply whose body is chunked; [`Client::chunk`] takes that.
    pub(crate) fn chunked_head(&mut self) -> Reply {
        let reply = self.head();
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
        reply
    }

    /// The next chunk of a body; `None` at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).expect("a chunk size");
        let chunk = self.take(size);
        assert_eq!(self.line(), "", "a chunk ends with CRLF");
        (size > 0).then_some(chunk)
    }

    /// Whether the peer sends something before it closes the connection.
    fn is_answered(&mut self) -> bool {
        !self.unread.is_empty() || self.read_more()
    }

    /// Whether the peer closes the connection without another byte.
    pub(crate) fn ends(&mut self) -> bool {
        !self.is_answered()
    }

    /// Every byte up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.unread)
    }

    fn head(&mut self) -> Reply {
        let status_line = self.line();
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("a status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Reply { status, headers, body: Vec::new() };
            }
            let (name, value) = line.split_once(':').expect("a header line");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.chunk()).flatten().collect()
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
                self.unread.drain(..2);
                return line;
            }
            self.must_read_more();
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            self.must_read_more();
        }
        self.unread.drain(..length).collect()
    }

    fn must_read_more(&mut self) {
        let so_far = String::from_utf8_lossy(&self.unread).into_owned();
        assert!(self.read_more(), "the connection ended within a reply: {so_far:?}");
    }

    /// False at the end of the connection, also when it was reset.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16384];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing more was to be read: {error}"),
        }
    }
}

/// A reply, whole. Header names are in lower case.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next();
        assert!(values.next().is_none(), "two headers {name}");
        value.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; checks its type, and the newline at its end.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type").map(|kind| kind.split(';').next().unwrap()),
            Some("application/json")
        );
        assert!(self.body.ends_with(b"\n"), "no newline at the end of {:?}", self.text());
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The `error` of a body that has nothing else except a `hint`.
    pub(crate) fn error(&self) -> String {
        let json = self.json();
        let fields = json.as_object().expect("an object");
        assert!(fields.keys().all(|name| ["error", "hint"].contains(&&**name)), "{json}");
        json["error"].as_str().expect("an error in words").to_owned()
    }
}

/// A child that does not outlive its owner, even if the test panics. With it the whole namespace
/// ends: `--kill-child`.
struct Owned(Child);

impl Owned {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A pipe that a thread reads to its end.
struct Captured(Arc<Mutex<Output>>);

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    closed: bool,
}

impl Captured {
    fn from(mut pipe: impl Read + Send + 'static) -> Captured {
        let output = Arc::new(Mutex::new(Output::default()));
        let shared = Arc::clone(&output);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                lock(&shared).bytes.extend_from_slice(&buffer[..count]);
            }
            lock(&shared).closed = true;
        });
        Captured(output)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0).bytes).into_owned()
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `listening on http://ADDR:PORT`, in text or JSON; 0.0.0.0 is reached over loopback.
fn listening_address(stderr: &str) -> Option<SocketAddr> {
    let (_, after) = stderr.split_once("listening on http://")?;
    let (address, _) = after.split_once('\n')?;
    let mut address: SocketAddr =
        address.trim().trim_end_matches(['"', '}']).parse().expect("an address and a port");
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Some(address)
}

fn job(kind: &str, script: &str) -> Value {
    json!({"type": kind, "executable": "/bin/sh", "arguments": ["-c", script]})
}

/// All descendants of a process, parents before children.
fn descendants(root: u32) -> Vec<Process> {
    let all: Vec<Process> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(*process);
        }
    }
    found
}

/// /proc/PID/stat, proc_pid_stat(5): the name is in parentheses and may contain anything.
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, zombie: matches!(state, "Z" | "X") })
}

/// The process id in the namespace that a process lives in: proc_pid_status(5).
fn innermost_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_k1s");
/// env(1) of coreutils; dash, which `/bin/sh` may be, cannot do it.
const IGNORING_SIGCHLD: [&str; 2] = ["env", "--ignore-signal=CHLD"];
const UNSHARE: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];
const TOKEN: &str = "a-token-of-the-tests";
/// Long enough for a machine under load: it matters only for failures.
const DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_line_that_says_them() {
        let read = |text| listening_address(text).map(|address| address.to_string());
        assert_eq!(read("x\nlistening on http://127.0.0.1:80\n"), Some("127.0.0.1:80".into()));
        assert_eq!(read("listening on http://0.0.0.0:9\n"), Some("127.0.0.1:9".into()));
        assert_eq!(read("listening on http://[::1]:9\n"), Some("[::1]:9".into()));
        assert_eq!(read("\"listening on http://[::1]:9\"}\n"), Some("[::1]:9".into()));
        assert_eq!(read("listening on http://127.0.0.1:8"), None, "the line is not whole");
    }

    #[test]
    fn replies_are_read_however_they_are_framed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab\
                      HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n2\r\nde\r\n0\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\
                      HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nto the end",
                )
                .unwrap();
        });
        let mut client = Client::to(address);
        assert_eq!(client.reply().text(), "ab");
        assert_eq!(client.reply().text(), "cde");
        assert_eq!(client.reply_to("HEAD").header("content-length"), Some("7"));
        let last = client.reply();
        assert_eq!(
            (last.status, last.header("x"), last.text().as_str()),
            (404, Some("y"), "to the end")
        );
        assert!(client.ends());
        server.join().unwrap();
    }

    #[test]
    fn processes_are_seen_alive_then_as_zombies_then_not() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(is_alive(child.id()));
        assert!(descendants(std::process::id()).iter().any(|p| p.pid == child.id()));
        child.kill().unwrap();
        wait_until("it is a zombie", || process(child.id()).is_some_and(|p| p.zombie));
        assert!(!is_alive(child.id()));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        wait_until("it is gone", || process(child.id()).is_none());
    }

    #[test]
    fn a_directory_goes_with_its_owner() {
        let dir = TempDir::new();
        let path = dir.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }
}
