"""The workloads, who runs them, and the targets their figures must meet."""

from rig.foreign import Pings, SmallFiles
from rig.measure import Load, two_syncs
from rig.subjects import Bitsd, Counted, Crowded, Echo, Floor, Listed, Nginx, Secure, Watched

KIB, MIB = 1024, 1024 * 1024
LOW, HIGH = "low", "high"

CPU, SPEED, PER_FILE = "cpu_s_per_gb", "gb_per_s", "cpu_us_per_file"
BUSY, PEAK, RATE = "busy_s_per_gb", "peak_mib", "files_per_s"
WHOLE_P50, WHOLE_P99, WRITTEN = "session_p50_us", "session_p99_us", "written_per_byte"
FRAGMENT_P99 = "fragment_p99_us"

FIGURES = {
    CPU: "CPU s/GB",
    SPEED: "GB/s",
    PER_FILE: "CPU µs/file",
    BUSY: "machine busy s/GB",
    PEAK: "peak memory MiB",
    RATE: "files/s, requests/s",
    WHOLE_P50: "median of a whole upload, µs",
    WHOLE_P99: "p99 of a whole upload, µs",
    FRAGMENT_P99: "p99 of a fragment, µs",
    WRITTEN: "bytes written per byte",
}


class Contest:
    """Subjects that run the same load, or loads to be compared, in turn."""

    def __init__(self, name, place, entries, rounds=3):
        self.name = name
        self.place = place
        # Name -> (subject, load); a subject of None stands for the O_DIRECT writer, a load of None for a subject that
        # measures itself on a folder.
        self.entries = entries
        self.rounds = rounds


class Target:
    """`figure` of `ours` over that of `reference` (or of a fixed limit) must not pass `bound`; where it `is_more`, what
    it is more than that."""

    def __init__(self, title, ours, reference, figure, better, bound, limit=None, is_more=False):
        self.title = title
        # (contest, place, entry)
        self.ours = ours
        self.reference = reference
        self.figure = figure
        self.better = better
        self.bound = bound
        self.limit = limit
        self.is_more = is_more


def loads(is_quick):
    """The workloads, smaller when quick: ratios stay, noise grows."""
    quick = lambda small, full: small if is_quick else full
    big = Load(8, quick(64, 256) * MIB, 4 * MIB)
    return {
        "W1": big,
        "W2": Load(64, 16 * MIB, 256 * KIB, files=quick(32, 128)),
        "W3": Load(64, 16 * KIB, 16 * KIB, files=quick(6_000, 40_000)),
        # Long beside one list of 100,000 uploads.
        "listed": Load(64, 16 * MIB, 256 * KIB, files=quick(128, 512)),
        # As many bytes in both: the first touch of memory is a large part of their cost.
        "W4": Load(1_000, 1 * MIB, 64 * KIB, files=quick(2_500, 5_000)),
        "W4x": Load(10_000, 256 * KIB, 64 * KIB, files=quick(10_000, 20_000)),
        "alone": Load(1, quick(512, 2048) * MIB, 4 * MIB),
        "beside idle": Load(1, quick(512, 2048) * MIB, 4 * MIB, idle=10_000),
        "ping": Load(64, 1, 1, files=quick(60_000, 400_000), ping=True),
        "handshake": Load(16, 1, 1, files=quick(3_000, 20_000), ping=True, is_connection_each=True),
        "flooded": Load(1, quick(4, 16) * 1024 * MIB, 4 * MIB, flood=2_000),
        "unflooded": Load(1, quick(4, 16) * 1024 * MIB, 4 * MIB),
        "ping by h2load": Pings(64, quick(60_000, 300_000)),
        "W3 by wrk": SmallFiles(64, 16 * KIB, quick(2, 5)),
        "small": Load(64, 16 * KIB, 16 * KIB, files=quick(6_000, 20_000), is_synced=True),
        "small512": Load(512, 16 * KIB, 16 * KIB, files=quick(6_000, 20_000), is_synced=True),
        "small1": Load(1, 16 * KIB, 16 * KIB, files=quick(300, 1_000)),
        "O_DIRECT": None,
    }


