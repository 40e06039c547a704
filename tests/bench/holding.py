"""How long the loop is held: the longest `GET /healthz` beside what may hold it.

usage: tests/bench/holding.py BINARY [CASE…]

Cases: ends (runs that end with full pipes), lease (an executable that another process holds a lease on),
zone (a FIFO where a zone's file is looked for), readers (a large job that many read slowly), reload
(10,000 jobs that come, change and go), dependencies (10,000 jobs that run by themselves, one after
the other, and all after one), shutdown (of 10,000 jobs). The goal is 20 ms each. Where it is permitted, k1s and whoever asks come before whatever else the
machine does (SCHED_FIFO), so that what is measured is what k1s does. Run by hand; the figures
belong in a note, not in a test. Linux takes 50 ms a second from SCHED_FIFO
(sched_rt_runtime_us), which shows where k1s is busy for longer than 0.95 s.
"""
import fcntl, os, signal, socket, subprocess, sys, tempfile, threading, time

from k1s import TOKEN, Asker, K1s, prefer

FULL_PIPE = """
import fcntl, os, sys, time
size = int(sys.argv[1])
if size > 65536: fcntl.fcntl(1, 1031, size)  # F_SETPIPE_SZ
os.set_blocking(1, False)
with open(sys.argv[2] + ".up", "w"): pass
while not os.path.exists(sys.argv[2]): time.sleep(0.002)
try:
    while True: os.write(1, b"\\n" * 65536)
except BlockingIOError: pass
os._exit(0)
"""


def start(binary, config="", **environment):
    k1s = K1s(binary, {"max_connections": 1100}, config, **environment)
    prefer(k1s.pid)
    return k1s


def report(what, asker, more=""):
    longest, count = asker.longest()
    print(f"{what:44} longest {longest:8.1f} ms of {count:>6} {more}", flush=True)


def ends(binary):
    for mode in ("prefix", "json", "raw", "none"):
        for count, size in ((40, 1 << 20), (60, 1 << 16)):
            with start(binary, f'[output]\nforward = "{mode}"\n') as k1s:
                go = f"{k1s.directory}/go"
                for i in range(count):
                    # What it writes is written at once, and its pipe may be full before k1s reads.
                    script = "import sys; " + FULL_PIPE.replace("sys.argv[2] + \".up\"", f"sys.argv[2] + '.up{i}'")
                    k1s.ask("POST", f"/job/j{i}", {"type": "one-off", "executable": sys.executable,
                        "arguments": ["-c", script, str(size), go], "output": {"limitBytes": 1024}})
                while sum(name.startswith("go.up") for name in os.listdir(k1s.directory)) < count:
                    time.sleep(0.01)
                asker = Asker(k1s.port)
                # All have ended before k1s reads anything.
                os.kill(k1s.pid, signal.SIGSTOP)
                open(go, "w").close()
                time.sleep(1)
                asker.begin(k1s.pid)
                while any(job["state"] != "succeeded" for job in k1s.ask("GET", "/?output=false")):
                    time.sleep(0.02)
                report(f"{count} ends with {size >> 10} KiB of newlines, {mode}", asker)


def lease(binary):
    with start(binary) as k1s:
        program = f"{k1s.directory}/program"
        subprocess.run(["cp", "/bin/true", program], check=True)
        with open(program, "r") as file:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            fcntl.fcntl(file, 1024, fcntl.F_WRLCK)  # F_SETLEASE
            asker = Asker(k1s.port).begin()
            threading.Thread(target=k1s.ask, args=("POST", "/job/x", {"type": "one-off", "executable": program}, k1s.connect())).start()
            time.sleep(3)
            fcntl.fcntl(file, 1024, fcntl.F_UNLCK)
        report("a lease, held for 3 s", asker, f"state {k1s.ask('GET', '/job/x')['state']}")


