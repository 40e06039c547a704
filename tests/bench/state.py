"""What a state directory costs: the start with many jobs, and creations.

usage: tests/bench/state.py BINARY [DIRECTORY]

Prints how long a start with 100,000 jobs and 1,000,000 results takes, its CPU time and its memory;
how long 10,000 creations take without state and with `sync = "os"`; and how many creations a second
16 connections get with `sync = "always"`, beside what the disk can do: fdatasync(2) after writes of
4 KiB. Everything is written below DIRECTORY (default: .), whose disk is what is measured.
Run by hand; the figures belong in a note.
"""
import os, shutil, socket, subprocess, sys, tempfile, threading, time

JOBS = 100_000
CREATIONS = 10_000
CONNECTIONS = 16
TOKEN = "state"
BODY = b'{"type":"cron","executable":"true","schedule":"@yearly"}'


class Server:
    """A k1s, from when it is started until it has ended."""

    def __init__(self, binary, directory, state):
        config = f"{directory}/k1s.toml"
        with open(config, "w") as file:
            file.write(f'[http]\nhost = "127.0.0.1"\nport = 0\nauth_token = "{TOKEN}"\n')
            file.write("[limits]\njobs = 200000\n[output]\nmemory = 4000000000\n")
            file.write(state)
        begun = time.monotonic()
        self.process = subprocess.Popen([binary, "-c", config], cwd=directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        line = self.process.stderr.readline().decode()
        while "http://" not in line:
            if not line:
                raise SystemExit("k1s has ended")
            line = self.process.stderr.readline().decode()
        self.wall = time.monotonic() - begun
        self.port = int(line.split("http://")[1].split()[0].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        lines = open(f"/proc/{self.process.pid}/status").read().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(fields["VmHWM"].split()[0]) // 1024, int(fields["VmRSS"].split()[0]) // 1024

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def request(connection, method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, rest = answer.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(answer.decode())
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(rest) < length:
        rest += connection.recv(65536)


def create(server, count, connections):
    """Creates so many jobs, and returns how long that took."""
    def some(first):
        with server.connect() as connection:
            for number in range(first, count, connections):
                request(connection, "POST", f"/job/j{number}", BODY)
    threads = [threading.Thread(target=some, args=(first,)) for first in range(connections)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begun


def state(directory, sync):
    return f'[state]\ndirectory = "{directory}"\nsync = "{sync}"\n'


def start(binary, below):
    many = f"{below}/many"
    repository = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    subprocess.run(["cargo", "test", "-q", "--locked", "--test", "it", "--", "state::many::"],
        cwd=repository, env=os.environ | {"K1S_MANY": f"{JOBS}:{many}"}, check=True, stdout=subprocess.DEVNULL)
    size = sum(os.path.getsize(f"{many}/{name}") for name in os.listdir(many))
    print(f"start with {JOBS} jobs and {10 * JOBS} results, {size >> 20} MiB:", flush=True)
    for _ in range(3):
        with Server(binary, below, state(many, "os")) as server:
            cpu, (peak, _) = server.cpu(), server.memory()
            with server.connect() as connection:
                request(connection, "GET", "/job/backup-1")
            _, kept = server.memory()
            print(f"  {server.wall:.2f} s, {cpu:.2f} s of CPU; memory: at most {peak} MiB, kept {kept} MiB")


def creations(binary, below):
    took, cpu = {}, {}
    for round in range(5):
        for sync in [None, "os"]:
            directory = f"{below}/os{round}"
            with Server(binary, below, state(directory, sync) if sync else "") as server:
                begun = server.cpu()
                took.setdefault(sync, []).append(create(server, CREATIONS, 1))
                cpu.setdefault(sync, []).append(server.cpu() - begun)
    print(f"{CREATIONS} creations without state and with sync = \"os\", the best of 5:")
    for what, figures in [("s", took), ("s of CPU", cpu)]:
        without, with_state = min(figures[None]), min(figures["os"])
        print(f"  {without:.2f} {what}, {with_state:.2f} {what}: {with_state / without:.2f} times")


def fdatasync_rate(below):
    """How often a second 4 KiB can be appended and made safe."""
    descriptor = os.open(f"{below}/probe", os.O_CREAT | os.O_WRONLY)
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + 2:
        os.write(descriptor, bytes(4096))
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / (time.monotonic() - begun)


def always(binary, below):
    rate = fdatasync_rate(below)
    with Server(binary, below, state(f"{below}/always", "always")) as server:
        took = create(server, CREATIONS, CONNECTIONS)
    print(f"sync = \"always\": {CREATIONS / took:.0f} creations a second from {CONNECTIONS} connections; the disk: {rate:.0f} fdatasync a second, {1000 / rate:.2f} ms each")


def main():
    binary = os.path.realpath(sys.argv[1])
    below = tempfile.mkdtemp(prefix="state-", dir=sys.argv[2] if len(sys.argv) > 2 else ".")
    below = os.path.realpath(below)
    try:
        start(binary, below)
        creations(binary, below)
        always(binary, below)
    finally:
        shutil.rmtree(below)


main()