def contests(tools, is_quick, rounds):
    """Everything that is run, in order."""
    load = loads(is_quick)
    none, floor, nginx = Bitsd(tools), Floor(tools), Nginx(tools)
    few = max(1, rounds - 2) if is_quick else rounds
    made = []

    def contest(name, place, rounds=rounds, **entries):
        made.append(Contest(name, place, entries, rounds))

    for place in ("ext4", "tmpfs"):
        for name in ("W1", "W2"):
            contest(
                name, place,
                bitsd=(none, load[name]), floor=(floor, load[name]), nginx=(nginx, load[name]),
            )
        contest("W3", place, bitsd=(none, load["W3"]), nginx=(nginx, load["W3"]), floor=(floor, load["W3"]))
        contest("W4", place, bitsd=(none, load["W4"]), floor=(floor, load["W4"]))
        contest("W4x", place, few, bitsd=(none, load["W4x"]), fewer=(none, load["W4"]))
    contest("idle", "tmpfs", idle=(none, load["beside idle"]), alone=(none, load["alone"]))
    contest(
        "durable", "ext4",
        bitsd=(Bitsd(tools, durability="upload"), load["W1"]),
        direct=(None, load["O_DIRECT"]),
        floor_sync=(Floor(tools, sync=True), load["W1"]),
    )
    durable, floor_sync = Bitsd(tools, durability="upload"), Floor(tools, sync=True)
    for place in ("ext4", "xfs"):
        for name in ("small", "small512"):
            entries = {"bitsd": (durable, load[name]), "none": (none, load[name]), "floor": (floor_sync, load[name])}
            contest(name, place, **entries)
        contest("small1", place, bitsd=(durable, load["small1"]), syncs=(two_syncs, None))
    secure = Secure(tools)
    for name, place in (("W1", "tmpfs"), ("W1", "ext4"), ("W2", "tmpfs"), ("W3", "tmpfs")):
        contest(f"tls {name}", place, secure=(secure, load[name]), bitsd=(none, load[name]))
    # The load's connections take most of a GiB. In memory the upload would then come into pages that the host has yet
    # to give, and a GiB that anybody else takes halves its speed as well.
    contest("tls idle", "ext4", idle=(secure, load["beside idle"]), alone=(secure, load["alone"]))
    quickly = Secure(tools, handshakes_per_second_max=1_000_000)
    rsa = Secure(tools, handshakes_per_second_max=1_000_000, key=["rsa:2048"])
    shake = load["handshake"]
    contest("tls handshake", "tmpfs", ecdsa=(quickly, shake), rsa=(rsa, shake), plain=(none, shake))
    contest("tls flood", "tmpfs", flooded=(secure, load["flooded"]), alone=(secure, load["unflooded"]))
    for name in ("W1", "W3", "W4"):
        contest(f"watched {name}", "tmpfs", watched=(Watched(tools), load[name]), bitsd=(none, load[name]))
    contest("listed W2", "tmpfs", listed=(Listed(tools), load["listed"]), bitsd=(Crowded(tools), load["listed"]))
    contest("shards", "ext4", two=(Bitsd(tools, shards=2), load["W1"]), one=(none, load["W1"]))
    for name in ("ping", "ping by h2load"):
        contest(name, "tmpfs", bitsd=(none, load[name]), echo=(Echo(tools), load[name]))
    contest("W3 by wrk", "tmpfs", bitsd=(none, load["W3 by wrk"]), nginx=(nginx, load["W3 by wrk"]))
    # By which way the bytes went is counted, not timed: once.
    counted = Counted(tools)
    for place in ("ext4", "xfs", "tmpfs"):
        ways = {name: (counted, load[name]) for name in ("W1", "W2", "W3", "W4", "W4x")}
        contest("ways", place, 1, **ways)
    return made


