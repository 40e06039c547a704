"""How long a mass stop takes, and how long `GET /healthz` does meanwhile.

usage: tests/bench/stops.py BINARY [COUNT…]

For each COUNT (1,000, 2,000, 4,000, 8,000): that many jobs of `sleep`, then SIGTERM; the seconds
until k1s has ended and the longest answer until then. Then 1,500 that ignore SIGTERM, with a
shutdown of 9 s; then a kill beside 8,000 processes that are not k1s's, and 200 DELETEs among 2,000
jobs. Run by hand; the figures belong in a note, not in a test.
"""
import os, signal, subprocess, sys, time

from k1s import Asker, K1s



def start(binary, count, executable, arguments):
    """A k1s with so many jobs, which all run."""
    k1s = K1s(binary, config='[limits]\njobs = 20000\n[log]\nlevel = "error"\n')
    spec = {"type": "one-off", "executable": executable, "arguments": arguments, "output": {"limitBytes": 0}}
    for number in range(count):
        k1s.ask("POST", f"/job/x{number}", spec)
    k1s.running(count)
    return k1s


def mass_stop(binary, count, executable, arguments, what):
    k1s = start(binary, count, executable, arguments)
    time.sleep(1)
    asker = Asker(k1s.port).begin()
    began = time.monotonic()
    k1s.process.send_signal(signal.SIGTERM)
    k1s.process.wait()
    taken = time.monotonic() - began
    print(f"{count:6} {what:28} {taken:7.2f} s  longest /healthz {asker.longest()[0]:6.0f} ms", flush=True)


def stranger_processes(count):
    script = f"import os,time\nfor _ in range({count}):\n if os.fork()==0: time.sleep(1000); os._exit(0)\nprint(flush=True)\ntime.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def single_stops(binary):
    strangers = stranger_processes(8000)
    k1s = start(binary, 1, "sleep", ["1000"])
    asker = Asker(k1s.port).begin()
    began = time.monotonic()
    k1s.ask("PUT", "/job/x0/kill")
    while k1s.ask("GET", "/job/x0")["state"] != "killed":
        pass
    print(f"a kill beside 8,000 strangers: {(time.monotonic() - began) * 1000:.1f} ms, longest /healthz {asker.longest()[0]:.0f} ms", flush=True)
    os.killpg(strangers.pid, signal.SIGKILL)
    strangers.wait()
    k1s.__exit__()
    k1s = start(binary, 2000, "sleep", ["1000"])
    asker = Asker(k1s.port).begin()
    began = time.monotonic()
    for number in range(200):
        k1s.ask("DELETE", f"/job/x{number}")
    print(f"200 DELETEs among 2,000: {(time.monotonic() - began) * 5:.2f} ms each, longest /healthz {asker.longest()[0]:.0f} ms", flush=True)
    k1s.__exit__()


binary = sys.argv[1]
for count in [int(count) for count in sys.argv[2:]] or [1000, 2000, 4000, 8000]:
    mass_stop(binary, count, "sleep", ["1000"], "sleep")
mass_stop(binary, 1500, "sh", ["-c", "trap '' TERM; while :; do sleep 1000; done"], "that ignore SIGTERM")
single_stops(binary)
