"""What the benchmarks share: a k1s of their own on a free port of loopback, how long `GET /healthz`
takes, and priorities.
"""
import http.client, json, os, signal, socket, subprocess, sys, tempfile, time

TOKEN = "bench"


class K1s:
    """A k1s with these keys of `[http]` and what else its config holds, started by `command`."""

    def __init__(self, binary, http=None, config="", command=(), **environment):
        self.directory = tempfile.mkdtemp()
        # Idle connections stay: one is kept to ask with.
        keys = {"host": "127.0.0.1", "port": 0, "auth_token": TOKEN, "idle_timeout_seconds": 3600, **(http or {})}
        with open(f"{self.directory}/k1s.toml", "w") as file:
            file.write("[http]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()) + config)
        with open(f"{self.directory}/log", "w") as log:
            self.process = subprocess.Popen(
                [*command, os.path.realpath(binary), "-c", "k1s.toml"], cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                # No unix socket: another k1s may run here.
                env={**os.environ, "K1S_SOCKET": "", **environment})
        while "http://" not in (text := self.log()):
            if self.process.poll() is not None:
                raise SystemExit(text)
            time.sleep(0.01)
        self.pid = self.process.pid
        self.port = int(text.split("http://")[1].split()[0].rsplit(":", 1)[1])
        self.connection = self.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self):
        with open(f"{self.directory}/log") as log:
            return log.read()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, method, target, body=None, connection=None):
        """The answer, which must be a success: a value where it is JSON. Threads ask over
        connections of their own."""
        connection = connection or self.connection
        connection.request(method, target, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status < 400, text
        return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text

    def metric(self, name):
        lines = self.ask("GET", "/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def running(self, count):
        """Waits until so many jobs run."""
        while self.metric('k1s_jobs{state="running"}') < count:
            time.sleep(0.2)

    def status(self, name):
        """A number of /proc/PID/status: memory is in KiB."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))

    def cpu(self):
        """User and system time in seconds, to the nanosecond where the kernel has schedstat."""
        try:
            with open(f"/proc/{self.pid}/schedstat") as file:
                return int(file.read().split()[0]) / 1e9
        except OSError:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prefer(pid, priority=1):
    """Has a process come before whatever else its core does, and not its children."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        print("not permitted: SCHED_FIFO; times hold waiting for a core")


def latencies(port, seconds, pause=0.0005):
    """How long answers to `GET /healthz` take, in ns, from the shortest to the longest. The script
    comes before k1s meanwhile."""
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    prefer(0, 2)
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
        reply = s.recv(4096)
        taken.append(time.perf_counter_ns() - began)
        assert reply.startswith(b"HTTP/1.1 200") and reply.endswith(b'"}\n'), reply
        time.sleep(pause)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return sorted(taken)


def report(what, taken, base=None):
    """Prints percentiles, and how many times `base` the 99th is. Returns that, in µs."""
    at = lambda p: taken[min(len(taken) - 1, int(len(taken) * p))] / 1000
    times = f"  p99 x{at(.99) / base:.1f}" if base else ""
    print(f"{what:34} n={len(taken):6} p50={at(.5):8.0f} us  p99={at(.99):8.0f} us  max={taken[-1] / 1000:8.0f} us{times}", flush=True)
    return at(.99)


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
    try:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
        answer = s.recv(4096)
    except OSError:
        answer = b""
    if not answer:
        break
    assert answer.startswith(b"HTTP/1.1 200")
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
        """The longest answer in ms, and how many there were, until now or the end of k1s."""
        longest, count = self.process.communicate("end\n")[0].split()
        return float(longest), int(count)
