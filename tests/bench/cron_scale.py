#!/usr/bin/env python3
"""What 100,000 cron jobs cost: by hand, not part of `cargo test`.

    cargo build --release
    tests/bench/cron_scale.py target/*/release/k1s [--jobs 100000] [--due 10000] [--spec '{…}']

Starts the binary on a free port of loopback and measures, in this order:

- creation over one connection that is kept alive, one request at a time: rate, k1s's own CPU
  time for each, resident memory for each;
- listing them all, and what others wait for meanwhile;
- what one waits for when nothing else goes on, for comparison: the machine's own share;
- ten seconds of rest: system calls (with strace, where it can attach), context switches, CPU;
- `--due` more jobs that fall due in the same second: in order? how late is the last one? what do
  others wait for meanwhile?
- removal of everything, and an orderly end.

Only the standard library is used. Latencies are those of `GET /job/j1` over a connection of its
own, one request after another, from a thread of this process: on a machine with few cores they
hold this script's own share as well.
"""

import argparse
import datetime
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from k1s import TOKEN, K1s


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--spec", default='{"type":"cron","executable":"/bin/true","schedule":"17 3 * * *"}')
    parser.add_argument("--rest", type=float, default=10.0)
    options = parser.parse_args()
    k1s = K1s(options.binary, config=f"[limits]\njobs = {options.jobs + options.due}\n")
    try:
        measure_creation(k1s, options.jobs, options.spec)
        measure_listing(k1s)
        measure_rest(k1s, options.rest)
        if options.due:
            measure_due(k1s, options.due)
        measure_end(k1s)
    finally:
        k1s.process.kill()
        k1s.process.wait()


def measure_creation(k1s, count, spec):
    client = Client(k1s.port)
    client.request("GET", "/healthz")
    memory, cpu, began = resident(k1s), k1s.cpu(), time.monotonic()
    slowest = 0.0
    for number in range(1, count + 1):
        before = time.monotonic()
        status, body = client.request("POST", f"/job/j{number}", spec)
        slowest = max(slowest, time.monotonic() - before)
        assert status == 200, body
    took, cpu = time.monotonic() - began, k1s.cpu() - cpu
    print(f"creation   {count} jobs in {took:.2f} s, {count / took:.0f}/s; k1s's CPU "
          f"{cpu / count * 1e6:.1f} µs each; slowest {slowest * 1000:.1f} ms; resident "
          f"{memory / 1e6:.1f} -> {resident(k1s) / 1e6:.1f} MB, "
          f"{(resident(k1s) - memory) / count:.0f} bytes each", flush=True)


def measure_listing(k1s):
    client = Client(k1s.port)
    for target in ["/?output=false", "/?output=false&state=running"]:
        with Pings(k1s) as pings:
            cpu, began = k1s.cpu(), time.monotonic()
            status, body = client.request("GET", target)
            took, cpu = time.monotonic() - began, k1s.cpu() - cpu
        assert status == 200
        print(f"listing    {target}: {len(body) / 1e6:.1f} MB in {took:.2f} s, CPU {cpu:.2f} s; "
              f"others wait {pings}", flush=True)
    print(f"           resident {resident(k1s) / 1e6:.1f} MB", flush=True)


