"""How long `GET /healthz` takes while others are greedy: one client that pipelines as fast as it
can, one job that writes as fast as it can, and 1,000 idle connections.

usage: tests/bench/fairness.py BINARY [SECONDS]

k1s has one core and this script, its pipelining client and the job another, so that what is
measured is the share that k1s gives and not the share of a core. Prints percentiles at rest, under
each load alone, and under all of them; the goal is a p99 of at most 5 times that with 1,000 idle
connections alone. Run by hand; the figures belong in a note, not in a test.
"""
import http.client, json, os, socket, subprocess, sys, tempfile, time

TOKEN = "fairness"
AUTH = f"Authorization: Bearer {TOKEN}\r\n"
PIPELINER = r'''
import socket, sys, threading

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = (sys.argv[2] + " HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer " + sys.argv[3] + "\r\n\r\n").encode() * 500
def read():
    buffer = bytearray(1 << 20)
    while s.recv_into(buffer): pass
threading.Thread(target=read, daemon=True).start()
while True: s.sendall(request)
'''


class K1s:
    def __init__(self, binary):
        self.directory = tempfile.mkdtemp()
        with open(f"{self.directory}/k1s.toml", "w") as config:
            config.write(f'[http]\nhost = "127.0.0.1"\nport = 0\nauth_token = "{TOKEN}"\nmax_connections = 1100\nidle_timeout_seconds = 3600\n')
        self.log = open(f"{self.directory}/log", "w+")
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", binary, "-c", "k1s.toml"], cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        while True:
            text = open(f"{self.directory}/log").read()
            if "http://" in text:
                self.port = int(text.split("http://")[1].split()[0].rsplit(":", 1)[1])
                return
            if self.process.poll() is not None:
                raise SystemExit(text)
            time.sleep(0.01)

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port)
        c.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        reply = c.getresponse().read()
        c.close()
        return reply


def latencies(port, seconds):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n"
    end = time.monotonic() + seconds
    taken = []
    # The script comes before whoever it shares its core with, where that is permitted.
    policy = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        print("not permitted: SCHED_FIFO; times hold waiting for the script's own core")
    while time.monotonic() < end:
        began = time.perf_counter_ns()
        s.sendall(request)
        reply = s.recv(4096)
        taken.append(time.perf_counter_ns() - began)
        assert reply.startswith(b"HTTP/1.1 200") and reply.endswith(b'"}'), reply
        time.sleep(0.0005)
    os.sched_setscheduler(0, policy, os.sched_param(0))
    taken.sort()
    return taken


def report(what, taken, base=None):
    at = lambda p: taken[min(len(taken) - 1, int(len(taken) * p))] / 1000
    times = f"  p99 x{at(.99) / base:.1f}" if base else ""
    print(f"{what:34} n={len(taken):6} p50={at(.5):8.0f} us  p99={at(.99):8.0f} us  max={taken[-1] / 1000:8.0f} us{times}", flush=True)
    return at(.99)


def idle_connections(port, count):
    connections = []
    request = f"GET /job/none HTTP/1.1\r\nHost: k1s\r\n{AUTH}\r\n".encode()
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(request)
        s.recv(4096)
        connections.append(s)
    return connections


def main():
    binary = os.path.realpath(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5
    os.sched_setaffinity(0, {1})
    k1s = K1s(binary)
    yes = {"type": "continuous", "executable": "sh", "arguments": ["-c", "exec taskset -c 1 yes"], "output": {"forward": False}}
    k1s.ask("POST", "/job/page", {"type": "one-off", "executable": "sh", "arguments": ["-c", "head -c 60000 /dev/zero | tr '\\0' x"]})
    greedy = []
    start = lambda target: greedy.append(subprocess.Popen([sys.executable, "-c", PIPELINER, str(k1s.port), target, TOKEN]))
    def stop():
        while greedy:
            process = greedy.pop()
            process.kill()
            process.wait()
    try:
        latencies(k1s.port, 0.5)
        report("at rest", latencies(k1s.port, seconds))
        idle = idle_connections(k1s.port, 1000)
        base = report("1,000 idle", latencies(k1s.port, seconds))
        for target in ("GET /healthz", "GET /job/none", "GET /job/page", "GET /"):
            start(target)
            report(f"+ pipelining {target}", latencies(k1s.port, seconds), base)
            stop()
        k1s.ask("POST", "/job/yes", yes)
        report("+ yes", latencies(k1s.port, seconds), base)
        start("GET /job/none")
        report("+ yes + pipelining GET /job/none", latencies(k1s.port, seconds), base)
        stop()
        start("GET /job/page")
        report("+ yes + pipelining GET /job/page", latencies(k1s.port, seconds), base)
        stop()
    finally:
        stop()
        k1s.process.terminate()
        k1s.process.wait()


main()
