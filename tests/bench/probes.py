"""What probes cost: the CPU time of k1s, and how long `GET /healthz` takes meanwhile.

usage: tests/bench/probes.py BINARY [JOBS] [PERIOD] [SECONDS] [KIND]

JOBS (1,000) continuous jobs that sleep, each with a probe of this KIND (tcp, http or exec) every
PERIOD (10) seconds, of one server that accepts and answers. Prints percentiles and the CPU time for
SECONDS (60) of as many jobs without probes, and then with them: the attempts are spread over the
period. k1s has one core; this script and the server have another. Where it is permitted, k1s and
the script run before everything else on their cores (SCHED_FIFO). Run by hand; the figures belong
in a note, not in a test.
"""
import os, subprocess, sys, time

from k1s import K1s, latencies, prefer
from k1s import report as report_latencies

SERVER = r'''
import selectors, socket
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


def report(what, k1s, seconds):
    """Half of the time with nobody else, for the CPU, and half with /healthz."""
    began, cpu = time.monotonic(), k1s.cpu()
    time.sleep(seconds)
    cpu = (k1s.cpu() - cpu) * 60 / (time.monotonic() - began)
    report_latencies(f"{what}, CPU {cpu:.2f} s a minute", latencies(k1s.port, seconds, 0.01))


def main():
    jobs, period, seconds, kind = (sys.argv[2:] + ["1000", "10", "60", "tcp"][len(sys.argv) - 2:])
    jobs, period, seconds = int(jobs), float(period), float(seconds)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    address = f"127.0.0.1:{int(server.stdout.readline())}"
    check = {"tcp": {"address": address}, "http": {"url": f"http://{address}/"}, "exec": ["true"]}[kind]
    probe = {kind: check, "periodSeconds": period, "timeoutSeconds": 5}
    spec = {"type": "continuous", "executable": "sleep", "arguments": ["100000"]}
    k1s = K1s(sys.argv[1], config='[log]\nlevel = "error"\n[output]\nforward = "none"\n')
    try:
        os.sched_setaffinity(k1s.pid, {0})
        os.sched_setaffinity(server.pid, {1})
        os.sched_setaffinity(0, {1})
        prefer(k1s.pid, 1)
        prefer(server.pid, 1)
        for number in range(jobs):
            k1s.ask("POST", f"/job/x{number}", spec)
        k1s.running(jobs)
        report(f"{jobs} jobs", k1s, seconds)
        for number in range(jobs):
            k1s.ask("PATCH", f"/job/x{number}", {"readiness": probe})
        began = time.monotonic()
        while k1s.metric("k1s_job_ready{") < jobs:
            time.sleep(0.2)
        print(f"all ready after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(period)
        report(f"{kind} every {period:g} s", k1s, seconds)
        print(f"ready at the end: {k1s.metric('k1s_job_ready{'):g}")
    finally:
        server.kill()
        k1s.__exit__()


main()