def zone(binary):
    zones = tempfile.mkdtemp()
    os.mkdir(f"{zones}/Europe")
    os.mkfifo(f"{zones}/Europe/Berlin")
    with start(binary, TZDIR=zones) as k1s:
        asker = Asker(k1s.port).begin()
        create = threading.Thread(target=k1s.ask, args=("POST", "/job/x",
            {"type": "cron", "executable": "true", "schedule": "@daily", "timeZone": "Europe/Berlin"}, k1s.connect()))
        create.start()
        time.sleep(1)
        try:
            os.close(os.open(f"{zones}/Europe/Berlin", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
        create.join()
        report("a FIFO for 1 s in place of a zone", asker)


def readers(binary):
    with start(binary) as k1s:
        k1s.ask("POST", "/job/x", {"type": "one-off", "executable": "true", "arguments": ["x" * 1000] * 1000})
        request = f"GET /job/x HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        sockets = []
        for _ in range(900):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", k1s.port))
            sockets.append(s)
        asker = Asker(k1s.port).begin()
        for s in sockets:
            s.sendall(request)
        time.sleep(3)
        for s in sockets:
            s.recv(65536)
        report("900 slow readers of 1 MB of arguments", asker, f"{k1s.status('VmRSS') >> 10} MiB resident")


def reload(binary, count=10_000):
    """Of as many jobs in ten files, which come, change, go, and are stopped together."""
    k1s = start(binary, '[limits]\njobs = 20000\n[log]\nlevel = "error"\n')
    with k1s:
        main = open(f"{k1s.directory}/k1s.toml").read()

        def step(what, jobs):
            for number in range(10):
                with open(f"{k1s.directory}/part{number}.toml", "w") as file:
                    file.write(jobs(number))
            with open(f"{k1s.directory}/k1s.toml", "w") as file:
                file.write('include = ["part*.toml"]\n' + main)
            asker = Asker(k1s.port).begin()
            said = k1s.ask("POST", "/reload")
            time.sleep(0.5)
            counts = {name: len(ids) if isinstance(ids, list) else ids for name, ids in said.items()}
            report(what, asker, f"{counts}")

        part = lambda number, argument: "".join(
            f'[job.x{number}-{job}]\ntype = "continuous"\nexecutable = "sleep"\nautostart = false\n'
            f'arguments = ["1000", "{argument}"]\n' for job in range(count // 10))
        step(f"{count} jobs are added", lambda number: part(number, "1"))
        step("nothing has changed", lambda number: part(number, "1"))
        step("all are replaced", lambda number: part(number, "2"))
        step("all are removed", lambda number: "")
        step("and added, to start", lambda number: part(number, "3").replace("autostart = false\n", "").replace("sleep", "true")
             .replace("continuous", "one-off"))
        step("and removed while they start", lambda number: "")


def dependencies(binary, count=10_000):
    """What waiting for others costs, beside as many jobs that wait for nobody."""
    for what, before in (("by themselves", lambda number: None), ("in a chain", lambda number: number - 1),
                         ("in a star", lambda number: 0)):
        with start(binary, '[limits]\njobs = 20000\n[log]\nlevel = "error"\n') as k1s:
            # The first begins when all are there.
            for number in range(count):
                spec = {"type": "one-off", "executable": "true", "output": {"limitBytes": 0}}
                first = before(number) if number else None
                spec |= {"autostart": False} if number == 0 or first is None else {"dependsOn": {f"x{first}": "succeeded"}}
                k1s.ask("POST", f"/job/x{number}", spec)
            asker, began, cpu = Asker(k1s.port).begin(), time.monotonic(), k1s.cpu()
            k1s.ask("PUT", "/jobs/start?all=true") if what == "by themselves" else k1s.ask("PUT", "/job/x0/start")
            # The count of all takes k1s some milliseconds.
            while k1s.ask("GET", f"/job/x{count - 1}")["state"] != "succeeded":
                time.sleep(0.1)
            while k1s.metric('k1s_jobs{state="succeeded"}') < count:
                time.sleep(0.5)
            took, cpu = time.monotonic() - began, k1s.cpu() - cpu
            report(f"{count} jobs {what}", asker, f"{took:.1f} s, CPU of k1s {cpu:.1f} s")


def shutdown(binary, count=10_000):
    for what, job in (("idle", {"autostart": False}), ("that run", {})):
        k1s = start(binary, '[limits]\njobs = 20000\n[log]\nlevel = "error"\n')
        spec = {"type": "one-off", "executable": "sleep", "arguments": ["1000"], "output": {"limitBytes": 0}, **job}
        most = count if what == "idle" else 3000
        for number in range(most):
            k1s.ask("POST", f"/job/x{number}", spec)
        k1s.running(0 if what == "idle" else most)
        asker = Asker(k1s.port).begin()
        with k1s:
            time.sleep(0.2)
        report(f"a shutdown with {most} jobs {what}", asker)


CASES = {case.__name__: case for case in (ends, lease, zone, readers, reload, dependencies, shutdown)}


def main():
    binary = os.path.realpath(sys.argv[1])
    for name in sys.argv[2:] or CASES:
        CASES[name](binary)


main()
