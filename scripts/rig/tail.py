"""The row "tail": how long a Ping waits on the core of a shard that does something big for another client.

A Ping is due every millisecond, on a connection that waits for no other, and its time counts from when it was due: a
shard that stands still for 300 ms makes 300 Pings late, not one. Pings come from core 1 before everything else there; the
server has core 0. So has a second server that has nothing to do but Pings: what makes those wait is the machine, and not
the shard.

  a  an upload is received and cancelled, again and again
  b  many sessions expire at once
  c  a big file is replaced, again and again
  d  another client uploads small files, each synced
  e  the journal of many sessions is renewed

The disks are ext4 with a journal in an image, without and with `discard`, and the disk of the images as it is.
"""

import gc
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from rig.places import FREE_BYTES_MIN, Folder, Image
from rig.subjects import PATIENCE_S, Bitsd, CannotRun

LOAD_CORE = 1
IMAGE_BYTES = 8 << 30
FRAGMENT_BYTES = 32 << 20
PIECE_BYTES = 128 << 10
PING_S = 0.001
# Who ping, each with a connection. One alone would ask late what is due while it waits: at an answer each 3 ms, where
# none takes longer, its hundredth is 200 ms late.
PINGERS = 64
# One client has them all.
MANY = "sessions_per_client_max = 200000\n"
# Requests that are under way on one connection.
WINDOW = 64


class Size:
    """How much of everything."""

    def __init__(self, quick):
        self.cancelled_bytes = (1 if quick else 2) << 30
        self.replaced_bytes = 1 << 30
        self.rounds = 3 if quick else 6
        self.expiring = 4_000 if quick else 20_000
        self.expire_s = 12 if quick else 25
        self.small_files = 500 if quick else 3_000
        self.sessions = 20_000 if quick else 100_000


# -- disks


DISKS = {
    "ext4": lambda folder: Image(folder, "ext4", size=IMAGE_BYTES),
    "ext4, discard": lambda folder: Image(folder, "discard", options=["discard"], size=IMAGE_BYTES),
    "as it is": Folder,
}


# -- the server


class TailServer(Bitsd):
    """A server of one version with settings of one scenario."""

    def __init__(self, program, settings, is_first):
        self.program, self.settings, self.is_first = program, settings, is_first
        self.process = self.words = self.port = None
        # Its shard keeps to core 0 by itself; its helpers may go where it lets them.
        self.cores = None

    def command(self, folder):
        settings = folder / "bitsd.toml"
        settings.write_text(self.settings + "\n")
        root = folder / "root"
        root.mkdir()
        first = ["nice", "-n", "-20"] if self.is_first else []
        return first + [str(self.program), "serve", "--config", str(settings), "--root", str(root), "--listen", "127.0.0.1:0",
                "--cores", "1", "--log-level", "info"]

    def stalls(self):
        """The longest turn that the shard has told of: milliseconds, and what took them."""
        self.words.seek(0)
        lines = self.words.read().decode(errors="replace").splitlines()
        told = [(int(found.group(1)), line) for line in lines if "shard_stalled" in line
                for found in [re.search(r"\bms=(\d+)", line)] if found]
        if not told:
            return 0, ""
        ms, line = max(told)
        what = re.search(r'what="?([^"]*)', line)
        return ms, what.group(1) if what else ""


# -- a client