def targets():
    """The rows of the report."""
    rows = []

    def row(title, contest, place, ours, reference, figure, better, bound):
        rows.append(Target(title, (contest, place, ours), (contest, place, reference), figure, better, bound))

    def more(title, contest, place, ours, reference, figure, bound):
        rows.append(Target(title, (contest, place, ours), (contest, place, reference), figure, LOW, bound, is_more=True))

    def limit(title, contest, place, most, ours="bitsd"):
        rows.append(Target(title, (contest, place, ours), None, PEAK, LOW, 1.0, most))

    def small(place, p99_bound):
        title = f"Durable small files, 16 KiB, {place}"
        row(f"{title}, 64 connections, against floor + fdatasync", "small", place, "bitsd", "floor", RATE, HIGH, 1.0)
        row(f"{title}, 64 connections, against our own none", "small", place, "bitsd", "none", RATE, HIGH, 0.8)
        row(f"{title}, 64 connections, against our own none", "small", place, "bitsd", "none", PER_FILE, LOW, 1.3)
        row(f"{title}, 512 connections, against floor + fdatasync", "small512", place, "bitsd", "floor", WHOLE_P99, LOW, p99_bound)
        row(f"{title}, 1 connection, against two syncs", "small1", place, "bitsd", "syncs", WHOLE_P50, LOW, 1.0)
        rows.append(Target(title, ("small", place, "bitsd"), None, WRITTEN, LOW, 1.0, 2.3))

    w1, w2 = "W1 bulk, 8 connections, 256 MiB files", "W2 WAN-like, 64 connections, 256 KiB fragments"
    row(f"{w1}, ext4, against the floor", "W1", "ext4", "bitsd", "floor", CPU, LOW, 0.50)
    row(f"{w1}, ext4, against nginx", "W1", "ext4", "bitsd", "nginx", CPU, LOW, 0.50)
    row(f"{w1}, ext4, speed", "W1", "ext4", "bitsd", "floor", SPEED, HIGH, 1.2)
    row(f"{w1}, tmpfs, against the floor", "W1", "tmpfs", "bitsd", "floor", CPU, LOW, 0.80)
    row(f"{w2}, ext4, against the floor", "W2", "ext4", "bitsd", "floor", CPU, LOW, 0.60)
    row(f"{w2}, tmpfs, against the floor", "W2", "tmpfs", "bitsd", "floor", CPU, LOW, 0.85)
    for place in ("tmpfs", "ext4"):
        title = f"W3 small files, 64 connections, 16 KiB, {place}, against nginx's PUT"
        row(title, "W3", place, "bitsd", "nginx", PER_FILE, LOW, 0.95)
    for place in ("ext4", "tmpfs"):
        title = f"W4 1,000 connections, 1 MiB files, {place}"
        row(f"{title}, against the floor", "W4", place, "bitsd", "floor", CPU, LOW, 1.00)
        limit(f"{title}, memory", "W4", place, 32)
    for place in ("ext4", "tmpfs"):
        title = f"W4x 10,000 connections, 256 KiB files, {place}"
        row(f"{title}, against our W4", "W4x", place, "bitsd", "fewer", CPU, LOW, 1.15)
        limit(f"{title}, memory", "W4x", place, 64)
    row("One upload beside 10,000 idle connections", "idle", "tmpfs", "idle", "alone", SPEED, HIGH, 0.95)
    # 2 KiB each.
    more("10,000 idle connections, memory, more than without", "idle", "tmpfs", "idle", "alone", PEAK, 19.5)
    title = "durability = upload, W1, ext4"
    row(f"{title}, against an O_DIRECT writer", "durable", "ext4", "bitsd", "direct", SPEED, HIGH, 0.90)
    row(f"{title}, against floor + fdatasync", "durable", "ext4", "bitsd", "floor_sync", BUSY, LOW, 0.60)
    small("ext4", 0.5)
    small("xfs", 1.0)
    for place in ("tmpfs", "ext4"):
        more(f"W1 by TLS, more than without, {place}", "tls W1", place, "secure", "bitsd", CPU, 0.15)
    more("W2 by TLS, more than without, tmpfs", "tls W2", "tmpfs", "secure", "bitsd", CPU, 0.20)
    more("W3 by TLS, more than without, tmpfs", "tls W3", "tmpfs", "secure", "bitsd", PER_FILE, 15)
    row("One TLS upload beside 10,000 idle TLS connections", "tls idle", "ext4", "idle", "alone", SPEED, HIGH, 0.95)
    limit("10,000 idle TLS connections and an upload, memory", "tls idle", "ext4", 80, "idle")
    # 3.5 KiB each. Where the upload goes is no part of the server's memory.
    title = "10,000 idle connections and an upload, memory, by TLS more than without"
    rows.append(Target(title, ("tls idle", "ext4", "idle"), ("idle", "tmpfs", "idle"), PEAK, LOW, 34.2, is_more=True))
    title = "Full handshake, more than a connection without, "
    more(f"{title}ECDSA", "tls handshake", "tmpfs", "ecdsa", "plain", PER_FILE, 130)
    more(f"{title}RSA", "tls handshake", "tmpfs", "rsa", "plain", PER_FILE, 800)
    title = "One TLS upload beside 5,000 silent connections and 2,000 handshakes/s"
    row(title, "tls flood", "tmpfs", "flooded", "alone", SPEED, HIGH, 0.70)
    for name, figure in (("W1", CPU), ("W3", PER_FILE), ("W4", CPU)):
        title = f"{name} with a page open and metrics read, against without, tmpfs"
        row(title, f"watched {name}", "tmpfs", "watched", "bitsd", figure, LOW, 1.01)
        row(title, f"watched {name}", "tmpfs", "watched", "bitsd", FRAGMENT_P99, LOW, 1.02)
    title = "W2 with 100,000 unfinished uploads that are listed meanwhile, against without the list, tmpfs"
    row(title, "listed W2", "tmpfs", "listed", "bitsd", FRAGMENT_P99, LOW, 1.05)
    row("W1 on two shards against one, ext4", "shards", "ext4", "two", "one", CPU, LOW, 1.10)
    row("Ping, 64 warm connections, against a tokio echo", "ping", "tmpfs", "bitsd", "echo", RATE, HIGH, 1.0)
    row("The same, by h2load", "ping by h2load", "tmpfs", "bitsd", "echo", RATE, HIGH, 1.0)
    title = "W3 by wrk, tmpfs, against nginx's PUT by wrk"
    row(title, "W3 by wrk", "tmpfs", "bitsd", "nginx", PER_FILE, LOW, 0.95)
    return rows
