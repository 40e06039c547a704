//! The unix socket: who may use it, what may be at its path before, and what is left of it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Asking, BINARY, Builder, Finished, K1s, continuous, may_become_others, one_off, send_signal,
    skip, wait_for, wait_until,
};
use crate::init::listening;

/// A k1s with a socket in its directory.
fn with_socket() -> (Builder, PathBuf) {
    let start = K1s::with();
    let path = start.dir().join("k1s.sock");
    (start.env("K1S_SOCKET", path.to_str().unwrap()), path)
}

/// A command of the client that asks on this socket, and has no token; started by `around`.
fn client_of(path: &Path, around: &[&str], arguments: &[&str]) -> Asking {
    let words: Vec<&str> = around.iter().chain(&[BINARY]).chain(arguments).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("K1S_URL", format!("unix://{}", path.display()));
    command.env_remove("K1S_AUTH_TOKEN");
    Asking::start(command)
}

/// A command of the client that must succeed; returns what it printed.
#[track_caller]
fn told(path: &Path, arguments: &[&str]) -> String {
    let finished = client_of(path, &[], arguments).end();
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    finished.stdout
}

/// The whole answer to a GET on this socket, with these headers.
fn get(path: &Path, target: &str, headers: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nHost: k\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What k1s says when it cannot start.
#[track_caller]
fn refused(start: Builder, words: &[&str]) {
    let Finished { code, stderr, .. } = start.run();
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The names in the directory of a socket, besides the config.
fn beside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "k1s.toml").collect();
    names.sort();
    names
}

fn kill(k1s: K1s) {
    send_signal(k1s.pid(), Signal::SIGKILL);
    assert_eq!(k1s.exit().0.code(), None);
}

// ---- Who may use it ----

#[test]
fn its_own_user_needs_no_token() {
    let (start, path) = with_socket();
    let k1s = start.start();
    let said = format!("k1s: listening on unix://{}\n", path.display());
    wait_until("it says where it listens", || k1s.stderr().contains(&said));
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(beside(&path), ["k1s.sock"], "the lock is gone");
    for headers in ["", "Authorization: Bearer wrong\r\n", &k1s.authorization()] {
        let answer = get(&path, "/", headers);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{headers}: {answer}");
    }
    let mut on_port = k1s.connect();
    on_port.send("GET / HTTP/1.1\r\nHost: k\r\n\r\n");
    assert_eq!(on_port.reply().status, 403, "on the port the token counts as before");
}

#[test]
fn commands_of_the_client_work_over_it() {
    let (start, path) = with_socket();
    let k1s = start.start();
    k1s.create(
        "main",
        &continuous(
            "echo begun; while ! [ -e go ]; do sleep 0.01; done; echo done; exec sleep 1000",
        ),
    );
    assert!(told(&path, &["ps"]).contains("main  continuous"));
    let logs = client_of(&path, &[], &["logs", "-f", "main"]);
    wait_until("the log is followed", || logs.stdout() == "begun\n");
    fs::write(k1s.dir().join("go"), "").unwrap();
    wait_until("the log goes on", || logs.stdout() == "begun\ndone\n");
    assert_eq!(told(&path, &["exec", "--", "sh", "-c", "echo $((6 * 7))"]), "42\n");
    let failed = client_of(&path, &[], &["exec", "--", "sh", "-c", "exit 7"]).end();
    assert_eq!(failed.code, Some(7), "{failed:?}");
    told(&path, &["rm", "--wait", "main"]);
    assert_eq!(logs.end().code, Some(0));
}

/// The client finds it by the variable that k1s has it from.
#[test]
fn the_client_looks_where_k1s_listens() {
    let (start, path) = with_socket();
    let k1s = start.start();
    let found = |arguments: &[&str]| {
        let mut command = k1s.client_command(arguments);
        command.env_remove("K1S_URL").env_remove("K1S_AUTH_TOKEN").env("K1S_SOCKET", &path);
        command.env("PORT", k1s.address().port().to_string());
        command
    };
    assert_eq!(Asking::start(found(&["ps"])).end().code, Some(0));
    // Where nobody answers on it any more, there may be the port, which needs the token.
    fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let finished = Asking::start(found(&["ps"])).end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("Unauthorized"), "{finished:?}");
    let mut command = found(&["ps"]);
    command.env("K1S_AUTH_TOKEN", k1s.token());
    assert_eq!(Asking::start(command).end().code, Some(0));
    let mut command = found(&["ps"]);
    command.env("PORT", "1");
    let finished = Asking::start(command).end();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let wanted = format!(
        "k1s: k1s cannot be reached at unix://{}: connection refused, \
         nor at http://127.0.0.1:1: connection refused\n",
        path.display()
    );
    assert_eq!(finished.stderr, wanted);
}

