"""How long a mass stop takes, and how long `GET /healthz` does meanwhile.

usage: tests/bench/stops.py BINARY [COUNT…]

For each COUNT (1,000, 2,000, 4,000, 8,000): that many jobs of `sleep`, then SIGTERM; the seconds
until k1s has ended and the longest answer until then. Then 1,500 that ignore SIGTERM, with a
shutdown of 9 s; then a kill beside 8,000 processes that are not k1s's, and 200 DELETEs among 2,000
jobs. Run by hand; the figures belong in a note, not in a test.
"""
import http.client, json, os, signal, socket, subprocess, sys, tempfile, threading, time

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""

TOKEN = "stops"


class K1s:
    def __init__(self, binary):
        self.directory = tempfile.mkdtemp()
        with open(f"{self.directory}/k1s.toml", "w") as config:
            config.write(f'[http]\nhost = "127.0.0.1"\nport = 0\nauth_token = "{TOKEN}"\n[log]\nlevel = "error"\n')
        self.log = open(f"{self.directory}/log", "w+")
        self.process = subprocess.Popen([binary, "-c", "k1s.toml"], cwd=self.directory,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)
        while "http://" not in open(f"{self.directory}/log").read():
            if self.process.poll() is not None:
                raise SystemExit(open(f"{self.directory}/log").read())
            time.sleep(0.01)
        text = open(f"{self.directory}/log").read()
        self.port = int(text.split("http://")[1].split()[0].rsplit(":", 1)[1])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        return json.loads(self.connection.getresponse().read())

    def create(self, count, executable, arguments):
        for number in range(count):
            self.ask("POST", f"/job/x{number}", {"type": "one-off", "executable": executable, "arguments": arguments, "output": {"limitBytes": 0}})
        while any(job["state"] != "running" for job in self.ask("GET", "/?output=false")):
            time.sleep(0.2)


class Healthz(threading.Thread):
    """The longest answer, in milliseconds, until stop() or the end of k1s."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.longest, self.goes_on = port, 0, True
        self.start()

    def run(self):
        try:
            s = socket.create_connection(("127.0.0.1", self.port))
            while self.goes_on:
                began = time.perf_counter()
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
                if not s.recv(4096):
                    return
                self.longest = max(self.longest, (time.perf_counter() - began) * 1000)
                time.sleep(0.0005)
        except OSError:
            pass

    def stop(self):
        self.goes_on = False
        self.join()
        return self.longest


def mass_stop(binary, count, executable, arguments, what):
    k1s = K1s(binary)
    k1s.create(count, executable, arguments)
    time.sleep(1)
    healthz = Healthz(k1s.port)
    time.sleep(0.2)
    healthz.longest = 0
    began = time.monotonic()
    k1s.process.send_signal(signal.SIGTERM)
    k1s.process.wait()
    taken = time.monotonic() - began
    print(f"{count:6} {what:28} {taken:7.2f} s  longest /healthz {healthz.stop():6.0f} ms", flush=True)


def stranger_processes(count):
    script = f"import os,time\nfor _ in range({count}):\n if os.fork()==0: time.sleep(1000); os._exit(0)\nprint(flush=True)\ntime.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def single_stops(binary):
    strangers = stranger_processes(8000)
    k1s = K1s(binary)
    k1s.create(1, "sleep", ["1000"])
    healthz = Healthz(k1s.port)
    began = time.monotonic()
    k1s.ask("PUT", "/job/x0/kill")
    while k1s.ask("GET", "/job/x0")["state"] != "killed":
        pass
    print(f"a kill beside 8,000 strangers: {(time.monotonic() - began) * 1000:.1f} ms, longest /healthz {healthz.stop():.0f} ms", flush=True)
    os.killpg(strangers.pid, signal.SIGKILL)
    strangers.wait()
    k1s.process.terminate()
    k1s.process.wait()
    k1s = K1s(binary)
    k1s.create(2000, "sleep", ["1000"])
    healthz = Healthz(k1s.port)
    began = time.monotonic()
    for number in range(200):
        k1s.ask("DELETE", f"/job/x{number}")
    print(f"200 DELETEs among 2,000: {(time.monotonic() - began) * 5:.2f} ms each, longest /healthz {healthz.stop():.0f} ms", flush=True)
    k1s.process.terminate()
    k1s.process.wait()


binary = os.path.realpath(sys.argv[1])
for count in [int(count) for count in sys.argv[2:]] or [1000, 2000, 4000, 8000]:
    mass_stop(binary, count, "sleep", ["1000"], "sleep")
mass_stop(binary, 1500, "sh", ["-c", "trap '' TERM; while :; do sleep 1000; done"], "that ignore SIGTERM")
single_stops(binary)