def measure_rest(k1s, seconds):
    with Pings(k1s) as pings:
        time.sleep(1)
    print(f"alone      nothing else goes on; one waits {pings}", flush=True)
    time.sleep(0.5)
    before, cpu = switches(k1s), k1s.cpu()
    calls = "strace is not there"
    if shutil.which("strace"):
        strace = subprocess.Popen(["strace", "-c", "-p", str(k1s.pid)],
                                  stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        strace.send_signal(signal.SIGINT)
        table = strace.communicate()[1]
        rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+\d*\s*(\w+)$", table, re.M)
        calls = ", ".join(f"{name} {number}" for number, name in rows if name != "total") or "no system call"
        if "attach" in table and "ptrace" in table:
            calls = "strace may not attach"
    else:
        time.sleep(seconds)
    print(f"rest       {seconds:.0f} s: {calls}; {switches(k1s) - before} context switches "
          f"(attaching strace is some); CPU {(k1s.cpu() - cpu) * 1000:.0f} ms", flush=True)


def measure_due(k1s, count):
    client = Client(k1s.port)
    due = int(time.time()) + 4 + count // 4000
    at = datetime.datetime.fromtimestamp(due, datetime.timezone.utc)
    spec = json.dumps({"type": "cron", "executable": "/bin/true", "startingDeadlineSeconds": 600,
                       "schedule": f"{at.second} {at.minute} {at.hour} * * *", "labels": {"due": "now"}})
    for number in range(count):
        status, body = client.request("POST", f"/job/due{number}", spec)
        assert status == 200, body
    left = due - time.time()
    assert left > 0.2, f"creation took too long: {left}"
    time.sleep(left - 0.2)
    cpu = k1s.cpu()
    with Pings(k1s) as pings:
        last = f"/job/due{count - 1}?output=false"
        while True:
            job = json.loads(client.request("GET", last)[1])
            if job["results"]:
                break
            assert time.time() < due + 600, "it takes too long"
            time.sleep(0.1)
        time.sleep(0.3)
    cpu = k1s.cpu() - cpu
    jobs = json.loads(client.request("GET", "/?output=false&label=due=now")[1])
    assert len(jobs) == count
    results = [job["results"] for job in jobs]
    codes = {result["exitCode"] for runs in results for result in runs}
    starts = [milliseconds(runs[0]["startedAt"]) - due * 1000 for runs in results if runs]
    missed = sum(job["skippedRuns"]["missed"] for job in jobs)
    disorder = sum(1 for a, b in zip(starts, starts[1:]) if b < a)
    print(f"due        {len(starts)} of {count} ran once ({sum(map(len, results))} results, {missed} missed, exit codes "
          f"{sorted(codes)}), first {min(starts)} ms, last {max(starts)} ms after the second, "
          f"{count / max(1, max(starts)) * 1000:.0f} starts/s; {disorder} out of order; CPU {cpu:.2f} s; "
          f"others wait {pings}", flush=True)


def measure_end(k1s):
    began, cpu = time.monotonic(), k1s.cpu()
    k1s.process.send_signal(signal.SIGTERM)
    code = k1s.process.wait(timeout=60)
    print(f"end        exit code {code} after {time.monotonic() - began:.2f} s", flush=True)


def resident(k1s):
    return k1s.status("VmRSS") * 1024


def switches(k1s):
    return k1s.status("voluntary_ctxt_switches") + k1s.status("nonvoluntary_ctxt_switches")


class Client:
    """One connection that is kept alive."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def request(self, method, target, body=""):
        body = body.encode()
        head = (f"{method} {target} HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode() + body)
        head = self.until(b"\r\n\r\n").decode().lower()
        status = int(head.split(" ", 2)[1])
        length = re.search(r"content-length: (\d+)", head)
        if length:
            return status, self.take(int(length.group(1)))
        parts = []
        while size := int(self.until(b"\r\n"), 16):
            parts.append(self.take(size))
            self.take(2)
        self.take(2)
        return status, b"".join(parts)

    def until(self, end):
        while (at := self.unread.find(end)) < 0:
            self.more()
        found, self.unread = self.unread[:at], self.unread[at + len(end):]
        return found

    def take(self, count):
        parts, size = [self.unread], len(self.unread)
        while size < count:
            part = self.socket.recv(1 << 18)
            if not part:
                raise EOFError
            parts.append(part)
            size += len(part)
        whole = b"".join(parts)
        self.unread = whole[count:]
        return whole[:count]

    def more(self):
        part = self.socket.recv(1 << 18)
        if not part:
            raise EOFError
        self.unread += part


class Pings:
    """What others wait for while something else goes on."""

    def __init__(self, k1s):
        self.client, self.times, self.over = Client(k1s.port), [], threading.Event()
        self.thread = threading.Thread(target=self.go_on)

    def go_on(self):
        while not self.over.wait(0.002):
            before = time.monotonic()
            self.client.request("GET", "/job/j1")
            self.times.append(time.monotonic() - before)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def __str__(self):
        times = sorted(self.times) or [0.0]
        at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000
        return (f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, longest {at(1):.1f} ms "
                f"({len(self.times)} requests)")


def milliseconds(text):
    return round(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


if __name__ == "__main__":
    main()