#[test]
fn another_user_is_kept_off_and_refused() {
    if !may_become_others() {
        skip!("root alone may become another user");
    }
    let (start, path) = with_socket();
    let k1s = start.start();
    let finished = client_of(&path, &OTHER, &["ps"]).end();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("permission denied"), "{finished:?}");
    // Root has let it in by mistake.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let finished = client_of(&path, &OTHER, &["ps"]).end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let wanted = "Forbidden: the unix socket is for root and for k1s's own user alone, and this is \
                  user 60000";
    assert!(finished.stderr.contains(wanted), "{finished:?}");
    // The token does not help, nor does a path that needs none.
    for (target, headers) in [("/", k1s.authorization()), ("/healthz", String::new())] {
        let script = format!(
            "{CONNECT}s.sendall(b'''GET {target} HTTP/1.1\\r\\nHost: k\\r\\n{}\\r\\n''')\nprint(s.recv(9999))",
            headers.trim_end().to_owned() + "\\r\\n"
        );
        let Some(output) = as_other(&script, &path) else { skip!("no python3") };
        let answer =
            String::from_utf8_lossy(&output.wait_with_output().unwrap().stdout).into_owned();
        assert!(
            answer.contains("403 Forbidden") && answer.contains("this is user 60000"),
            "{answer}"
        );
    }
    assert_eq!(told(&path, &["ps"]).lines().count(), 1, "nothing has come of it");
}

#[test]
fn root_may_use_that_of_another_user_and_a_third_may_not() {
    if !may_become_others() {
        skip!("root alone may become another user");
    }
    let (start, path) = with_socket();
    chown(start.dir(), Some(60000), Some(60000)).unwrap();
    let _k1s = start.around(&OTHER).start();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (60000, 0o600));
    told(&path, &["ps"]);
    assert_eq!(client_of(&path, &OTHER, &["ps"]).end().code, Some(0));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let third = ["setpriv", "--reuid=60001", "--regid=60000", "--clear-groups"];
    let finished = client_of(&path, &third, &["ps"]).end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("this is user 60001"), "{finished:?}");
}

#[test]
fn strangers_on_either_socket_do_not_keep_owners_out() {
    if !may_become_others() {
        skip!("root alone may become another user");
    }
    let (start, path) = with_socket();
    let k1s = start.http("max_connections = 16").start();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let again = CONNECT.lines().skip(1).map(|line| format!("  {line}\n"));
    let script = format!(
        "{CONNECT}held = [s]\nfor _ in range(1500):\n{}  held.append(s)\n\
         print('held', flush=True)\nsys.stdin.read()",
        again.collect::<String>()
    );
    let Some(mut strangers) = as_other(&script, &path) else { skip!("no python3") };
    said_by(&mut strangers, "held");
    let on_port: Vec<_> = (0..100).map(|_| k1s.connect()).collect();
    for _ in 0..20 {
        told(&path, &["ps"]);
        assert_eq!(k1s.get("/").status, 200);
    }
    drop((strangers.stdin.take(), on_port));
    assert!(strangers.wait().unwrap().success());
}

/// Connections that have been let in make room for others like them, and for jobs.
#[test]
fn without_descriptors_owners_make_room_for_one_another() {
    let (start, path) = with_socket();
    let k1s = start.nofile(40).start();
    let on_port: Vec<_> = (0..60).map(|_| k1s.connect()).collect();
    let held: Vec<_> = (0..60).map(|_| UnixStream::connect(&path).unwrap()).collect();
    told(&path, &["ps"]);
    assert_eq!(k1s.get("/").status, 200);
    assert_eq!(told(&path, &["exec", "--", "echo", "out"]), "out\n");
    let mut oldest = &held[0];
    assert_eq!(oldest.read(&mut [0]).unwrap(), 0, "the oldest has made room");
    drop((held, on_port));
    k1s.create("x", &continuous("exec sleep 1000"));
    k1s.in_state("x", "running");
}

// ---- What may be at its path before ----

#[test]
fn a_leftover_is_replaced() {
    let (start, path) = with_socket();
    kill(start.clone().start());
    assert!(is_there(&path), "nobody could remove it");
    // One that was killed before it listened has left its lock, too.
    fs::write(path.with_extension("sock.lock"), "").unwrap();
    let k1s = start.start();
    told(&path, &["ps"]);
    assert_eq!(beside(&path), ["k1s.sock"]);
    k1s.end();
    assert!(!is_there(&path));
}

