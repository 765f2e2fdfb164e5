"""What is measured: bitsd, the floor, nginx and the echo, each started for one run and ended by its pid."""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

PATIENCE_S = 20
SERVER_CORE = "0"
LOAD_CORE = "1"
BOTH_CORES = "0,1"


class CannotRun(Exception):
    """Says in one sentence why a comparison is missing."""


class Subject:
    """A server on a folder. `mode` is the flag that `bitsd bench` needs for it."""

    mode = []
    scheme = "http"
    cores = SERVER_CORE

    def __init__(self, tools):
        self.tools = tools
        self.process = None
        self.words = None
        self.port = None

    def start(self, folder):
        """Starts it on an empty folder and waits until it listens."""
        self.port = None
        command = (["taskset", "-c", self.cores] if self.cores else []) + self.command(folder)
        # A file: a pipe that nobody reads would stop a server that has much to say.
        self.words = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.words
        )
        self.port = self.await_port()

    def command(self, folder):
        raise NotImplementedError

    def await_port(self):
        """Reads the port from the first line of stdout."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline().decode() if ready else ""
        port = re.search(r"(\d+)\s*$", line)
        if not port:
            raise CannotRun(f"{type(self).__name__} did not start: {self.stop_and_hear()}")
        return int(port.group(1))

    def pids(self):
        """The process and its children."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid] + [int(child) for child in children]

    def tells(self):
        """Figures that it has of itself, asked for before it ends."""
        return {}

    def stop(self):
        """Ends it; returns the resources it and its children used in their lives."""
        pid = self.process.pid
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        usage = None
        while usage is None:
            ended, _, usage_now = os.wait4(pid, os.WNOHANG)
            if ended:
                usage = usage_now
            elif time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                _, _, usage = os.wait4(pid, 0)
            else:
                time.sleep(0.005)
        self.process.returncode = 0
        self.close_files()
        return usage

    def stop_and_hear(self):
        self.process.kill()
        self.process.wait()
        self.words.seek(0)
        words = self.words.read().decode(errors="replace").strip()[-300:]
        self.close_files()
        return words or "it said nothing"

    def close_files(self):
        for file in (self.process.stdin, self.process.stdout, self.words):
            file.close()


class Bitsd(Subject):
    """The server under test."""

    def __init__(self, tools, durability="none", shards=1):
        super().__init__(tools)
        self.durability = durability
        self.shards = shards
        self.cores = SERVER_CORE if shards == 1 else BOTH_CORES

    def command(self, folder):
        return [
            str(self.tools.bitsd), "serve", "--root", str(folder), "--listen", "127.0.0.1:0",
            "--cores", str(self.shards), "--durability", self.durability,
        ]


