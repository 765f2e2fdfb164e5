"""One run: a subject on a fresh folder, a load, and what both cost."""

import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time

from rig import places
from rig.flood import Flood
from rig.subjects import LOAD_CORE, CannotRun

SETTLE_S = 0.2
SYNCS = 300
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Load:
    """Flags of `bitsd bench`."""

    def __init__(self, connections, file_bytes, fragment_bytes, files=None, idle=0, ping=False, is_synced=False,
                 is_connection_each=False, flood=0):
        self.connections = connections
        self.file_bytes = file_bytes
        self.fragment_bytes = fragment_bytes
        self.files = files or connections
        self.idle = idle
        self.ping = ping
        # What was written to the device counts, all of it.
        self.is_synced = is_synced
        # A connection for each file.
        self.is_connection_each = is_connection_each
        # Handshakes a second of others meanwhile.
        self.flood = flood

    def flags(self):
        flags = [
            "--connections", self.connections, "--files", self.files,
            "--file-bytes", self.file_bytes, "--fragment-bytes", self.fragment_bytes,
        ]
        if self.idle:
            flags += ["--idle", self.idle]
        if self.is_connection_each:
            flags.append("--connection-per-session")
        return [str(flag) for flag in flags] + ["--ping"] * self.ping

    def drive(self, tools, subject):
        """Loads a subject that runs; what it says of it, and what that costs."""
        url = f"{subject.scheme}://127.0.0.1:{subject.port}/"
        command = ["taskset", "-c", LOAD_CORE, str(tools.bitsd), "bench", "--json", "--keep"] + subject.mode + self.flags() + [url]
        pids = subject.pids()
        cpu_before, busy_before, load_before = cpu_seconds(pids), busy_seconds(), children_cpu_seconds()
        with Flood(tools, subject, self.flood) as flood:
            try:
                done = subprocess.run(command, capture_output=True, timeout=tools.run_s_max)
            except subprocess.TimeoutExpired:
                raise CannotRun(f"it took longer than {tools.run_s_max} s") from None
        cpu = cpu_seconds(pids) - cpu_before
        busy = busy_seconds() - busy_before
        load_cpu = children_cpu_seconds() - load_before
        try:
            report = json.loads(done.stdout)
        except ValueError:
            raise CannotRun(f"the load failed: {done.stderr.decode(errors='replace').strip()[-300:]}") from None
        if report["failed"]:
            raise CannotRun(f"{report['failed']} uploads failed, first: {report['first_error']}")
        gigabytes = report["bytes"] / 1e9
        return {
            "gb_per_s": report["gb_per_s"],
            "files_per_s": report["files_per_s"],
            "fragment_p99_us": report["fragment"]["p99_us"],
            "session_p50_us": report["session"]["p50_us"],
            "session_p99_us": report["session"]["p99_us"],
            "idle_lost": report["idle_lost"],
            "flood_per_s": flood.begun / report["seconds"],
            "cpu_s": cpu,
            "cpu_s_per_gb": cpu / gigabytes if gigabytes else None,
            "cpu_us_per_file": cpu * 1e6 / report["files"],
            "busy_s_per_gb": busy / gigabytes if gigabytes else None,
            "load_cpu_share": load_cpu / report["seconds"],
            # Neighbours and the kernel's own threads (writeback), in cores.
            "others_cores": max(0.0, busy - cpu - load_cpu) / report["seconds"],
            "peak_mib": sum(peak_kib(pid) for pid in pids) / 1024,
        }


def run(tools, subject, load, folder):
    """Runs the load against the subject on a folder that is made for it; returns its figures."""
    folder.mkdir(parents=True)
    try:
        subject.start(folder)
        written_before = places.written_bytes(folder)
        try:
            figures = load.drive(tools, subject)
            figures |= subject.tells()
        finally:
            usage = subject.stop()
        if load.is_synced and written_before is not None:
            os.sync()
            uploaded = load.files * load.file_bytes
            figures["written_per_byte"] = (places.written_bytes(folder) - written_before) / uploaded
        figures["context_switches"] = usage.ru_nvcsw + usage.ru_nivcsw
        return figures
    finally:
        clear(folder)


def clear(folder):
    """Frees what a run has taken. On tmpfs all of it, names too, of which it has only so many. On a disk empty files stay to
    be removed at the end of everything: for half a minute ext4 does not use a deleted file's inode again, and looks at
    thousands of them for every new file."""
    if places.describe(folder)["kind"] == "tmpfs":
        shutil.rmtree(folder)
        return
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    # The next run begins with nothing left to write.
    os.sync()
    time.sleep(SETTLE_S)


def medians(runs):
    """The median of each figure."""
    figures = {"rounds": runs}
    for key in runs[0]:
        values = [run[key] for run in runs if run.get(key) is not None]
        figures[key] = statistics.median(values) if values else None
    return figures


def cpu_seconds(pids):
    """User and system time, threads that ended and io_uring's workers included, to the nanosecond."""
    return sum(time.clock_gettime(process_clock(pid)) for pid in pids)


def process_clock(pid):
    """The clock of another process's CPU time, as clock_getcpuclockid(3) makes it: scheduler time, all threads."""
    return ~pid << 3 | 2


def busy_seconds():
    """The whole machine: everything but idle and waiting for I/O."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S


def children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def two_syncs(folder):
    """How long two syncs of this disk take, each of a file that grew by 16 KiB: the median, in microseconds."""
    folder.mkdir(parents=True)
    took = []
    try:
        with (folder / "log").open("wb", buffering=0) as log:
            for _ in range(SYNCS):
                log.write(bytes(16 << 10))
                began = time.perf_counter()
                os.fdatasync(log.fileno())
                took.append(time.perf_counter() - began)
        return {"session_p50_us": 2e6 * statistics.median(took)}
    finally:
        clear(folder)


def direct_writer(tools, folder, size):
    """GB/s of a plain O_DIRECT writer."""
    folder.mkdir(parents=True)
    try:
        command = ["taskset", "-c", "0", str(tools.floor), "direct", str(folder / "direct.bin"), str(size)]
        done = subprocess.run(command, capture_output=True, timeout=tools.run_s_max)
        if done.returncode:
            raise CannotRun(done.stderr.decode(errors="replace").strip())
        return {"gb_per_s": float(done.stdout)}
    finally:
        clear(folder)