#[test]
fn one_that_is_answered_on_is_not_replaced() {
    let (start, path) = with_socket();
    let first = start.clone().start();
    let before = inode(&path);
    let place = format!("cannot listen on unix://{}: another k1s answers there", path.display());
    refused(start, &[&place, "http.socket or K1S_SOCKET"]);
    assert_eq!(inode(&path), before);
    told(&path, &["ps"]);
    first.end();
    // It need not be a k1s, and it need not be quick.
    let (start, path) = with_socket();
    let _living = UnixListener::bind(&path).unwrap();
    refused(start.clone(), &["another k1s answers there"]);
    assert!(is_there(&path));
}

#[test]
fn of_many_that_start_at_once_one_has_it() {
    for round in 0..3 {
        let (start, path) = with_socket();
        if round > 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let many: Vec<K1s> = (0..8).map(|_| start.clone().launch()).collect();
        let said = format!("listening on unix://{}", path.display());
        let taken = "another k1s answers there";
        wait_until("each has or has not got it", || {
            many.iter().all(|k1s| k1s.stderr().contains(&said) || k1s.stderr().contains(taken))
        });
        let (have, have_not): (Vec<K1s>, Vec<K1s>) =
            many.into_iter().partition(|k1s| k1s.stderr().contains(&said));
        assert_eq!(have.len(), 1);
        for k1s in have_not {
            assert_eq!(k1s.exit().0.code(), Some(2));
        }
        told(&path, &["ps"]);
        assert_eq!(beside(&path), ["k1s.sock"]);
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (start, path) = with_socket();
    fs::write(&path, "mine").unwrap();
    refused(start.clone(), &["there is something else than a socket, which k1s does not remove"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fs::remove_file(&path).unwrap();
    // A link is not followed, neither to a file nor to a leftover.
    let target = start.dir().join("target");
    drop(UnixListener::bind(&target).unwrap());
    symlink(&target, &path).unwrap();
    refused(start.clone(), &["something else than a socket"]);
    assert!(is_there(&target) && fs::symlink_metadata(&path).unwrap().is_symlink());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(start.clone(), &["something else than a socket"]);
    fs::remove_dir(&path).unwrap();
    // Somebody's socket of another kind.
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    refused(start.clone(), &["what is there: Protocol wrong type for socket (EPROTOTYPE)"]);
    assert!(is_there(&path));
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let right = "must belong to root or to k1s's own user, and nobody else may write to them";
    for mode in [0o777, 0o775, 0o757] {
        let start = K1s::with();
        let directory = start.dir().join("open");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let shown = directory.display();
        let at = |name: &str| start.clone().env("K1S_SOCKET", &format!("{shown}/{name}"));
        let others = format!("others may change {shown}, and");
        refused(at("k1s.sock"), &[&others, right]);
        assert_eq!(beside(&directory.join("x")), [""; 0]);
        // k1s advised to have one made there, which others may rename.
        refused(at("k1s/k1s.sock"), &[&others, right]);
        assert_eq!(beside(&directory.join("x")), [""; 0]);
        fs::create_dir_all(directory.join("k1s/deep")).unwrap();
        refused(at("k1s/k1s.sock"), &[&others, right]);
        refused(at("k1s/deep/k1s.sock"), &[&others, right]);
    }
    if may_become_others() {
        let start = K1s::with();
        let directory = start.dir().join("theirs");
        fs::create_dir_all(directory.join("k1s")).unwrap();
        let shown = directory.display();
        // The latter is also whom a user namespace does not know; but this one knows 65534.
        for user in [60000, 65534] {
            chown(&directory, Some(user), None).unwrap();
            for name in ["k1s.sock", "new/k1s.sock", "k1s/k1s.sock"] {
                let start = start.clone().env("K1S_SOCKET", &format!("{shown}/{name}"));
                refused(start, &[&format!("user {user} may change {shown}, and"), right]);
            }
        }
    }
}

#[test]
fn a_directory_that_is_missing_is_made() {
    let start = K1s::with();
    let at = |name: &str| {
        let path = start.dir().join(name);
        (start.clone().env("K1S_SOCKET", path.to_str().unwrap()), path)
    };
    let (start, path) = at("new/k1s.sock");
    let k1s = start.start();
    told(&path, &["ps"]);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o755);
    k1s.end();
    refused(at("x/y/k1s.sock").0, &["x: No such file or directory (ENOENT)"]);
}

/// Where a link leads is checked, and whose link it is.
#[test]
fn a_symbolic_link_to_a_directory_that_others_may_change_was_followed() {
    let start = K1s::with();
    let make = |name: &str, mode: u32| {
        let directory = start.dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        directory
    };
    let (closed, open, sticky) = (make("closed", 0o755), make("open", 0o777), make("st", 0o1777));
    fs::create_dir(open.join("in")).unwrap();
    let at = |path: &Path| start.clone().env("K1S_SOCKET", path.join("k1s.sock").to_str().unwrap());
    let link = |target: &str, name: &str| {
        let path = start.dir().join(name);
        symlink(target, &path).unwrap();
        path
    };
    let through = link("closed/../closed", "through");
    let k1s = at(&through).start();
    told(&closed.join("k1s.sock"), &["ps"]);
    k1s.end();
    for (name, target, shown) in [
        ("in", "open/in", "/open,"),
        ("back", "open/in/../../closed", "/open/in/..,"),
        ("twice", "in/../in", "/in/..,"),
    ] {
        refused(at(&link(target, name)), &["others may change ", shown]);
    }
    refused(at(&link("endless", "endless")), &["(ELOOP)"]);
    if may_become_others() {
        let theirs = sticky.join("theirs");
        symlink(&closed, &theirs).unwrap();
        lchown(&theirs, Some(60000), None).unwrap();
        let theirs_is = format!("user 60000 may change {}, and", theirs.display());
        refused(at(&theirs), &[&theirs_is]);
    }
}

/// Root is somebody unknown there, who owns nearly all.
#[test]
fn in_a_user_namespace_the_directories_of_an_unknown_root_will_do() {
    if !may_become_others() {
        skip!("root alone may become another user");
    }
    let start = K1s::with();
    let directory = start.dir().join("theirs");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(60000), None).unwrap();
    let path = directory.join("k1s.sock");
    let around = [&OTHER[..], &["unshare", "--user", "--map-root-user"]].concat();
    let works = Command::new(around[0]).args(&around[1..]).arg("true").output();
    if !works.is_ok_and(|it| it.status.success()) {
        skip!("no user namespaces");
    }
    let k1s = start.around(&around).env("K1S_SOCKET", path.to_str().unwrap()).start();
    let finished = client_of(&path, &OTHER, &["ps"]).end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    k1s.end();
}

/// In a sticky directory others cannot replace it, but they may be first.
#[test]
fn in_a_sticky_directory_others_can_only_be_first() {
    let start = K1s::with();
    let directory = start.dir().join("sticky");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    let path = directory.join("k1s.sock");
    let start = start.env("K1S_SOCKET", path.to_str().unwrap());
    let k1s = start.clone().start();
    told(&path, &["ps"]);
    k1s.end();
    if !may_become_others() {
        skip!("root alone may become another user");
    }
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\n\
                  s.listen()\nprint('first', flush=True)\nsys.stdin.read()";
    let Some(mut other) = as_other(script, &path) else { skip!("no python3") };
    said_by(&mut other, "first");
    refused(start.clone(), &["another k1s answers there"]);
    let k1s = start.env("K1S_SOCKET", "").start();
    let mut command = k1s.client_command(&["ps"]);
    command.env_remove("K1S_URL").env("K1S_SOCKET", &path).env("PORT", "1");
    let finished = Asking::start(command).end();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("k1s.sock: user 60000 answers, nor at"), "{finished:?}");
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[test]
fn a_path_that_cannot_be_one_is_refused() {
    let at = |path: &str| K1s::with().env("K1S_SOCKET", path);
    let absolute = "must be the absolute path of a unix socket, or empty for none, not";
    refused(at("k1s.sock"), &["K1S_SOCKET in the environment: ", absolute, "\"k1s.sock\""]);
    let long = format!("/{}", "x".repeat(107));
    refused(at(&long), &["must be at most 107 bytes long", "this has 108"]);
    let key = |path: &str| {
        let text = format!("[http]\nsocket = {path:?}\n");
        K1s::with().without_socket_variable().file("k1s.toml", &text)
    };
    refused(key("./k1s.sock"), &["k1s.toml:2: http.socket: ", absolute]);
    refused(key(&long), &["k1s.toml:2: http.socket: ", "must be at most 107 bytes long"]);
    // The longest that can be one is one.
    let start = K1s::with();
    let room = 107 - start.dir().as_os_str().len() - 1;
    let path = start.dir().join("x".repeat(room));
    let _k1s = start.env("K1S_SOCKET", path.to_str().unwrap()).start();
    told(&path, &["ps"]);
}

// ---- By default ----

/// A k1s of a user that is not root, which has its socket by default in this directory.
fn by_default() -> Option<(Builder, PathBuf)> {
    let start = K1s::with().without_socket_variable();
    let runtime = start.dir().join("runtime");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    let start = start.env("XDG_RUNTIME_DIR", runtime.to_str().unwrap());
    if !nix::unistd::geteuid().is_root() {
        return Some((start, runtime));
    }
    chown(&runtime, Some(60000), Some(60000)).unwrap();
    may_become_others().then(|| (start.around(&OTHER), runtime))
}

#[test]
fn by_default_it_is_in_the_runtime_directory() {
    let Some((start, runtime)) = by_default() else { skip!("root may not become another user") };
    let path = runtime.join("k1s.sock");
    let said = format!("listening on unix://{}", path.display());
    let k1s = start.clone().start();
    wait_until("it says so", || k1s.stderr().contains(&said));
    told(&path, &["ps"]);
    // A second one of the same user has none, and says so.
    let second = start.clone().start();
    let warning = format!(
        "k1s: warning: cannot listen on unix://{}: another k1s answers there",
        path.display()
    );
    assert!(second.stderr().contains(&warning), "{}", second.stderr());
    assert!(!second.stderr().contains(&said));
    second.end();
    assert!(is_there(&path), "it was not the second one's");
    k1s.end();
    assert!(!is_there(&path));
}

#[test]
fn a_default_that_cannot_be_made_is_only_said_at_debug() {
    let Some((start, runtime)) = by_default() else { skip!("root may not become another user") };
    let check = |start: &Builder, why: &str| {
        let k1s = start.clone().start();
        assert_eq!(k1s.get("/").status, 200);
        assert!(!k1s.stderr().contains("unix://"), "{}", k1s.stderr());
        let k1s = start.clone().config("[log]\nlevel = \"debug\"").start();
        let line = wait_for("it says why", || {
            let log = k1s.stderr();
            log.lines().find(|line| line.contains("cannot listen on unix://")).map(str::to_owned)
        });
        assert!(line.contains(why), "{line}");
    };
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o500)).unwrap();
    check(&start, "k1s.sock.lock: Permission denied (EACCES)");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o777)).unwrap();
    check(&start, "others may change");
    let long = format!("/{}", "x".repeat(120));
    check(&start.clone().env("XDG_RUNTIME_DIR", &long), "File name too long (ENAMETOOLONG)");
    let missing = start.dir().join("a/b");
    check(&start.env("XDG_RUNTIME_DIR", missing.to_str().unwrap()), "ENOENT");
}

