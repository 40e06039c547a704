//! Probes by HTTP and TCP, and what runs say about themselves, with real servers and clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    K1s, continuous, may_become_others, one_off, skip, stays_true, wait_for, wait_until, with,
};

/// A server that hands each connection to a function. It ends with the test.
fn serve(handle: impl Fn(TcpStream, usize) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            handle(connection.unwrap(), number);
        }
    });
    address
}

/// Reads the head of a request, and answers.
fn answer(mut connection: TcpStream, answer: &[u8]) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() == 1 {
        head.extend_from_slice(&byte);
    }
    connection.write_all(answer).unwrap();
    String::from_utf8(head).unwrap()
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn sleeps(readiness: &Value) -> Value {
    with(continuous("exec sleep 1000"), json!({"readiness": readiness}))
}

fn http(address: SocketAddr) -> Value {
    json!({"http": {"url": format!("http://{address}/health?full=1")}, "periodSeconds": 0.1})
}

/// What was found out last, once that is this.
fn last_probe(k1s: &K1s, id: &str, ok: bool, message: &str) -> Value {
    wait_for(&format!("{id}: {message}"), || {
        let job = k1s.job(id);
        let last = &job["lastProbe"];
        (last["ok"] == ok && last["message"] == message).then(|| job.clone())
    })
}

// ---- HTTP and TCP ----

#[test]
fn a_job_is_ready_when_the_answer_is_good() {
    let k1s = K1s::start();
    let (asked, requests): (Sender<String>, Receiver<String>) = channel();
    let (open, opened): (Sender<()>, Receiver<()>) = channel();
    let address = serve(move |connection, number| {
        let status = if number == 0 { "503 Busy" } else { "200 OK" };
        if number == 1 {
            opened.recv().unwrap();
        }
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
        let _ = asked.send(answer(connection, text.as_bytes()));
    });
    k1s.create("x", &sleeps(&http(address)));
    let job = last_probe(&k1s, "x", false, "status 503, not 200 to 399");
    assert_eq!((&job["ready"], &job["lastProbe"]["kind"]), (&json!(false), &json!("http")));
    open.send(()).unwrap();
    let job = last_probe(&k1s, "x", true, "status 200");
    assert_eq!(job["ready"], true);
    let expected = format!(
        "GET /health?full=1 HTTP/1.1\r\nHost: {address}\r\nUser-Agent: k1s\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    assert_eq!(requests.recv().unwrap(), expected);
}

#[test]
fn an_answer_is_good_or_says_why_not() {
    let k1s = K1s::start();
    let cases: [(&str, bool, &str); 8] = [
        ("HTTP/1.0 204 No Content\r\n\r\n", true, "status 204"),
        ("HTTP/1.1 302 Found\r\nLocation: http://nowhere/\r\n\r\n", true, "status 302"),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 No\r\n\r\n",
            false,
            "status 404, not 200 to 399",
        ),
        ("", false, "closed without an answer"),
        ("HTTP/1.1 200 OK\r\nContent-", false, "closed in the head of its answer"),
        ("SSH-2.0-OpenSSH_9.2\r\n", false, "not an answer in HTTP/1: \"SSH-2.0-OpenSSH_9.2\""),
        ("<html>hello</html>\n", false, "not an answer in HTTP/1: \"<html>hello</html>\""),
        ("HTTP/1.1 200 €\n\n", true, "status 200"),
    ];
    for (number, (text, ok, message)) in cases.into_iter().enumerate() {
        let address = serve(move |connection, _| drop(answer(connection, text.as_bytes())));
        let id = format!("x{number}");
        k1s.create(&id, &sleeps(&http(address)));
        assert_eq!(last_probe(&k1s, &id, ok, message)["ready"], ok);
    }
    // The range of good statuses may be one.
    let address = serve(|connection, _| {
        answer(connection, b"HTTP/1.1 204 X\r\n\r\n");
    });
    let url = format!("http://{address}");
    k1s.create("one", &sleeps(&json!({"http": {"url": url, "status": [200, 200]}})));
    last_probe(&k1s, "one", false, "status 204, not 200");
    let url = format!("http://localhost:{}", address.port());
    k1s.create("named", &sleeps(&json!({"http": {"url": url}})));
    last_probe(&k1s, "named", true, "status 204");
}

