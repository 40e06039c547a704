"""Whether memory stays flat: connections that are opened and dropped at random points of a
request, and random bytes for some minutes.

usage: tests/bench/memory.py BINARY [CONNECTIONS] [SECONDS]

Prints resident memory at the start, as it goes, and at the end, and the descriptors that are left.
Run by hand; the figures belong in a note.
"""
import os, random, socket, struct, sys, time

from k1s import TOKEN, K1s

RESET = struct.pack("ii", 1, 0)
POST = b'{"type":"one-off","executable":"/bin/true","labels":{"a":"b"}}'


def request(rng):
    auth = f"Authorization: Bearer {TOKEN}\r\n".encode()
    return rng.choice([
        b"GET / HTTP/1.1\r\nHost: k1s\r\n" + auth + b"\r\n",
        b"GET /openapi.json HTTP/1.1\r\nHost: k1s\r\n" + auth + b"\r\n",
        b"GET /job/x HTTP/1.1\r\nHost: k1s\r\n\r\n",
        b"POST /job/x?wait=5 HTTP/1.1\r\nHost: k1s\r\n" + auth + b"Content-Length: %d\r\n\r\n" % len(POST) + POST,
        b"DELETE /job/x HTTP/1.1\r\nHost: k1s\r\n" + auth + b"\r\n",
        b"POST /job/y HTTP/1.1\r\nHost: k1s\r\n" + auth + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n",
        b"POST /job/y HTTP/1.1\r\nHost: k1s\r\nContent-Length: 900000\r\n\r\n" + b"x" * 9000,
    ])


def drop_at_random(port, rng, count):
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port))
        held.append(s)
        data = request(rng) * rng.choice([1, 1, 3])
        try:
            s.sendall(data[:rng.randrange(len(data) + 1)])
            if rng.random() < 0.3:
                s.settimeout(0.001)
                s.recv(rng.randrange(1, 5000))
        except OSError:
            pass
        while len(held) > rng.randrange(1, 300):
            s = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.3:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            s.close()
    for s in held:
        s.close()


def random_bytes(port, rng, seconds):
    end = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < end:
        s = socket.create_connection(("127.0.0.1", port))
        kind = rng.random()
        try:
            if kind < 0.3:
                s.sendall(b"GET / HTTP/1.1\r\nHost: k1s\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\nX: ")
            elif kind < 0.6:
                s.sendall(request(rng))
            for _ in range(rng.randrange(1, 40)):
                data = rng.randbytes(rng.randrange(1, 40_000))
                if rng.random() < 0.5:
                    data = bytes(32 + b % 95 for b in data[:4000]) + b"\r\n"
                s.sendall(data)
                sent += len(data)
        except OSError:
            pass
        s.close()
    return sent


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 600
    rng = random.Random(1)
    k1s = K1s(sys.argv[1])
    port, fds = k1s.port, lambda: len(os.listdir(f"/proc/{k1s.pid}/fd"))
    show = lambda what: print(f"{what:44} RSS {k1s.status('VmRSS')} KiB, at most {k1s.status('VmHWM')} KiB; {fds()} descriptors", flush=True)
    try:
        show("at the start")
        for part in range(5):
            drop_at_random(port, rng, count // 5)
            show(f"after {count // 5 * (part + 1)} dropped connections")
        for part in range(5):
            sent = random_bytes(port, rng, seconds / 5)
            show(f"after {seconds / 5 * (part + 1):.0f} s of random bytes (+{sent >> 20} MiB)")
        time.sleep(6)
        show("at the end")
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: k1s\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        k1s.__exit__()


main()