class Client:
    """One connection, with any number of requests under way."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox = b""

    def send(self, kind, path, fields="", body=b""):
        head = (f"BITS_POST {path} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: {kind}\r\n{fields}"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode())
        # In pieces: one long call would keep the pings from their core.
        for at in range(0, len(body), PIECE_BYTES):
            self.socket.sendall(body[at:at + PIECE_BYTES])

    def receive(self):
        while b"\r\n\r\n" not in self.inbox:
            more = self.socket.recv(1 << 16)
            if not more:
                raise CannotRun("the server ended the connection")
            self.inbox += more
        head, _, self.inbox = self.inbox.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        left = int(length.group(1)) if length else 0
        while len(self.inbox) < left:
            self.inbox += self.socket.recv(1 << 16)
        self.inbox = self.inbox[left:]
        if not head.startswith(b"HTTP/1.1 200"):
            raise CannotRun(f"the server refused: {head.decode(errors='replace')[:300]}")
        return head

    def ask(self, *words, **more):
        self.send(*words, **more)
        return self.receive()

    def create(self, path):
        return session_of(self.ask("Create-Session", path, SUPPORTED))

    def all(self, requests):
        """Answers to many requests, in order."""
        answers = []
        for at in range(0, len(requests), WINDOW):
            window = requests[at:at + WINDOW]
            for request in window:
                self.send(*request)
            answers += [self.receive() for _ in window]
        return answers

    def upload(self, path, session, size):
        zeros = memoryview(bytes(FRAGMENT_BYTES))
        for start in range(0, size, FRAGMENT_BYTES):
            end = min(start + FRAGMENT_BYTES, size)
            fields = f"BITS-Session-Id: {session}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n"
            self.ask("Fragment", path, fields, zeros[:end - start])


SUPPORTED = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n"


def session_of(head):
    return re.search(rb"(?i)bits-session-id: *(\S+)", head).group(1).decode()


def named(session):
    return f"BITS-Session-Id: {session}\r\n"


# -- the pings, in a process of their own


class Pings:
    """Pings from now until `stop`."""

    def __init__(self, port):
        command = [sys.executable, "-m", "rig.tail", str(port)]
        scripts = pathlib.Path(__file__).resolve().parent.parent
        self.process = subprocess.Popen(command, cwd=scripts, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # It says when it has begun.
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0] or not self.process.stdout.readline():
            raise CannotRun("nobody pings")

    def stop(self):
        words, _ = self.process.communicate(timeout=PATIENCE_S + 30)
        if self.process.returncode:
            raise CannotRun("a ping failed")
        return json.loads(words)


class Beside:
    """Pings of a server and of the idle one beside it."""

    def __init__(self, server):
        self.both = [Pings(server.port), Pings(server.idle.port)]

    def stop(self):
        figures, idle = (pings.stop() for pings in self.both)
        return figures | {"idle_" + key: value for key, value in idle.items()}


def ping(port):
    """Until stdin ends."""
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass
    gc.disable()
    free = [Client(port) for _ in range(PINGERS)]
    request = b"BITS_POST /ping HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
    for client in free:
        client.ask("Ping", "/ping")
    print("pinging", flush=True)
    took, busy, due, now, done = [], {}, time.perf_counter(), time.perf_counter, False
    while not done or busy:
        wait = max(0, due - now()) if free and not done else PATIENCE_S
        readable = select.select([*busy, *([] if done else [sys.stdin])], [], [], wait)[0]
        for source in readable:
            if source is sys.stdin:
                done = True
                continue
            client, was_due = busy.pop(source)
            client.receive()
            took.append(now() - was_due)
            free.append(client)
        while free and not done and due <= now():
            client = free.pop()
            client.socket.sendall(request)
            busy[client.socket] = client, due
            due += PING_S
        if not readable and wait == PATIENCE_S:
            raise CannotRun("a ping was not answered")
    took.sort()
    quantile = lambda share: 1000 * took[min(len(took) - 1, int(len(took) * share))]
    figures = {"pings": len(took), "p50_ms": quantile(0.5), "p999_ms": quantile(0.999), "longest_ms": 1000 * took[-1]}
    print(json.dumps(figures))


# -- the scenarios: each gives what the pings saw


def cancelled(server, size, tools):
    client, pings = Client(server.port), Beside(server)
    for number in range(size.rounds):
        session = client.create(f"/{number}.bin")
        client.upload(f"/{number}.bin", session, size.cancelled_bytes)
        client.ask("Cancel-Session", f"/{number}.bin", named(session))
    time.sleep(1)
    return pings.stop()


def expired(server, size, tools):
    began = time.monotonic()
    client = Client(server.port)
    many_sessions(client, size.expiring, 1_000)
    parts = lambda: sum(name.endswith(".part") for name in os.listdir(server.root / ".bitsd"))
    if parts() < size.expiring:
        raise CannotRun("some expired too early")
    left = began + size.expire_s - 3 - time.monotonic()
    if left < 0:
        raise CannotRun("it took too long to make the sessions")
    time.sleep(left)
    pings = Beside(server)
    deadline = time.monotonic() + 60
    while parts() and time.monotonic() < deadline:
        time.sleep(0.25)
    time.sleep(1)
    return pings.stop()


def replaced(server, size, tools):
    client = Client(server.port)
    pings = None
    for number in range(size.rounds + 1):
        session = client.create("/big.bin")
        client.upload("/big.bin", session, size.replaced_bytes)
        client.ask("Close-Session", "/big.bin", named(session))
        # From the second on there is something to replace.
        pings = pings or Beside(server)
    time.sleep(1)
    return pings.stop()


def synced(server, size, tools):
    pings = Beside(server)
    command = ["taskset", "-c", str(LOAD_CORE), str(tools.bitsd), "bench", "--json", "--keep", "--connections", "8", "--files",
               str(size.small_files), "--file-bytes", "65536", "--fragment-bytes", "65536", f"http://127.0.0.1:{server.port}/"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    if done.returncode:
        raise CannotRun(f"the load failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return pings.stop()


def renewed(server, size, tools):
    client = Client(server.port)
    sessions = many_sessions(client, size.sessions, 0)
    journal = lambda: sorted(name for name in os.listdir(server.root / ".bitsd") if name.endswith(".journal"))
    before = journal()
    pings = Beside(server)
    seen = threading.Event()

    def watch():
        while not seen.is_set():
            # Two while the new one is written, then the new one alone.
            names = journal()
            if names != before and len(names) == 1:
                seen.set()
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    first = [("Fragment", path, named(session) + "Content-Range: bytes 0-0/2\r\n", b"x") for path, session in sessions]
    cancels = [("Cancel-Session", path, named(session)) for path, session in sessions]
    for requests in (first, cancels):
        for at in range(0, len(requests), 1_000):
            if not seen.is_set():
                client.all(requests[at:at + 1_000])
    time.sleep(0.5)
    figures = pings.stop()
    if not seen.is_set():
        raise CannotRun("the journal was not renewed")
    return figures


def many_sessions(client, count, body_bytes):
    """Sessions, each with its path; with the first bytes of their files."""
    paths = [f"/{number}.bin" for number in range(count)]
    created = client.all([("Create-Session", path, SUPPORTED) for path in paths])
    sessions = list(zip(paths, map(session_of, created)))
    if body_bytes:
        content = f"Content-Range: bytes 0-{body_bytes - 1}/{2 * body_bytes}\r\n"
        body = bytes(body_bytes)
        client.all([("Fragment", path, named(session) + content, body) for path, session in sessions])
    return sessions


def scenarios(size):
    """Name, what it is, settings, load."""
    return [
        ("a", f"{size.cancelled_bytes >> 30} GiB cancelled", "", cancelled),
        ("b", f"{size.expiring} sessions expire",
         MANY + f'session_timeout = "5s"\nempty_session_timeout = "5s"\ncleanup_interval = "{size.expire_s}s"', expired),
        ("c", f"{size.replaced_bytes >> 30} GiB replaced", "allow_overwrite = true", replaced),
        ("d", "small files synced", "", synced),
        ("e", f"journal of {size.sessions} renewed", MANY, renewed),
    ]


# -- all of it


def run_all(tools, against, folder, rounds, quick, only, is_first):
    """Every scenario on every disk with every version in turn; gives the table as lines, figures, and why some are missing.
    With `is_first` the server comes before everything else on its core: for a machine that has other work."""
    programs = {"bitsd": tools.bitsd} | ({"before": against} if against else {})
    size, figures, refusals = Size(quick), {}, []
    folder.mkdir(parents=True)
    if shutil.disk_usage(folder).free < FREE_BYTES_MIN:
        return [], {}, [f"tail: less than {FREE_BYTES_MIN >> 30} GiB are free in {folder}"]
    for disk, make in DISKS.items():
        for turn in range(rounds):
            for letter, what, settings, load in scenarios(size):
                if only and letter not in only:
                    continue
                for name, program in list(programs.items())[:: 1 if turn % 2 == 0 else -1]:
                    try:
                        server = TailServer(program, settings, is_first)
                        seen = run_one(tools, make, folder / "disk", server, load, size)
                        figures.setdefault((disk, letter, what, name), []).append(seen)
                        print(f"tail {disk} {letter} {name} {turn + 1}/{rounds}: p99.9 {seen['p999_ms']:.1f} ms, longest "
                              f"{seen['longest_ms']:.1f} ms; idle {seen['idle_longest_ms']:.1f} ms; {seen['stalled']}",
                              file=sys.stderr)
                    except (CannotRun, OSError, subprocess.TimeoutExpired) as error:
                        refusals.append(f"tail {disk} {letter} {name}: {error}")
                        print(refusals[-1], file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return table(figures), {" ".join((disk, letter, name)): runs for (disk, letter, _, name), runs in figures.items()}, refusals


def run_one(tools, make, folder, server, load, size):
    folder.mkdir(parents=True)
    disk = make(folder)
    server.idle = TailServer(server.program, "", server.is_first)
    try:
        (folder / "idle").mkdir()
        server.idle.start(folder / "idle")
        place = disk.path / "served"
        place.mkdir()
        server.start(place)
        server.root = place / "root"
        try:
            figures = load(server, size, tools)
            figures["stalled"] = server.stalls()
        finally:
            server.stop()
        return figures
    finally:
        if server.idle.process:
            server.idle.stop()
        disk.close()
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()


def spread(runs, key):
    """The median, and the least and the most."""
    values = [run[key] for run in runs]
    return f"{statistics.median(values):.1f} [{min(values):.1f}..{max(values):.1f}]"


def table(figures):
    lines = [
        "| Disk | Beside | Version | p50 ms | p99.9 ms | longest ms | idle: p99.9 ms | longest ms | longest turn told |",
        "| --- | --- | --- | --: | --: | --: | --: | --: | --- |",
    ]
    for (disk, letter, what, name), runs in sorted(figures.items(), key=lambda item: (list(DISKS).index(item[0][0]), item[0][1], item[0][3])):
        columns = [spread(runs, key) for key in ("p50_ms", "p999_ms", "longest_ms", "idle_p999_ms", "idle_longest_ms")]
        ms, told = max(run["stalled"] for run in runs)
        told = f"{ms} ms: {told}" if ms else ""
        lines.append(f"| {disk} | {letter}: {what} | {name} | " + " | ".join(columns) + f" | {told} |")
    return lines


if __name__ == "__main__":
    ping(int(sys.argv[1]))
