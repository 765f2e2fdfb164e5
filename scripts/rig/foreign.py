"""Load generators that are not ours, beside `bitsd bench`: whether it flatters."""

import pathlib
import re
import shutil
import subprocess
import time

from rig import measure
from rig.subjects import LOAD_CORE, CannotRun

SMALL = pathlib.Path(__file__).with_name("small.lua")


class Foreign:
    """A program that loads a subject: what is run, and what its last words say."""

    program, package = None, None
    is_synced = False

    def command(self, subject):
        raise NotImplementedError

    def files(self, said, took_s):
        """How many files, or requests, and how many a second; nothing if it has failed."""
        raise NotImplementedError

    def drive(self, tools, subject):
        """Loads a subject that runs; what it says of it, and what that costs."""
        if not shutil.which(self.program):
            raise CannotRun(f"{self.program} is not installed (Debian: apt install {self.package})")
        pids = subject.pids()
        before, began = measure.cpu_seconds(pids), time.monotonic()
        command = ["taskset", "-c", LOAD_CORE, self.program, *self.command(subject)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=tools.run_s_max, check=False)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"{self.program} took longer than {tools.run_s_max} s") from None
        took_s, cpu_s = time.monotonic() - began, measure.cpu_seconds(pids) - before
        found = None if done.returncode else self.files(done.stdout, took_s)
        if not found:
            raise CannotRun(f"{self.program}: {(done.stderr or done.stdout).strip()[-200:]}")
        files, per_s = found
        return {"files_per_s": per_s, "cpu_us_per_file": cpu_s * 1e6 / files}


class Pings(Foreign):
    """By h2load, of nghttp2."""

    program, package = "h2load", "nghttp2-client"

    def __init__(self, connections, requests):
        self.connections = connections
        self.requests = requests

    def command(self, subject):
        return [
            "--h1", "-t", "1", "-c", str(self.connections), "-n", str(self.requests), "-H", ":method: BITS_POST",
            "-H", "BITS-Packet-Type: Ping", f"http://127.0.0.1:{subject.port}/bench-0.bin",
        ]

    def files(self, said, took_s):
        per_s = re.search(r"([\d.]+) req/s", said)
        return (self.requests, float(per_s.group(1))) if per_s and f" {self.requests} succeeded" in said else None


class SmallFiles(Foreign):
    """By wrk, for so many seconds: by BITS, or by PUT where a subject knows no other."""

    program, package = "wrk", "wrk"

    def __init__(self, connections, file_bytes, seconds):
        self.connections = str(connections)
        self.file_bytes = str(file_bytes)
        self.seconds = seconds

    def command(self, subject):
        # A thread for each connection: in its scripts only threads have a state.
        verb = "put" if "--put" in subject.mode else "bits"
        return [
            "-t", self.connections, "-c", self.connections, "-d", f"{self.seconds}s", "-s", str(SMALL),
            f"http://127.0.0.1:{subject.port}/", "--", verb, self.file_bytes,
        ]

    def files(self, said, took_s):
        made = re.search(r"^files (\d+) refused 0$", said, re.MULTILINE)
        return (int(made.group(1)), int(made.group(1)) / took_s) if made and int(made.group(1)) else None
