"""How long the loop is held: the longest `GET /healthz` beside what may hold it.

usage: tests/bench/holding.py BINARY [CASE…]

Cases: ends (runs that end with full pipes), lease (an executable that another process holds a lease on),
zone (a FIFO where a zone's file is looked for), readers (a large job that many read slowly). The
goal is 20 ms each. Where it is permitted, k1s and whoever asks come before whatever else the
machine does (SCHED_FIFO), so that what is measured is what k1s does. Run by hand; the figures
belong in a note, not in a test. Linux takes 50 ms a second from SCHED_FIFO
(sched_rt_runtime_us), which shows where k1s is busy for longer than 0.95 s.
"""
import fcntl, http.client, json, os, signal, socket, subprocess, sys, tempfile, threading, time

TOKEN = "holding"
FULL_PIPE = """
import fcntl, os, sys, time

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""
size = int(sys.argv[1])
if size > 65536: fcntl.fcntl(1, 1031, size)  # F_SETPIPE_SZ
os.set_blocking(1, False)
with open(sys.argv[2] + ".up", "w"): pass
while not os.path.exists(sys.argv[2]): time.sleep(0.002)
try:
    while True: os.write(1, b"\\n" * 65536)
except BlockingIOError: pass
os._exit(0)
"""


def prefer(pid):
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("not permitted: SCHED_FIFO; times hold waiting for a core")


class K1s:
    def __init__(self, binary, config="", **environment):
        self.directory = tempfile.mkdtemp()
        with open(f"{self.directory}/k1s.toml", "w") as file:
            file.write(f'[http]\nhost = "127.0.0.1"\nport = 0\nauth_token = "{TOKEN}"\nmax_connections = 1100\n{config}')
        self.log = open(f"{self.directory}/log", "w+")
        self.process = subprocess.Popen(
            [binary, "-c", "k1s.toml"], cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.log, env={**os.environ, **environment})
        while True:
            text = open(f"{self.directory}/log").read()
            if "http://" in text:
                self.port = int(text.split("http://")[1].split()[0].rsplit(":", 1)[1])
                break
            if self.process.poll() is not None:
                raise SystemExit(text)
            time.sleep(0.01)
        prefer(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port)
        c.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        reply = json.loads(c.getresponse().read())
        c.close()
        return reply


class Asker:
    """Asks for /healthz until it is told to end, in a process of its own: Python has one lock."""
    SCRIPT = r'''
import os, select, signal, socket, sys, time
try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
except PermissionError: pass
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
longest = count = 0
print("up", flush=True)
stopped = [int(pid) for pid in sys.stdin.readline().split()[1:]]
while not select.select([0], [], [], 0.0005)[0]:
    began = time.perf_counter()
    while stopped: os.kill(stopped.pop(), signal.SIGCONT)
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
    assert s.recv(4096).startswith(b"HTTP/1.1 200")
    longest = max(longest, time.perf_counter() - began)
    count += 1
print(longest * 1000, count)
'''

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, "-c", self.SCRIPT, str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"
        time.sleep(0.1)

    def begin(self, stopped=""):
        """Begins to ask, and lets a k1s that was stopped go on, so that it cannot be done before."""
        self.process.stdin.write(f"begin {stopped}\n")
        self.process.stdin.flush()
        return self

    def longest(self):
        said, _ = self.process.communicate("end\n")
        return said.split()


def report(what, asker, more=""):
    longest, count = asker.longest()
    print(f"{what:44} longest {float(longest):8.1f} ms of {count:>6} {more}", flush=True)


def ends(binary):
    for mode in ("prefix", "json", "raw", "none"):
        for count, size in ((40, 1 << 20), (60, 1 << 16)):
            with K1s(binary, f'[output]\nforward = "{mode}"\n') as k1s:
                go = f"{k1s.directory}/go"
                for i in range(count):
                    # What it writes is written at once, and its pipe may be full before k1s reads.
                    script = "import sys; " + FULL_PIPE.replace("sys.argv[2] + \".up\"", f"sys.argv[2] + '.up{i}'")
                    k1s.ask("POST", f"/job/j{i}", {"type": "one-off", "executable": sys.executable,
                        "arguments": ["-c", script, str(size), go], "output": {"limitBytes": 1024}})
                while sum(name.startswith("go.up") for name in os.listdir(k1s.directory)) < count:
                    time.sleep(0.01)
                asker = Asker(k1s.port)
                # All have ended before k1s reads anything.
                os.kill(k1s.process.pid, signal.SIGSTOP)
                open(go, "w").close()
                time.sleep(1)
                asker.begin(k1s.process.pid)
                while any(job["state"] != "succeeded" for job in k1s.ask("GET", "/?output=false")):
                    time.sleep(0.02)
                report(f"{count} ends with {size >> 10} KiB of newlines, {mode}", asker)


def lease(binary):
    with K1s(binary) as k1s:
        program = f"{k1s.directory}/program"
        subprocess.run(["cp", "/bin/true", program], check=True)
        with open(program, "r") as file:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            fcntl.fcntl(file, 1024, fcntl.F_WRLCK)  # F_SETLEASE
            asker = Asker(k1s.port).begin()
            threading.Thread(target=k1s.ask, args=("POST", "/job/x", {"type": "one-off", "executable": program})).start()
            time.sleep(3)
            fcntl.fcntl(file, 1024, fcntl.F_UNLCK)
        report("a lease, held for 3 s", asker, f"state {k1s.ask('GET', '/job/x')['state']}")


def zone(binary):
    zones = tempfile.mkdtemp()
    os.mkdir(f"{zones}/Europe")
    os.mkfifo(f"{zones}/Europe/Berlin")
    with K1s(binary, TZDIR=zones) as k1s:
        asker = Asker(k1s.port).begin()
        create = threading.Thread(target=k1s.ask, args=("POST", "/job/x",
            {"type": "cron", "executable": "true", "schedule": "@daily", "timeZone": "Europe/Berlin"}))
        create.start()
        time.sleep(1)
        try:
            os.close(os.open(f"{zones}/Europe/Berlin", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
        create.join()
        report("a FIFO for 1 s in place of a zone", asker)


def readers(binary):
    with K1s(binary) as k1s:
        k1s.ask("POST", "/job/x", {"type": "one-off", "executable": "true", "arguments": ["x" * 1000] * 1000})
        request = f"GET /job/x HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        sockets = []
        for _ in range(900):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", k1s.port))
            sockets.append(s)
        asker = Asker(k1s.port).begin()
        for s in sockets:
            s.sendall(request)
        time.sleep(3)
        for s in sockets:
            s.recv(65536)
        resident = [l for l in open(f"/proc/{k1s.process.pid}/status") if l.startswith("VmRSS")][0].split()[1]
        report("900 slow readers of 1 MB of arguments", asker, f"{int(resident) >> 10} MiB resident")


CASES = {case.__name__: case for case in (ends, lease, zone, readers)}


def main():
    binary = os.path.realpath(sys.argv[1])
    for name in sys.argv[2:] or CASES:
        CASES[name](binary)


main()
