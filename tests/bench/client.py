"""What the client costs: `k1s ps` of 1,000 jobs, and `k1s logs -f` of a job that writes all it can.

usage: client.py BINARY [ROUNDS]

Prints how long `k1s ps` takes (the aim is at most 20 ms) next to curl with the same listing, and how
many MB/s `k1s logs -f` passes on to a pipe (the aim is at least 200) next to curl with the bytes and
with the lines of the same job, and to a plain reader of the writer's pipe. They take turns, so that
they see the same machine. What was lost on the way is said.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

JOBS = 1000
BYTES = int(os.environ.get("BYTES", 500_000_000))
LINE = int(os.environ.get("LINE", 64))
WRITER = f"""
import os
block = (b"x" * {LINE - 1} + b"\\n") * (65536 // {LINE})
left = {BYTES}
while left > 0:
    left -= os.write(1, block)
"""


class K1s:
    def __init__(self, binary):
        self.binary = binary
        self.directory = tempfile.TemporaryDirectory()
        path = os.path.join(self.directory.name, "k1s.toml")
        with open(path, "w") as config:
            config.write(
                '[http]\nport = 0\nhost = "127.0.0.1"\nauth_token = "t"\n[output]\nforward = "none"\n'
                f"memory = {4 * BYTES}\n"
            )
        self.process = subprocess.Popen([binary, "-c", path], stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        while "listening on http" not in line:
            line = self.process.stderr.readline().decode()
        self.url = line.strip().rsplit(" ", 1)[1]
        self.environment = os.environ | {"K1S_URL": self.url, "K1S_AUTH_TOKEN": "t"}

    def client(self, *arguments):
        return [self.binary, *arguments]

    def curl(self, target, *options):
        return ["curl", "-sN", "-H", "Authorization: Bearer t", *options, self.url + target]

    def told(self, command, **options):
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, **options).stdout

    def took(self, command):
        began = time.monotonic()
        self.told(command)
        return time.monotonic() - began

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def listing(binary, rounds):
    k1s = K1s(binary)
    job = {"type": "one-off", "executable": "true", "autostart": False, "labels": {"team": "a"}}
    jobs = [job | {"id": f"job-{number:04}"} for number in range(JOBS)]
    k1s.told(k1s.client("apply", "-f", "-"), input=json.dumps(jobs).encode())
    for verb in ("run", "kill"):
        k1s.told(k1s.curl(f"/jobs/{verb}?all=true", "-X", "PUT"))
    assert len(k1s.told(k1s.client("ps")).splitlines()) == JOBS + 1
    cases = {
        "k1s ps": k1s.client("ps"),
        "curl": k1s.curl("/?output=false&results=1"),
        "k1s --version": k1s.client("--version"),
    }
    times = {name: [] for name in cases}
    for _ in range(7 * rounds):
        for name, command in cases.items():
            times[name].append(1000 * k1s.took(command))
    for name, taken in times.items():
        print(f"{name:24} {statistics.median(taken):7.1f} ms, at best {min(taken):.1f}", flush=True)
    k1s.end()


def drain(reader):
    """How many bytes come, and how many MB/s that is from the first one on."""
    buffer, count, began = bytearray(1 << 18), 0, None
    while length := os.readv(reader.fileno(), [buffer]):
        began = began or time.monotonic()
        count += length
    return count, count / 1e6 / (time.monotonic() - began)


def plain():
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE)
    return drain(writer.stdout)


def followed(binary, command):
    """The same for a command that follows the job from before it writes."""
    k1s = K1s(binary)
    writer = "import os\nwhile not os.path.exists('go'): pass\n" + WRITER
    job = {"id": "x", "type": "one-off", "executable": sys.executable, "arguments": ["-c", writer]}
    job |= {"workingDirectory": k1s.directory.name, "output": {"limitBytes": 2 * BYTES}}
    k1s.told(k1s.client("apply", "-f", "-"), input=json.dumps(job).encode())
    follower = subprocess.Popen(command(k1s), stdout=subprocess.PIPE, env=k1s.environment)
    time.sleep(0.3)
    open(os.path.join(k1s.directory.name, "go"), "w").close()
    figures = drain(follower.stdout)
    k1s.end()
    return figures


def main():
    binary, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    listing(binary, rounds)
    logs = "/job/x/logs?follow=true&run=1"
    cases = {
        "plain reader": plain,
        "k1s logs -f": lambda: followed(binary, lambda k1s: k1s.client("logs", "-f", "--run", "1", "x")),
        "k1s logs -f --json": lambda: followed(binary, lambda k1s: k1s.client("--json", "logs", "-f", "--run", "1", "x")),
        "curl, bytes": lambda: followed(binary, lambda k1s: k1s.curl(logs)),
        "curl, lines": lambda: followed(binary, lambda k1s: k1s.curl(logs + "&format=ndjson")),
    }
    for _ in range(rounds):
        for name, measure in cases.items():
            count, rate = measure()
            print(f"{name:24} {rate:7.0f} MB/s of {count / 1e6:.0f} MB", flush=True)


main()
