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
import os, subprocess, sys, time

from k1s import TOKEN, K1s, latencies, prefer, report

SCRAPER = r'''
import http.client, sys, time
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


def turns(k1s):
    name = "k1s_loop_turn_duration_seconds_bucket"
    lines = [line for line in k1s.ask("GET", "/metrics").splitlines() if line.startswith(name)]
    return {line.split('"')[1]: int(line.split()[-1]) for line in lines}


def fill(k1s, jobs, runs, processes):
    spec = {"type": "continuous", "executable": "echo", "arguments": ["x" * 50],
        "restart": {"initialDelayMs": 0, "maxDelayMs": 0, "maxRestarts": runs - 1}}
    began = time.monotonic()
    # A few at a time: as many processes at once as there are jobs would take longer.
    for i in range(jobs):
        k1s.ask("POST", f"/job/j{i}", spec)
        while i % 100 == 99 and i - k1s.metric('k1s_jobs{state="failed"}') > 300:
            time.sleep(0.05)
    while k1s.metric('k1s_jobs{state="failed"}') < jobs:
        time.sleep(0.2)
    print(f"{jobs} jobs, {jobs * runs} runs in {time.monotonic() - began:.0f} s", flush=True)
    for i in range(processes):
        k1s.ask("POST", f"/job/p{i}", {"type": "continuous", "executable": "sleep", "arguments": ["100000"]})
    k1s.running(processes)


def main():
    jobs, runs, processes, seconds = (int(x) for x in (sys.argv[2:] + ["10000", "20", "1000", "10"][len(sys.argv) - 2:]))
    k1s = K1s(sys.argv[1], config='[log]\nlevel = "error"\n[output]\nforward = "none"\n')
    scrapers = []
    try:
        fill(k1s, jobs, runs, processes)
        os.sched_setaffinity(k1s.pid, {0})
        os.sched_setaffinity(0, {1})
        prefer(k1s.pid, 1)
        latencies(k1s.port, 0.5)
        def measure(what, base=None):
            before = turns(k1s)
            p99 = report(what, latencies(k1s.port, seconds), base)
            after = turns(k1s)
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
        k1s.ask("GET", "/metrics")
        print(f"one alone: {time.monotonic() - alone:.2f} s; {k1s.status('VmRSS') >> 10} MiB resident; longest turn {k1s.metric('k1s_loop_longest_turn_seconds') * 1000:.1f} ms")
    finally:
        for scraper in scrapers:
            scraper.kill()
            scraper.wait()
        k1s.__exit__()


main()