#[test]
fn root_has_it_in_run() {
    let mounts = |options: &str| {
        let script = format!("mount -t tmpfs -o {options} none /run && exec \"$0\" \"$@\"");
        ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned)
    };
    let around = |options: &str| {
        let words = mounts(options);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        K1s::with().without_socket_variable().around(&words)
    };
    let tried =
        Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/run"]).output();
    if !may_become_others() || !tried.is_ok_and(|it| it.status.success()) {
        skip!("root alone has its own /run, where it may mount one");
    }
    let k1s = around("mode=755").start();
    wait_until("it says so", || k1s.stderr().contains("listening on unix:///run/k1s.sock\n"));
    told(Path::new(&format!("/proc/{}/root/run/k1s.sock", k1s.pid())), &["ps"]);
    let k1s = around("ro,mode=755").config("[log]\nlevel = \"debug\"").start();
    assert_eq!(k1s.get("/").status, 200);
    let why = "cannot listen on unix:///run/k1s.sock: /run/k1s.sock.lock: Read-only file system";
    assert!(k1s.stderr().contains(why), "{}", k1s.stderr());
}

#[test]
fn it_can_be_switched_off_and_is_shown() {
    let (start, path) = with_socket();
    let k1s = start.env("K1S_SOCKET", "").start();
    k1s.get("/");
    assert!(!is_there(&path) && !k1s.stderr().contains("unix://"), "{}", k1s.stderr());
    let check = |text: &str, variable: Option<&str>| {
        let file = path.with_file_name("check.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["check", "-c"]).arg(&file).env_remove("K1S_SOCKET");
        command.env("XDG_RUNTIME_DIR", "/run/user/7");
        variable.map(|value| command.env("K1S_SOCKET", value));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("socket")).unwrap();
        line.replace(file.to_str().unwrap(), "FILE")
    };
    let is_root = nix::unistd::geteuid().is_root();
    let default = if is_root { "/run/k1s.sock" } else { "/run/user/7/k1s.sock" };
    assert_eq!(check("", None), format!("socket = {default:?}  # default"));
    let text = "[http]\nsocket = \"/x/y\"";
    assert_eq!(check(text, None), "socket = \"/x/y\"  # FILE:2");
    assert_eq!(check(text, Some("/z")), "socket = \"/z\"  # K1S_SOCKET in the environment");
    assert_eq!(check(text, Some("")), "socket = \"\"  # K1S_SOCKET in the environment");
    assert_eq!(check("[http]\nsocket = \"\"", None), "socket = \"\"  # FILE:2");
}

