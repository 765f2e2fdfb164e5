"""Others that only make a server work: many connections that say nothing, and handshakes without end."""

import socket
import subprocess
import threading

from rig.subjects import LOAD_CORE, PATIENCE_S

TURNS_PER_S = 10
SILENT = 5_000
# Those that are not done yet; a server that lets them wait is asked no more than so often at once.
TURNS_MAX = 30


class Flood:
    """So many handshakes a second while it is entered, each of a machine of its own, and before them connections that
    stay silent; nothing for 0."""

    def __init__(self, tools, subject, per_s):
        # Each is one Ping on a connection of its own.
        self.each = per_s // TURNS_PER_S
        self.begun = 0
        self.is_over = threading.Event()
        self.port = subject.port
        self.command = ["taskset", "-c", LOAD_CORE, str(tools.bitsd), "bench", "--json", "--ping", "--connection-per-session"]
        self.command += [*subject.mode, "--connections", str(self.each), "--files", str(self.each)]
        self.command.append(f"{subject.scheme}://127.0.0.1:{subject.port}/")
        self.silent = []

    def __enter__(self):
        self.thread = None
        if self.each:
            self.silent = [socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) for _ in range(SILENT)]
            self.thread = threading.Thread(target=self.run)
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        if self.thread:
            self.thread.join()
        for connection in self.silent:
            connection.close()

    def run(self):
        turns = []
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        while not self.is_over.wait(1 / TURNS_PER_S):
            turns = [turn for turn in turns if turn.poll() is None]
            if len(turns) < TURNS_MAX:
                turns.append(subprocess.Popen(self.command, **quiet))
                self.begun += self.each
        for turn in turns:
            turn.kill()
            turn.wait()
