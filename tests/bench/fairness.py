"""How long `GET /healthz` takes while others are greedy: one client that pipelines as fast as it
can, one job that writes as fast as it can, and 1,000 idle connections.

usage: tests/bench/fairness.py BINARY [SECONDS]

k1s has one core and this script, its pipelining client and the job another, so that what is
measured is the share that k1s gives and not the share of a core. Prints percentiles at rest, under
each load alone, and under all of them; the goal is a p99 of at most 5 times that with 1,000 idle
connections alone. Run by hand; the figures belong in a note, not in a test.
"""
import os, socket, subprocess, sys

from k1s import TOKEN, K1s, latencies, report

AUTH = f"Authorization: Bearer {TOKEN}\r\n"
PIPELINER = r'''
import socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = (sys.argv[2] + " HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer " + sys.argv[3] + "\r\n\r\n").encode() * 500
def read():
    buffer = bytearray(1 << 20)
    while s.recv_into(buffer): pass
threading.Thread(target=read, daemon=True).start()
while True: s.sendall(request)
'''


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
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5
    os.sched_setaffinity(0, {1})
    k1s = K1s(sys.argv[1], {"max_connections": 1100}, command=["taskset", "-c", "0"])
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
        k1s.__exit__()


main()
