"""What probes cost: the CPU time of k1s, and how long `GET /healthz` takes meanwhile.

usage: tests/bench/probes.py BINARY [JOBS] [PERIOD] [SECONDS] [KIND]

JOBS (1,000) continuous jobs that sleep, each with a probe of this KIND (tcp, http or exec) every
PERIOD (10) seconds, of one server that accepts and answers. Prints percentiles and the CPU time for
SECONDS (60) of as many jobs without probes, and then with them: the attempts are spread over the
period. k1s has one core; this script and the server have another. Where it is permitted, k1s and
the script run before everything else on their cores (SCHED_FIFO). Run by hand; the figures belong
in a note, not in a test.
"""
import http.client, json, os, signal, socket, subprocess, sys, tempfile, time

TOKEN = "probes"
SERVER = r'''
import selectors, socket

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
listener.setblocking(False)
watch = selectors.DefaultSelector()
watch.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in watch.select():
        if key.fileobj is listener:
            peer, _ = listener.accept()
            watch.register(peer, selectors.EVENT_READ)
        else:
            try:
                if key.fileobj.recv(4096):
                    key.fileobj.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                pass
            watch.unregister(key.fileobj)
            key.fileobj.close()
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
                break
            if self.process.poll() is not None:
                raise SystemExit(text)
            time.sleep(0.01)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        reply = self.connection.getresponse().read().decode()
        # It would be closed when it is idle for long.
        self.connection.close()
        return reply

    def metric(self, name):
        lines = self.ask("GET", "/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies(port, seconds):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        taken.append(time.perf_counter_ns() - began)
        time.sleep(0.01)
    return sorted(taken)


def report(what, k1s, seconds):
    """Half of the time with nobody else, for the CPU, and half with /healthz."""
    began, cpu = time.monotonic(), k1s.cpu()
    time.sleep(seconds)
    cpu = (k1s.cpu() - cpu) * 60 / (time.monotonic() - began)
    prefer(0, 2)
    taken = latencies(k1s.port, seconds)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    at = lambda p: taken[min(len(taken) - 1, int(len(taken) * p))] / 1000
    print(f"{what:24} CPU {cpu:6.2f} s a minute   /healthz n={len(taken):6} "
          f"p50={at(.5):5.0f} us  p99={at(.99):5.0f} us  max={taken[-1] / 1000:6.0f} us", flush=True)


def main():
    binary = os.path.realpath(sys.argv[1])
    jobs, period, seconds, kind = (sys.argv[2:] + ["1000", "10", "60", "tcp"][len(sys.argv) - 2:])
    jobs, period, seconds = int(jobs), float(period), float(seconds)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    address = f"127.0.0.1:{int(server.stdout.readline())}"
    check = {"tcp": {"address": address}, "http": {"url": f"http://{address}/"}, "exec": ["true"]}[kind]
    probe = {kind: check, "periodSeconds": period, "timeoutSeconds": 5}
    spec = {"type": "continuous", "executable": "sleep", "arguments": ["100000"]}
    k1s = K1s(binary)
    try:
        os.sched_setaffinity(k1s.process.pid, {0})
        os.sched_setaffinity(server.pid, {1})
        os.sched_setaffinity(0, {1})
        prefer(k1s.process.pid, 1)
        prefer(server.pid, 1)
        for number in range(jobs):
            assert "created" in k1s.ask("POST", f"/job/x{number}", spec)
        while k1s.metric('k1s_jobs{state="running"}') < jobs:
            time.sleep(0.2)
        report(f"{jobs} jobs", k1s, seconds)
        for number in range(jobs):
            said = k1s.ask("PATCH", f"/job/x{number}", {"readiness": probe})
            assert "updated" in said or "replaced" in said or "changed" in said, said
        began = time.monotonic()
        while k1s.metric("k1s_job_ready{") < jobs:
            time.sleep(0.2)
        print(f"all ready after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(period)
        report(f"{kind} every {period:g} s", k1s, seconds)
        print(f"ready at the end: {k1s.metric('k1s_job_ready{'):g}")
    finally:
        server.kill()
        k1s.process.send_signal(signal.SIGTERM)
        try:
            k1s.process.wait(15)
        except subprocess.TimeoutExpired:
            k1s.process.kill()


main()