#[test]
fn init_has_it_without_a_port() {
    let (start, path) = with_socket();
    let k1s =
        start.bare().without_port().init(&["sh", "-c", "echo begun; exec sleep 1000"]).launch();
    wait_until("it is there", || UnixStream::connect(&path).is_ok());
    wait_until("the command runs", || told(&path, &["ps"]).contains("main  one-off  running"));
    let logs = client_of(&path, &[], &["logs", "-f", "main"]);
    wait_until("its output is followed", || logs.stdout() == "begun\n");
    assert_eq!(told(&path, &["exec", "--", "echo", "beside"]), "beside\n");
    match listening(k1s.pid()) {
        Some(addresses) => assert_eq!(addresses, [""; 0]),
        None => skip!("the descriptors of k1s may not be seen"),
    }
    k1s.signal(Signal::SIGTERM);
    let (status, stderr) = k1s.exit();
    assert_eq!((status.code(), stderr.as_str()), (Some(143), ""));
    assert!(!is_there(&path));
}

// ---- What is left of it ----

#[test]
fn it_is_removed_at_the_end_if_it_is_still_k1s_s() {
    let (start, path) = with_socket();
    start.clone().start().end();
    assert!(!is_there(&path));
    let k1s = start.clone().start();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    k1s.end();
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    fs::remove_file(&path).unwrap();
    // Also by one that does not get beyond its start.
    let state = format!("[state]\ndirectory = {BINARY:?}");
    assert_eq!(start.config(&state).run().code, Some(2));
    assert!(!is_there(&path));
}