#[test]
fn who_never_answers_holds_nobody_up() {
    let k1s = K1s::start();
    // Nobody accepts, so the connections stay in the backlog.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = with(http(listener.local_addr().unwrap()), json!({"timeoutSeconds": 0.1}));
    k1s.create("silent", &sleeps(&probe));
    let job = last_probe(&k1s, "silent", false, "timed out after 0.1 s");
    assert_eq!(job["ready"], false);
    k1s.create("refused", &sleeps(&http(nobody())));
    last_probe(&k1s, "refused", false, "connection refused");
    k1s.create("tcp", &sleeps(&json!({"tcp": {"address": nobody()}})));
    last_probe(&k1s, "tcp", false, "connection refused");
    // The connections of attempts that have timed out are closed.
    let mut connection = listener.accept().unwrap().0;
    let mut request = String::new();
    connection.read_to_string(&mut request).unwrap();
    assert!(request.starts_with("GET /health"));
}

/// A server whose connection is reset complains, and simple ones do so on stderr at each probe.
#[test]
fn a_server_can_send_its_whole_body() {
    let k1s = K1s::start();
    let (end, ends) = channel();
    let (go_on, goes_on): (Sender<()>, Receiver<()>) = channel();
    let address = serve(move |mut connection, number| {
        let head = b"HTTP/1.0 200 OK\r\n\r\n";
        answer(connection.try_clone().unwrap(), head);
        if number == 0 {
            goes_on.recv().unwrap();
            let written = connection.write_all(&[b'x'; 30_000]);
            connection.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = end.send((written.is_ok(), connection.read(&mut [0]).map_err(|e| e.kind())));
        }
    });
    k1s.create("x", &sleeps(&with(http(address), json!({"periodSeconds": 60}))));
    last_probe(&k1s, "x", true, "status 200");
    go_on.send(()).unwrap();
    assert_eq!(ends.recv().unwrap(), (true, Ok(0)));
}

#[test]
fn a_port_is_ready_when_it_accepts() {
    let k1s = K1s::start();
    let address = nobody();
    let probe = json!({"tcp": {"address": address}, "periodSeconds": 0.1});
    k1s.create("x", &sleeps(&probe));
    last_probe(&k1s, "x", false, "connection refused");
    let listener = TcpListener::bind(address).unwrap();
    let job = last_probe(&k1s, "x", true, "connected");
    assert_eq!((&job["ready"], &job["lastProbe"]["kind"]), (&json!(true), &json!("tcp")));
    // It is closed at once.
    assert_eq!(listener.accept().unwrap().0.read(&mut [0]).unwrap(), 0);
    let listener = match TcpListener::bind("[::1]:0") {
        Ok(listener) => listener,
        Err(error) => skip!(format!("no IPv6: {error}")),
    };
    let address = listener.local_addr().unwrap();
    k1s.create("v6", &sleeps(&json!({"tcp": {"address": address}})));
    last_probe(&k1s, "v6", true, "connected");
}