class Watchable(Bitsd):
    """The same, with its page and its metrics at an address."""

    watchers = ()

    def command(self, folder):
        self.place = tempfile.TemporaryDirectory()
        settings = pathlib.Path(self.place.name) / "settings.toml"
        settings.write_text('admin_listen = "127.0.0.1:0"\n')
        return super().command(folder) + ["--config", str(settings)]

    def start(self, folder):
        super().start(folder)
        self.admin = self.await_admin()

    def await_admin(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            said = os.pread(self.words.fileno(), 1 << 16, 0).decode(errors="replace")
            found = re.search(r'event=admin_listening .*listen="([^"]+)"', said)
            if found:
                return found.group(1)
            time.sleep(0.02)
        raise CannotRun(f"the administrator's interface did not answer: {self.stop_and_hear()}")

    def watch(self):
        """Opens the page, and is a Prometheus that asks each second."""
        core = ["taskset", "-c", LOAD_CORE]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        page = core + ["curl", "-sN", f"http://{self.admin}/events"]
        scrapes = f"while sleep 1; do curl -s http://{self.admin}/metrics; done"
        self.watchers = [
            subprocess.Popen(words, start_new_session=True, **quiet) for words in (page, core + ["sh", "-c", scrapes])
        ]

    def look_away(self):
        for watcher in self.watchers:
            os.killpg(watcher.pid, signal.SIGKILL)
            watcher.wait()
        self.watchers = ()

    def stop(self):
        self.look_away()
        return super().stop()


class Watched(Watchable):
    """The same, with its page open, and read by a Prometheus that asks each second."""

    def start(self, folder):
        super().start(folder)
        self.watch()


class Counted(Watchable):
    """The same, and it is asked which share of the bytes went which way: fixed ring writes from registered memory to a
    file opened with O_DIRECT, ring writes through the page cache, `pwrite` on the shard (docs/performance.md)."""

    ROUTES = ("direct", "ring", "inline")

    def tells(self):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        written = dict(re.findall(r'^bitsd_written_bytes_total\{route="(\w+)"\} (\S+)$', text, re.MULTILINE))
        found = {route: float(written[route]) for route in self.ROUTES}
        return {f"share_{route}": found[route] / (sum(found.values()) or 1) for route in self.ROUTES}


class Crowded(Bitsd):
    """The same, with very many unfinished uploads."""

    SESSIONS = 100_000
    # Requests that are on their way at the same time.
    WINDOW = 500

    def command(self, folder):
        self.place = tempfile.TemporaryDirectory()
        settings = pathlib.Path(self.place.name) / "settings.toml"
        self.socket = pathlib.Path(self.place.name) / "admin.sock"
        settings.write_text(
            f'admin_socket = "{self.socket}"\nsessions_per_client_max = "unlimited"\n'
            f"[limits]\nsessions_per_shard_max = {2 * self.SESSIONS}\n"
        )
        return super().command(folder) + ["--config", str(settings)]

    def start(self, folder):
        super().start(folder)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            answers = connection.makefile("rb")
            for first in range(0, self.SESSIONS, self.WINDOW):
                numbers = range(first, min(first + self.WINDOW, self.SESSIONS))
                connection.sendall(b"".join(map(create, numbers)))
                for _ in numbers:
                    self.read_created(answers)

    @staticmethod
    def read_created(answers):
        line = answers.readline()
        if not line.startswith(b"HTTP/1.1 200 "):
            raise CannotRun(f"no session was made: {line.decode(errors='replace').strip() or 'nothing was answered'}")
        while line.strip():
            line = answers.readline()


def create(number):
    """The request for a session. Its answer has no body."""
    return (
        f"BITS_POST /host-{number:06}.zip HTTP/1.1\r\nHost: h\r\nUser-Agent: Microsoft BITS/7.8\r\n"
        "BITS-Packet-Type: Create-Session\r\nContent-Length: 0\r\n"
        "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n\r\n"
    ).encode()


class Listed(Crowded):
    """The same, and after a second somebody asks for a list of them all."""

    def start(self, folder):
        super().start(folder)
        lists = f"sleep 1; exec {self.tools.bitsd} sessions list --json --socket {self.socket}"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.lists = subprocess.Popen(["taskset", "-c", LOAD_CORE, "sh", "-c", lists], start_new_session=True, **quiet)

    def stop(self):
        # The load takes seconds, and a list a part of one: whoever is not at its end has met an error.
        was_listed = self.lists.poll() == 0
        if not was_listed:
            os.killpg(self.lists.pid, signal.SIGKILL)
            self.lists.wait()
        stopped = super().stop()
        if not was_listed:
            raise CannotRun("the uploads were not listed while the load ran")
        return stopped


class Secure(Bitsd):
    """The same, by TLS, with a certificate that is made for the run."""

    mode = ["--insecure", "--aes-128"]
    scheme = "https"
    key = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

    def __init__(self, tools, handshakes_per_second_max=500, key=None):
        super().__init__(tools)
        self.handshakes_per_second_max = handshakes_per_second_max
        self.key = key or self.key

    def command(self, folder):
        if not shutil.which("openssl"):
            raise CannotRun("openssl is not installed (Debian: apt install openssl)")
        self.material = tempfile.TemporaryDirectory()
        at = pathlib.Path(self.material.name)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", *self.key, "-nodes", "-keyout", at / "key", "-out", at / "chain",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, stderr=subprocess.DEVNULL,
        )
        (at / "settings.toml").write_text(
            f'[[listener]]\naddress = "127.0.0.1:0"\ntls = true\n'
            f'[[certificate]]\nchain = "{at}/chain"\nkey = "{at}/key"\n'
            f"[limits]\nhandshakes_per_second_max = {self.handshakes_per_second_max}\n"
        )
        return [
            str(self.tools.bitsd), "serve", "--config", str(at / "settings.toml"), "--root", str(folder),
            "--cores", str(self.shards), "--durability", self.durability,
        ]


class Floor(Subject):
    """Receive and write, a thread per connection, no HTTP."""

    mode = ["--raw"]

    def __init__(self, tools, sync=False):
        super().__init__(tools)
        self.sync = sync

    def command(self, folder):
        return [str(self.tools.floor), "files", str(folder)] + ["--sync"] * self.sync


class Echo(Subject):
    """tokio answering with bytes it is given: those that bitsd answers to a Ping."""

    mode = []

    def command(self, folder):
        reply = folder / "reply"
        reply.write_bytes(self.tools.ping_reply(folder))
        return [str(self.tools.floor), "echo", str(reply)]


class Nginx(Subject):
    """nginx with dav PUT."""

    mode = ["--put"]

    def command(self, folder):
        if not self.tools.nginx:
            raise CannotRun("nginx is not installed (Debian: apt install nginx-light; or --nginx PATH)")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("www", "body"):
            (folder / name).mkdir()
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX_CONFIGURATION.format(folder=folder, port=self.port))
        return [self.tools.nginx, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]

    def await_port(self):
        with_port = int(re.search(r"listen 127.0.0.1:(\d+)", self.configuration()).group(1))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", with_port), 1).close()
                return with_port
            except OSError:
                time.sleep(0.02)
        raise CannotRun(f"nginx did not start: {self.stop_and_hear()}")

    def configuration(self):
        path = self.process.args[self.process.args.index("-c", 3) + 1]
        return pathlib.Path(path).read_text()


NGINX_CONFIGURATION = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
worker_rlimit_nofile 19000;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/body;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder}/www;
        location / {{ dav_methods PUT; }}
    }}
}}
"""


class Tools:
    """The programs, and what is asked of bitsd once."""

    def __init__(self, bitsd, floor, nginx, run_s_max):
        self.bitsd = bitsd
        self.floor = floor
        self.nginx = nginx
        # A load that takes longer is ended.
        self.run_s_max = run_s_max
        self.reply = None

    def ping_reply(self, folder):
        """The bytes of bitsd's answer to a Ping."""
        if self.reply is None:
            server = Bitsd(self)
            root = folder / "ping"
            root.mkdir()
            server.start(root)
            try:
                with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
                    connection.sendall(
                        b"BITS_POST /bench-0.bin HTTP/1.1\r\nHost: h\r\n"
                        b"BITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
                    )
                    self.reply = connection.recv(4096)
            finally:
                server.stop()
                shutil.rmtree(root)
        return self.reply