#[test]
fn jobs_do_not_inherit_it() {
    let (start, path) = with_socket();
    let k1s = start.start();
    let result = k1s.run("x", &one_off("for fd in /proc/self/fd/*; do readlink $fd; done"));
    let stdout = result["stdout"].as_str().unwrap();
    assert!(!stdout.contains("socket:"), "{stdout}");
    // Nor its name: a k1s that is a job has one of its own.
    let result = k1s.run("y", &one_off("echo \"socket: $K1S_SOCKET\""));
    assert_eq!(result["stdout"], json!("socket: \n"));
    told(&path, &["ps"]);
}

#[test]
fn another_path_needs_a_restart() {
    let start = K1s::with().without_socket_variable();
    let (path, other) = (start.dir().join("one"), start.dir().join("other"));
    let config = |path: &Path| {
        format!("[http]\nhost = \"127.0.0.1\"\nauth_token = \"t\"\nsocket = {path:?}\n")
    };
    let file = start.dir().join("k1s.toml");
    let k1s = start.file("k1s.toml", &config(&path)).token("t").start();
    fs::write(&file, config(&other)).unwrap();
    let reply = k1s.request("POST", "/reload", b"").json();
    assert_eq!(reply["needsRestart"], json!(["http.socket"]));
    told(&path, &["ps"]);
    assert!(!is_there(&other));
}

/// Waits until a child has said a word.
fn said_by(child: &mut std::process::Child, word: &str) {
    let mut said = vec![0; word.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), word);
}

/// Starts a Python script as another user, with the path as its argument; `None` without Python.
fn as_other(script: &str, path: &Path) -> Option<std::process::Child> {
    let mut command = Command::new("prlimit");
    command.arg("--nofile=4096:4096").args(OTHER).args(["/usr/bin/python3", "-c", script]);
    command.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    Path::new("/usr/bin/python3").exists().then(|| command.spawn().unwrap())
}

const OTHER: [&str; 4] = ["setpriv", "--reuid=60000", "--regid=60000", "--clear-groups"];
const CONNECT: &str = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(30)\ns.connect(sys.argv[1])\n";
