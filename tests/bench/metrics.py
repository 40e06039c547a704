"""How long `GET /healthz` takes while others ask for metrics, a listing or a snapshot of very many jobs.

usage: tests/bench/metrics.py BINARY [JOBS] [RUNS] [PROCESSES] [SECONDS]

JOBS (10,000) jobs that have ended RUNS (20) times each, which is a full history, and PROCESSES
(1,000) more that run. Prints percentiles at rest, and with one and with four clients that ask again
and again for /metrics, for /, and for the snapshot of /events; the goal is a p99 of at most 5 times
that at rest. Then how long an answer takes, its size, and the memory of k1s.

k1s has one core, and this script and the other clients have another. Where it is permitted, k1s
and the script run before everything else on their cores (SCHED_FIFO). Run by hand; the figures
belong in a note, not in a test.
"""
import http.client, json, os, socket, subprocess, sys, tempfile, time

TOKEN = "metrics"
SCRAPER = r'''
import http.client, sys, time

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""
while True:
    began = time.monotonic()
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    c.request("GET", sys.argv[3], headers={"Authorization": "Bearer " + sys.argv[2]})
    reply = c.getresponse()
    size = 0
    tail = b""
    # A stream of events does not end, but its snapshot does.
    while not (sys.argv[3] == "/events" and tail.endswith(b"]}\n\n")) and (piece := reply.read1(65536)):
        size += len(piece)
        tail = (tail + piece)[-4:]
    c.close()
    print(time.monotonic() - began, size, flush=True)
'''


def prefer(pid, priority):
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        print("not permitted: SCHED_FIFO; times hold waiting for a core")


class K1s:
    def __init__(self, binary):
        self.directory = tempfile.mkdtemp()
        with open(f"{self.directory}/k1s.toml", "w") as config:
            config.write(f'[http]\nhost = "127.0.0.1"\nport = 0\nauth_token = "{TOKEN}"\n[log]\nlevel = "error"\n[output]\nforward = "none"\n')
        self.process = subprocess.Popen(
            [binary, "-c", "k1s.toml"], cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(f"{self.directory}/log", "w"))
        while True:
            text = open(f"{self.directory}/log").read()
            if "http://" in text:
                self.port = int(text.split("http://")[1].split()[0].rsplit(":", 1)[1])
                return
            if self.process.poll() is not None:
                raise SystemExit(text)
            time.sleep(0.01)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, connection, method, path, body=None):
        connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        reply = connection.getresponse()
        return reply.read().decode()

    def metric(self, name):
        text = self.ask(self.connect(), "GET", "/metrics")
        return next(float(l.split()[-1]) for l in text.splitlines() if l.startswith(name))

    def turns(self):
        text = self.ask(self.connect(), "GET", "/metrics")
        name = "k1s_loop_turn_duration_seconds_bucket"
        return {l.split('"')[1]: int(l.split()[-1]) for l in text.splitlines() if l.startswith(name)}

    def resident(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024


def latencies(port, seconds):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n"
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        s.sendall(request)
        reply = s.recv(4096)
        taken.append(time.perf_counter_ns() - began)
        assert reply.startswith(b"HTTP/1.1 200"), reply
        time.sleep(0.0005)
    taken.sort()
    return taken


def report(what, taken, base=None):
    at = lambda p: taken[min(len(taken) - 1, int(len(taken) * p))] / 1000
    times = f"  p99 x{at(.99) / base:.1f}" if base else ""
    print(f"{what:28} n={len(taken):6} p50={at(.5):7.0f} us  p99={at(.99):7.0f} us  max={taken[-1] / 1000:7.0f} us{times}", flush=True)
    return at(.99)


def fill(k1s, jobs, runs, processes):
    connection = k1s.connect()
    spec = {"type": "continuous", "executable": "echo", "arguments": ["x" * 50],
        "restart": {"initialDelayMs": 0, "maxDelayMs": 0, "maxRestarts": runs - 1}}
    began = time.monotonic()
    # A few at a time: as many processes at once as there are jobs would take longer.
    for i in range(jobs):
        assert "created" in k1s.ask(connection, "POST", f"/job/j{i}", spec)
        while i % 100 == 99 and i - k1s.metric('k1s_jobs{state="failed"}') > 300:
            time.sleep(0.05)
    while k1s.metric('k1s_jobs{state="failed"}') < jobs:
        time.sleep(0.2)
    print(f"{jobs} jobs, {jobs * runs} runs in {time.monotonic() - began:.0f} s", flush=True)
    for i in range(processes):
        k1s.ask(connection, "POST", f"/job/p{i}", {"type": "continuous", "executable": "sleep", "arguments": ["100000"]})
    while k1s.metric('k1s_jobs{state="running"}') < processes:
        time.sleep(0.2)


def main():
    binary = os.path.realpath(sys.argv[1])
    jobs, runs, processes, seconds = (int(x) for x in (sys.argv[2:] + ["10000", "20", "1000", "10"][len(sys.argv) - 2:]))
    k1s = K1s(binary)
    scrapers = []
    try:
        fill(k1s, jobs, runs, processes)
        os.sched_setaffinity(k1s.process.pid, {0})
        os.sched_setaffinity(0, {1})
        prefer(k1s.process.pid, 1)
        latencies(k1s.port, 0.5)
        def measure(what, base=None):
            before = k1s.turns()
            prefer(0, 2)
            taken = latencies(k1s.port, seconds)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            p99 = report(what, taken, base)
            after = k1s.turns()
            print("    turns of at most so many seconds:", {le: after[le] - before[le] for le in after})
            return p99
        base = measure("at rest")
        for target in ("/metrics", "/", "/events"):
            for count in (1, 4):
                while len(scrapers) < count:
                    scrapers.append(subprocess.Popen([sys.executable, "-c", SCRAPER, str(k1s.port), TOKEN, target],
                        stdout=subprocess.PIPE, text=True))
                time.sleep(0.5)
                measure(f"{count} asking for {target}", base)
            for scraper in scrapers:
                scraper.kill()
            answers = [tuple(map(float, line.split())) for s in scrapers for line in s.communicate()[0].splitlines() if line.count(" ") == 1]
            scrapers.clear()
            print(f"{len(answers)} answers of {max((size for _, size in answers), default=0) / 1e6:.1f} MB, the shortest in {min((t for t, _ in answers), default=0):.2f} s")
        alone = time.monotonic()
        k1s.ask(k1s.connect(), "GET", "/metrics")
        print(f"one alone: {time.monotonic() - alone:.2f} s; {k1s.resident()} MiB resident; longest turn {k1s.metric('k1s_loop_longest_turn_seconds') * 1000:.1f} ms")
    finally:
        for scraper in scrapers:
            scraper.kill()
            scraper.wait()
        k1s.process.terminate()
        k1s.process.wait()


main()
