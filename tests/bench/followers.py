"""How fast a job writes 1 GB while its output is followed, against a plain reader of a pipe.

usage: followers.py BINARY [ROUNDS]

Prints, for 0, 1 and 100 followers that read, and for 100 that do not, the time that a plain reader
takes divided by that of k1s (1.0: as fast; the aim is at least 0.9), and how much memory k1s takes at
most. The reader and k1s take turns, so that they see the same machine.
"""
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time

BYTES = int(os.environ.get("BYTES", 1_000_000_000))
WRITER = f"""
import os

# No unix socket: another k1s may run here.
os.environ["K1S_SOCKET"] = ""
block = (b"x" * 62 + b"\\n") * 1040
left = {BYTES}
while left > 0:
    left -= os.write(1, block)
"""


def plain():
    """How long a reader that does nothing else takes."""
    began = time.monotonic()
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE)
    buffer = bytearray(65536)
    while os.readv(writer.stdout.fileno(), [buffer]):
        pass
    writer.wait()
    return time.monotonic() - began


class K1s:
    def __init__(self, binary):
        self.directory = tempfile.TemporaryDirectory()
        path = os.path.join(self.directory.name, "k1s.toml")
        with open(path, "w") as config:
            config.write('[http]\nport = 0\nhost = "127.0.0.1"\nauth_token = "t"\n[output]\nforward = "none"\n')
        self.process = subprocess.Popen([binary, "-c", path], stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        while "listening on" not in line:
            line = self.process.stderr.readline().decode()
        self.port = int(line.strip().rsplit(":", 1)[1])

    def ask(self, method, target, body=""):
        peer = self.open(method, target, body, "Connection: close\r\n")
        answer = b""
        while part := peer.recv(1 << 20):
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"chunked" in head:
            whole = b""
            while body:
                size, _, rest = body.partition(b"\r\n")
                whole += rest[: int(size, 16)]
                body = rest[int(size, 16) + 2 :]
            body = whole
        return json.loads(body)

    def open(self, method, target, body="", headers=""):
        peer = socket.create_connection(("127.0.0.1", self.port))
        head = f"{method} {target} HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer t\r\n{headers}"
        peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return peer

    def memory(self):
        """The most that was resident, in KiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def follow(binary, count, reads):
    """How long the job takes, how much followers were sent, and the memory of k1s."""
    k1s = K1s(binary)
    spec = {"type": "one-off", "executable": sys.executable, "arguments": ["-c", "input()\n" + WRITER], "stdin": "\n"}
    spec["output"] = {"limitBytes": 65536}
    k1s.ask("POST", "/job/idle", json.dumps({"type": "cron", "executable": "true", "scheduleInSeconds": 86400}))
    waiter = k1s.open("POST", "/job/x?wait=300", json.dumps(spec))
    query = "/job/x/logs?follow=true&format=ndjson"
    followers = [k1s.open("GET", query) for _ in range(count)]
    poll = select.epoll()
    poll.register(waiter, select.EPOLLIN)
    if reads:
        for follower in followers:
            follower.setblocking(False)
            poll.register(follower, select.EPOLLIN)
    by_fd = {follower.fileno(): follower for follower in followers}
    sent, is_over = 0, False
    buffer = bytearray(1 << 18)
    while not is_over:
        for fd, _ in poll.poll():
            if fd == waiter.fileno():
                is_over = True
            else:
                sent += by_fd[fd].recv_into(buffer)
    result = k1s.ask("GET", "/job/x?output=false")["results"][0]
    assert result["success"] and result["stdoutBytes"] >= BYTES, result
    memory = k1s.memory()
    k1s.end()
    return result["durationMs"] / 1000, sent, memory


def main():
    binary, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    cases = [("no follower", 0, True), ("1 that reads", 1, True), ("100 that read", 100, True), ("100 that do not", 100, False)]
    for name, count, reads in cases:
        ratios = []
        for _ in range(rounds):
            wanted = plain()
            took, sent, memory = follow(binary, count, reads)
            ratios.append(f"{wanted / took:.2f}")
        print(f"{name:16} {' '.join(ratios)}   sent {sent / 1e6:.0f} MB, at most {memory} KiB", flush=True)


main()
