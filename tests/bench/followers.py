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
import time

from k1s import TOKEN, K1s

BYTES = int(os.environ.get("BYTES", 1_000_000_000))
WRITER = f"""
import os
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


def request(k1s, method, target, body=""):
    """A connection over which this is asked."""
    peer = socket.create_connection(("127.0.0.1", k1s.port))
    head = f"{method} {target} HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {TOKEN}\r\n"
    peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return peer


def follow(binary, count, reads):
    """How long the job takes, how much followers were sent, and the memory of k1s."""
    k1s = K1s(binary, config='[output]\nforward = "none"\n')
    spec = {"type": "one-off", "executable": sys.executable, "arguments": ["-c", "input()\n" + WRITER], "stdin": "\n"}
    spec["output"] = {"limitBytes": 65536}
    k1s.ask("POST", "/job/idle", {"type": "cron", "executable": "true", "scheduleInSeconds": 86400})
    waiter = request(k1s, "POST", "/job/x?wait=300", json.dumps(spec))
    query = "/job/x/logs?follow=true&format=ndjson"
    followers = [request(k1s, "GET", query) for _ in range(count)]
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
    memory = k1s.status("VmHWM")
    k1s.__exit__()
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