#[test]
fn no_connection_of_a_probe_is_left() {
    let k1s = K1s::start();
    let before = match k1s.open_fds() {
        Ok(count) => count,
        Err(error) => skip!(format!("the descriptors of k1s cannot be read: {error}")),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = with(http(listener.local_addr().unwrap()), json!({"timeoutSeconds": 60}));
    let good = serve(|connection, _| drop(answer(connection, b"HTTP/1.0 200 OK\r\n\r\nx")));
    k1s.create("silent", &sleeps(&silent));
    k1s.create("good", &sleeps(&http(good)));
    k1s.create("notify", &sleeps(&json!({"notify": true})));
    k1s.create("fd", &sleeps(&json!({"fd": 7})));
    last_probe(&k1s, "good", true, "status 200");
    let mut connection = listener.accept().unwrap().0;
    for id in ["silent", "good", "notify", "fd"] {
        k1s.delete(&format!("/job/{id}"));
    }
    assert!(connection.read_to_string(&mut String::new()).is_ok(), "the attempt is given up");
    wait_until("all descriptors are closed", || k1s.open_fds().unwrap() <= before);
}

/// That is the machine's fault, and no job is restarted for it.
#[test]
fn without_descriptors_a_probe_neither_fails_nor_succeeds() {
    let k1s = K1s::with().nofile(64).start();
    let address = serve(|connection, _| drop(connection));
    let tcp = json!({"tcp": {"address": address}, "periodSeconds": 0.1, "failureThreshold": 1});
    k1s.create("x", &with(sleeps(&tcp), json!({"liveness": tcp})));
    let asked_since = |at: &Value| {
        let at = at.clone();
        let asked = || Some(k1s.job("x")["lastProbe"]["at"].clone()).filter(|last| *last != at);
        wait_for("it is asked", || asked().filter(|last| !last.is_null()))
    };
    asked_since(&Value::Null);
    // Each takes two.
    let ids: Vec<String> = (0..17).map(|number| format!("y{number}")).collect();
    ids.iter().for_each(|id| k1s.create(id, &continuous("exec sleep 1000")));
    let (mut since, mut last) = (Instant::now(), Value::Null);
    wait_until("it is not asked any more", || {
        let now = k1s.job("x")["lastProbe"]["at"].clone();
        if now != last {
            (since, last) = (Instant::now(), now);
        }
        since.elapsed() > Duration::from_millis(500)
    });
    let job = k1s.job("x");
    assert_eq!((&job["ready"], &job["lastProbe"]["ok"]), (&json!(true), &json!(true)), "{job}");
    assert_eq!((&job["restarts"], &job["state"]), (&json!(0), &json!("running")), "{job}");
    assert_eq!(k1s.run("z", &one_off("echo out"))["stdout"], "out\n", "there are some for spawns");
    ids.iter().for_each(|id| drop(k1s.delete(&format!("/job/{id}"))));
    let at = asked_since(&last);
    asked_since(&at);
    assert_eq!(k1s.job("x")["restarts"], 0);
}

// ---- A newline on a descriptor ----

#[test]
fn a_newline_on_the_descriptor_says_that_a_run_is_ready() {
    let k1s = K1s::start();
    // As with s6: `notification-fd`.
    let script = "echo not yet; printf wait >&3; echo >up; until [ -e go ]; do sleep 0.01; done; \
                  echo >&3; exec sleep 1000";
    k1s.create("x", &with(continuous(script), json!({"readiness": {"fd": 3}})));
    k1s.wait_for_file("up");
    assert_eq!(k1s.job("x")["ready"], false);
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let job = last_probe(&k1s, "x", true, "a newline");
    assert_eq!((&job["ready"], &job["lastProbe"]["kind"]), (&json!(true), &json!("fd")));
    // As with dinit: `ready-notification = pipefd:200`.
    let script = "echo ready > /proc/self/fd/200; exec sleep 1000";
    k1s.create("y", &with(continuous(script), json!({"readiness": {"fd": 200}})));
    last_probe(&k1s, "y", true, "a newline");
    // It is closed without one.
    k1s.create(
        "z",
        &with(
            continuous("exec 3>&-; echo >closed; exec sleep 1000"),
            json!({"readiness": {"fd": 3}}),
        ),
    );
    k1s.wait_for_file("closed");
    assert_eq!(k1s.job("z")["ready"], false);
}

#[test]
fn what_a_run_has_said_last_counts_although_it_has_ended() {
    let k1s = K1s::start();
    for number in 0..20 {
        let id = format!("x{number}");
        k1s.run(&id, &with(one_off("echo >&3"), json!({"readiness": {"fd": 3}})));
        assert_eq!(k1s.job(&id)["lastProbe"]["message"], "a newline");
    }
}

// ---- sd_notify ----

/// Python that says something to a socket, by the name that the environment has.
const NOTIFY: &str = "
import os, socket, subprocess, sys, time
def notify(text, name=None):
    name = name or os.environ['NOTIFY_SOCKET']
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect('\\0' + name[1:])
        s.sendall(text if isinstance(text, bytes) else text.encode())
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
";

fn python(script: &str) -> Value {
    json!({"type": "continuous", "executable": "python3", "arguments": ["-c", format!("{NOTIFY}{script}")]})
}

fn has_python() -> bool {
    Command::new("python3").args(["-c", "0"]).output().is_ok_and(|it| it.status.success())
}

fn notifies(script: &str) -> Value {
    with(python(script), json!({"readiness": {"notify": true}}))
}

/// A k1s that logs all.
fn talkative() -> K1s {
    K1s::with().config("[log]\nlevel = \"debug\"").start()
}

#[test]
fn a_run_says_that_it_is_ready() {
    if !has_python() {
        skip!("no python3");
    }
    let k1s = K1s::start();
    k1s.create("x", &notifies("notify('STATUS=loading')\nwait_for('go')\nnotify('READY=1\\nSTATUS=3 workers')\nwait_for('end')"));
    wait_until("its status is shown", || k1s.job("x")["status"] == "loading");
    assert_eq!(k1s.job("x")["ready"], false);
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    let job = last_probe(&k1s, "x", true, "READY=1");
    assert_eq!(job["ready"], true);
    assert_eq!(job["lastProbe"]["kind"], "notify");
    wait_until("its new status is shown", || k1s.job("x")["status"] == "3 workers");
    // Without a probe that wants to know there is no socket, and k1s's own is not inherited.
    let k1s = K1s::with().env("NOTIFY_SOCKET", "@other").start();
    assert_eq!(k1s.run("y", &one_off("env | grep -c NOTIFY_SOCKET"))["stdout"], "0\n");
}

/// A worker may say it, whatever its session, user and environment are.
#[test]
fn any_process_of_a_run_speaks_for_it() {
    if !has_python() {
        skip!("no python3");
    }
    let k1s = talkative();
    let child = |before: &str| {
        format!(
            "subprocess.Popen([{before}sys.executable, '-c', 'import sys;exec(sys.argv[1]);\
             notify(\"READY=1\", sys.argv[2]);time.sleep(1000)', {NOTIFY:?}, \
             os.environ['NOTIFY_SOCKET']])\ntime.sleep(1000)"
        )
    };
    for (id, before) in [("child", ""), ("session", "'setsid','-f',"), ("empty", "'env','-i',")] {
        k1s.create(id, &notifies(&child(before)));
        last_probe(&k1s, id, true, "READY=1");
    }
    if !may_become_others() {
        skip!("other users need root");
    }
    let other = "'setpriv','--reuid=60000','--regid=60000','--clear-groups',";
    // Everyone may execute this one.
    let script = child(other).replace("sys.executable", "'/usr/bin/python3'");
    if std::path::Path::new("/usr/bin/python3").exists() {
        k1s.create("user", &notifies(&script));
        last_probe(&k1s, "user", true, "READY=1");
    }
    let has_refused = k1s.stderr().contains("is none of the run's");
    assert!(!has_refused, "{}", k1s.stderr());
}

#[test]
fn nobody_else_speaks_for_a_run() {
    if !has_python() {
        skip!("no python3");
    }
    let k1s = talkative();
    let script = "open('name', 'w').write(os.environ['NOTIFY_SOCKET'])\n\
                  os.rename('name', 'address')\nwait_for('go')\nnotify('READY=1')\nwait_for('end')";
    k1s.create("x", &notifies(script));
    k1s.wait_for_file("address");
    let address = std::fs::read_to_string(k1s.dir().join("address")).unwrap();
    assert!(address.starts_with("@k1s/"), "{address}");
    let lie = |before: &str| {
        format!("{before}notify('READY=1\\nSTATUS=lie', '{address}')\nwait_for('end')")
    };
    // A process of another job, which has a socket of its own.
    k1s.create("y", &notifies(&lie("notify('READY=1')\n")));
    last_probe(&k1s, "y", true, "READY=1");
    let refused = |run: u32| format!("x: run {run}: process {} has sent a notice", k1s.pid_of("y"));
    wait_until("it is refused", || k1s.stderr().contains(&refused(1)));
    // A process of no job, of another user if that is possible.
    let script = format!("{NOTIFY}notify('READY=1\\nSTATUS=lie', '{address}')");
    let mut stranger = Command::new("python3");
    if may_become_others() && std::path::Path::new("/usr/bin/python3").exists() {
        let other = ["--reuid=60000", "--regid=60000", "--clear-groups", "/usr/bin/python3"];
        stranger = Command::new("setpriv");
        stranger.args(other);
    }
    assert!(stranger.args(["-c", &script]).status().unwrap().success());
    stays_true("x is not ready", Duration::from_millis(200), || {
        let job = k1s.job("x");
        job["ready"] == false && job.get("status").is_none()
    });
    std::fs::write(k1s.dir().join("go"), "").unwrap();
    last_probe(&k1s, "x", true, "READY=1");
    assert_eq!(k1s.stderr().matches("has sent a notice").count(), 1, "once is enough");
}

#[test]
fn whatever_is_said_k1s_goes_on() {
    if !has_python() {
        skip!("no python3");
    }
    let k1s = K1s::start();
    let script = "
import random, array
for size in [0, 1, 4096, 4097, 60000]:
    notify(b'READY=1\\n' + b'x' * size if size > 4088 else os.urandom(size))
notify(b'READY=1\\0STATUS=x')
notify('READY=0\\nWATCHDOG=1\\nMAINPID=1\\nSTOPPING=0\\nEXTEND_TIMEOUT_USEC=18446744073709551615')
for line in random.Random(1).choices(['RELOADING=1', 'WATCHDOG=trigger', 'FDSTORE=1', '='], k=500):
    notify(line)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])
    r, w = os.pipe()
    s.sendmsg([b'BARRIER=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [w] * 100))])
    os.close(w)
    assert os.read(r, 1) == b''
notify(b'STATUS=\\xff\\xfe' + b'y' * 3000)
wait_for('end')";
    k1s.create("x", &notifies(script));
    let status = wait_for("its status", || k1s.job("x")["status"].as_str().map(str::to_owned));
    assert!(status.starts_with("\u{fffd}\u{fffd}yyy") && status.len() <= 1024, "{status}");
}

#[test]
fn a_watchdog_is_fed_or_bites() {
    if !has_python() {
        skip!("no python3");
    }
    let k1s = K1s::start();
    let liveness = json!({"notify": true, "periodSeconds": 0.1, "failureThreshold": 3});
    let script = "print(os.environ['WATCHDOG_USEC'], 'WATCHDOG_PID' in os.environ, flush=True)\nnotify('READY=1')\n\
                  for i in range(10):\n    notify('WATCHDOG=1'); time.sleep(0.1)\n\
                  wait_for('end')";
    k1s.create("x", &with(notifies(script), json!({"liveness": liveness})));
    let result = k1s.results("x", 1).remove(0);
    assert_eq!((&result["reason"], &result["success"]), (&json!("unhealthy"), &json!(false)));
    assert_eq!(result["stdout"], "300000 False\n");
    assert!(result["durationMs"].as_u64().unwrap() >= 1000, "it was fed: {result}");
    k1s.create(
        "y",
        &with(
            notifies("notify('READY=1\\nWATCHDOG=trigger')\nwait_for('end')"),
            json!({"liveness": liveness}),
        ),
    );
    assert_eq!(k1s.results("y", 1)[0]["reason"], "unhealthy");
}

/// systemd's own client: with privileges it sends in the name of its parent, without it waits until
/// its message was read.
#[test]
fn systemd_notify_is_understood() {
    if !Command::new("systemd-notify").arg("--version").output().is_ok_and(|it| it.status.success())
    {
        skip!("no systemd-notify");
    }
    let k1s = talkative();
    let script = "systemd-notify --ready --status='3 workers' && echo told && exec sleep 1000";
    let job = with(continuous(script), json!({"readiness": {"notify": true}}));
    let others = if may_become_others() { &["root", "nobody"][..] } else { &[] };
    let users = others.iter().map(|user| (*user, json!({"user": user, "workingDirectory": "/"})));
    for (id, fields) in users.chain([("own", json!({}))]) {
        k1s.create(id, &with(job.clone(), fields));
        last_probe(&k1s, id, true, "READY=1");
        assert_eq!(k1s.job(id)["status"], "3 workers");
        let told = || k1s.get(&format!("/job/{id}/logs")).text().contains("told");
        wait_until("it has come back", told);
    }
    assert!(!k1s.stderr().contains("is none of the run's"), "{}", k1s.stderr());
}

/// The library of that name from PyPI, in the directory `K1S_TEST_SDNOTIFY`.
#[test]
fn sdnotify_is_understood() {
    let Ok(library) = std::env::var("K1S_TEST_SDNOTIFY") else {
        skip!("K1S_TEST_SDNOTIFY names no directory with sdnotify from PyPI");
    };
    let k1s = K1s::start();
    let script = "import sdnotify, time\nn = sdnotify.SystemdNotifier(debug=True)\n\
                  n.notify('STATUS=3 workers')\nn.notify('READY=1')\ntime.sleep(1000)";
    let job = json!({"type": "continuous", "executable": "python3", "arguments": ["-c", script],
        "environment": {"PYTHONPATH": library}, "readiness": {"notify": true}});
    k1s.create("x", &job);
    last_probe(&k1s, "x", true, "READY=1");
    assert_eq!(k1s.job("x")["status"], "3 workers");
}
