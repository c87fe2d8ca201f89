#!/usr/bin/env python3
"""Compares trace-record and trace-replay with their peers, in one run and in pairs, and prints one row per figure.

    bench.py --build .build/release --programs Benchmarks/build [SECTION...]

A row gives our figure and the peer's (medians), the ratio ours/peer as min / median / max over the pairs, the ratio
of the best run of each side, the target for the median ratio, and whether it is reached. Nothing here fails because something is slow: a machine under load is no defect. What cannot
be measured (a peer that is not installed, a command that fails) is a row that says so.

Sections: record, attach, block, codec, replay, engines, direct, memory, timing, paced, diff, net. Environment: BENCH_PAIRS (5), BENCH_REQUESTS (1000000),
BENCH_MEMORY_REQUESTS (10000000), BENCH_VSCSI (a vscsi trace for the size per request), BENCH_DISK (/var/tmp: a folder on a disk, for
the page cache of a real filesystem and for O_DIRECT).
"""

import argparse
import glob
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

SECTIONS = ["record", "attach", "block", "codec", "replay", "engines", "direct", "memory", "timing", "paced", "diff", "net"]
PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "1000000"))
MEMORY_REQUESTS = int(os.environ.get("BENCH_MEMORY_REQUESTS", "10000000"))
MIB = 1 << 20


class NotMeasured(Exception):
    """Why a figure is missing."""


# ---------------------------------------------------------------------------------------------------- running things


class Finished:
    """What a command printed, how long it took, and the most memory it held."""

    def __init__(self, output, errors, wall_s, maxrss_kib):
        self.output, self.errors, self.wall_s, self.maxrss_kib = output, errors, wall_s, maxrss_kib


def run(arguments, accept=(0,), stdout=None, environment=None):
    """Runs a command to its end. Output goes through files, so that a pipe never makes the command wait."""
    arguments = [str(a) for a in arguments]
    with tempfile.TemporaryFile(dir=folder()) as out, tempfile.TemporaryFile(dir=folder()) as err:
        begun = time.perf_counter()
        try:
            child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=stdout or out, stderr=err, env=environment
            )
        except OSError as error:
            raise NotMeasured(f"{os.path.basename(arguments[0])}: {error.strerror}") from error
        # wait4 gives this child's own peak memory; it can't read lower than that of this interpreter (about 15 MiB),
        # in which the child began.
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output = out.read().decode(errors="replace")
        errors = err.read().decode(errors="replace")
    if child.returncode not in accept:
        lines = (errors or output).strip().splitlines() or ["no message"]
        # A command line parser ends with its usage; its first line says what was wrong.
        raise NotMeasured(f"{os.path.basename(arguments[0])} exited with {child.returncode}: {lines[0][:120]}")
    return Finished(output, errors, wall_s, usage.ru_maxrss)


def need(program):
    if shutil.which(program) is None:
        raise NotMeasured(f"{program} is not installed")


def folder():
    return work["folder"]


def path(name):
    return os.path.join(folder(), name)


work = {}


# ------------------------------------------------------------------------------------------------------------ the table

FORMAT = "{:<46} {:>11}  {:<22} {:>11} {:>22} {:>6}  {:<14} {}"


def heading(title):
    print()
    print(title)
    print(FORMAT.format("figure", "ours", "peer", "the peer's", "ratio min/med/max", "best", "target", "reached"))


def row(figure, ours, peer="", theirs="", ratio="", target="", reached=None, best=""):
    mark = {True: "yes", False: "NO", None: "-"}[reached]
    print(FORMAT.format(figure, ours, peer, theirs, ratio, best, target, mark), flush=True)


def spread(values):
    digits = 2 if max(values) >= 0.1 else 4
    return "/".join(f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))


def count(value):
    if value == 0:
        return "0"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def seconds(value):
    for unit, scale, limit in (("s", 1, 0.1), ("ms", 1e3, 1e-3), ("us", 1e6, 1e-6)):
        if abs(value) >= limit:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def compare(figure, unit, results, peer, at_least=None, at_most=None):
    """One row of pairs, run A B A B so that what drifts on the machine falls on both. The target is for the median ratio."""
    ratios = [a / b for a, b in results]
    ours = statistics.median(a for a, _ in results)
    theirs = statistics.median(b for _, b in results)
    middle = statistics.median(ratios)
    if at_least is not None:
        target, reached = f"ratio >= {at_least}", middle >= at_least
    elif at_most is not None:
        target, reached = f"ratio <= {at_most}", middle <= at_most
    else:
        target, reached = "", None
    # Other work on the machine only ever makes a run slower, so the best of each side is what it disturbed least.
    pick = min if unit is seconds else max
    best = pick(a for a, _ in results) / pick(b for _, b in results)
    row(figure, unit(ours), peer, unit(theirs), spread(ratios), target, reached, f"{best:.2f}")


def absolute(figure, value, unit, at_least=None, at_most=None, suffix=""):
    if at_least is not None:
        row(figure, unit(value), target=f">= {unit(at_least)}{suffix}", reached=value >= at_least)
    elif at_most is not None:
        row(figure, unit(value), target=f"<= {unit(at_most)}{suffix}", reached=value <= at_most)
    else:
        row(figure, unit(value))


def attempt(figure, measure):
    """A figure that can't be measured costs only its own row."""
    try:
        measure()
    except NotMeasured as reason:
        print(f"{figure:<46}   not measured: {reason}", flush=True)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        print(f"{figure:<46}   not measured: unexpected output, {error!r}", flush=True)


# ------------------------------------------------------------------------------------------------------ inputs and peers


def make_iolog(name, requests, target, file_bytes, writes=0, interval_ns=10000):
    log = path(name)
    with open(log, "wb") as output:
        run(
            [programs("generate-iolog"), requests, target, file_bytes, 4096, writes, interval_ns],
            stdout=output,
        )
    return log


def make_target(name, file_bytes):
    target = path(name)
    with open(target, "wb") as file:
        for _ in range(file_bytes // MIB):
            file.write(os.urandom(MIB))
    return target


def import_fio(log, name):
    trace = path(name)
    run([tool("trace-record"), "import", "--format", "fio", "-o", trace, log])
    return trace


def tool(name):
    return os.path.join(work["build"], name)


def programs(name):
    return os.path.join(work["programs"], name)


def c_loop(requests_list, target):
    return json.loads(run([programs("sync-loop"), "run", requests_list, target]).output)


def replay(trace, *options):
    """The report and the finished command of one replay."""
    report = path("report.json")
    finished = run([tool("trace-replay"), "run", trace, "--quiet", "--json", report, *options])
    with open(report, encoding="utf-8") as file:
        result = json.load(file)
    os.unlink(report)
    return result, finished


def fio(log, *options):
    """fio's JSON for one job, and the finished command.

    --invalidate=0: otherwise fio evicts the file first, and the cached file isn't cached. Everything else is fio's
    default, latencies included, since trace-replay measures them too.
    """
    need("fio")
    output = path("fio.json")
    command = ["fio", "--name=bench", f"--read_iolog={log}", "--invalidate=0", "--output-format=json"]
    finished = run([*command, f"--output={output}", *options])
    with open(output, encoding="utf-8") as file:
        text = file.read()
    os.unlink(output)
    job = json.loads(text[text.index("{") :])["jobs"][0]  # fio may write notes before its document
    return job, finished


def fio_rate(job):
    """Requests/s over both directions. Run times are whole milliseconds."""
    return (job["read"]["total_ios"] + job["write"]["total_ios"]) * 1000 / job["job_runtime"]


# ---------------------------------------------------------------------------------------------------------- the sections


def section_replay():
    heading(f"Replaying {count(REQUESTS)} random 4 KiB requests at maximum speed, one at a time (requests/s)")
    # What differs between the three is the work around a request. In 16 MiB, which a CPU's cache holds, it shows; in
    # 1 GiB all three wait for memory, and the difference becomes smaller.
    for mib, writes in ((16, 0), (16, 30), (1024, 0)):
        label = f"{'reads' if not writes else f'{100 - writes} % reads'} in {mib} MiB"
        attempt(label, lambda: replay_of(label, mib, writes))
    attempt("null engine", replay_null)


def replay_of(label, mib, writes):
    target = make_target("target", mib * MIB)
    log = make_iolog("requests.iolog", REQUESTS, target, mib * MIB, writes)
    requests_list = path("requests.list")
    run([programs("sync-loop"), "convert", log, requests_list])
    trace = import_fio(log, "requests.iotrace")
    options = ["--engine", "sync", "--speed", "max", "--order", "depth", "--target", target]
    options += ["--allow-writes"] if writes else []
    fio_options = ["--replay_no_stall=1", "--ioengine=psync", f"--replay_redirect={target}"]
    try:
        headline = mib == 16

        rounds = []
        for _ in range(PAIRS):  # ours, the loop, fio, ours, the loop, fio, ...
            report, ours = replay(trace, *options)
            loop = c_loop(requests_list, target)
            job, peer = fio(log, *fio_options)
            rounds.append((report["run"]["iops"], loop["iops"], fio_rate(job), ours.wall_s, peer.wall_s))
        against_loop = [(r[0], r[1]) for r in rounds]
        compare(f"sync, {label}", count, against_loop, "C loop", at_least=0.93 if headline else None)
        against_fio = [(r[0], r[2]) for r in rounds]
        compare(f"sync, {label}", count, against_fio, "fio psync", at_least=1.25 if headline else None)
        walls = [(r[3], r[4]) for r in rounds]
        compare(f"whole command, {label}", seconds, walls, "fio psync", at_most=0.5 if headline else None)
    finally:
        for name in (target, log, requests_list, trace):
            os.unlink(name)


def replay_null():
    log = make_iolog("null.iolog", REQUESTS, path("target"), 1024 * MIB)
    trace = import_fio(log, "null.iotrace")
    try:
        options = ["--engine", "null", "--speed", "max", "--order", "depth"]

        def ours():
            return replay(trace, *options)[0]["run"]["iops"]

        rates = [ours() for _ in range(PAIRS)]
        absolute("null engine, from the compressed trace", statistics.median(rates), count, at_least=8e6, suffix="/s")
        size = os.path.getsize(trace) / REQUESTS
        row("  that trace, bytes per request", f"{size:.2f}")
        fio_options = ["--replay_no_stall=1", "--ioengine=null"]
        rounds = []
        for _ in range(PAIRS):
            report, finished = replay(trace, *options)
            job, peer = fio(log, *fio_options)
            rounds.append((report["run"]["iops"], fio_rate(job), finished.wall_s, peer.wall_s))
        compare("null engine", count, [(r[0], r[1]) for r in rounds], "fio null, loaded")
        compare("null engine, whole command", seconds, [(r[2], r[3]) for r in rounds], "fio null")
    finally:
        os.unlink(log)
        os.unlink(trace)


def section_memory():
    heading(f"Peak memory of a replay of {count(MEMORY_REQUESTS)} requests")

    def measure():
        log = make_iolog("long.iolog", MEMORY_REQUESTS, path("target"), 1024 * MIB)
        imported = run([tool("trace-record"), "import", "--format", "fio", "-o", path("long.iotrace"), log])
        mib = lambda value: f"{value:.1f} MiB"
        options = ["--speed", "max", "--order", "depth"]
        runs = [replay(path("long.iotrace"), "--engine", "null", *options) for _ in range(PAIRS)]
        finished = runs[0][1]
        absolute("null engine", finished.maxrss_kib / 1024, mib, at_most=64)
        rate = statistics.median(report["run"]["iops"] for report, _ in runs)
        absolute("  its requests/s, from the compressed trace", rate, count, at_least=8e6, suffix="/s")
        _, kept = replay(path("long.iotrace"), "--engine", "sync", *options)
        absolute("sync engine", kept.maxrss_kib / 1024, mib, at_most=64)
        row("trace-record import of its iolog", mib(imported.maxrss_kib / 1024))
        row("  requests/s of that import", count(MEMORY_REQUESTS / imported.wall_s))
        _, peer = fio(log, "--replay_no_stall=1", "--ioengine=null", "--thread")
        ratio = finished.maxrss_kib / peer.maxrss_kib
        row("trace-replay run", mib(finished.maxrss_kib / 1024), "fio", mib(peer.maxrss_kib / 1024), f"{ratio:.3f}")

    attempt("memory", measure)


def section_diff():
    heading(f"Comparing two runs: reports of 5 x {count(MEMORY_REQUESTS)} requests, logs of {count(MEMORY_REQUESTS)}")
    mib = lambda value: f"{value:.1f} MiB"

    def measure():
        log = make_iolog("long.iolog", MEMORY_REQUESTS, path("target"), 1024 * MIB, writes=30)
        run([tool("trace-record"), "import", "--format", "fio", "-o", path("long.iotrace"), log])
        os.unlink(log)
        os.mkdir(path("written"))
        base = [tool("trace-replay"), "run", path("long.iotrace"), "--quiet", "--speed", "max", "--order", "depth"]
        for side in ("a", "b"):
            run([*base, "--engine", "null", "--loops", "5", "--json", path(f"{side}.json")])
            run([*base, "--engine", "sync", "--target", path("written"), "--allow-writes", "--log", path(f"{side}.iotrace")])
        for label, name, seconds_limit, mib_limit in (("reports", "{}.json", 0.2, 50), ("logs", "{}.iotrace", 5, 500)):
            diffs = [run([tool("trace-replay"), "diff", path(name.format("a")), path(name.format("b"))]) for _ in range(PAIRS)]
            absolute(f"diff of two {label}, median of {PAIRS}", statistics.median(d.wall_s for d in diffs), seconds, at_most=seconds_limit)
            absolute("  its peak memory", max(d.maxrss_kib for d in diffs) / 1024, mib, at_most=mib_limit)
        run([tool("trace-replay"), "report", path("a.json"), "--html", path("a.html")])
        absolute("HTML report of one", os.path.getsize(path("a.html")) / 1e6, lambda value: f"{value:.3f} MB", at_most=1)

    attempt("diff", measure)


def start_times_ns(trace):
    """The start of every read in a trace, in the trace's order."""
    lines = run([tool("trace-record"), "dump", "--csv", trace]).output.splitlines()
    columns = lines[0].split(",")
    start, operation = columns.index("start_ns"), columns.index("operation")
    rows = (line.split(",") for line in lines[1:])
    return [int(fields[start]) for fields in rows if fields[operation] == "read" or fields[operation] == "pread"]


def drift_ns(times, due, part):
    """How much later the last requests were than the first ones, in medians of so many."""
    late = [(t - times[0]) - (d - due[0]) for t, d in zip(times, due)]
    return statistics.median(late[-part:]) - statistics.median(late[:part])


# engine, its options, the C loop's name, fio's engine, depth, targets against the C loop and against fio
CACHED = [
    ("sync", [], "sync", "psync", 1, 0.93, 1.25),
    ("libaio", [], "libaio", "libaio", 32, 0.93, 1.25),
    ("io_uring", [], "io_uring", "io_uring", 32, 0.93, 1.1),
    ("splice", [], "splice", "splice", 1, 0.93, 1.15),
    ("libaio", [], "libaio", "libaio", 1, None, 0.95),
    ("io_uring", [], "io_uring", "io_uring", 1, None, 0.95),
]


def disk_folder():
    return os.environ.get("BENCH_DISK", "/var/tmp")


class DiskTarget:
    """A file on a real filesystem, in the page cache; removed afterwards."""

    def __init__(self, mib):
        self.mib = mib

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="iotrace-bench.", dir=disk_folder())
        target = os.path.join(self.folder, "target")
        with open(target, "wb") as file:
            for _ in range(self.mib):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
        return target

    def __exit__(self, *_):
        shutil.rmtree(self.folder)


def prepared(target, mib, writes, requests=None):
    """The same requests as an iolog, as the C loops' list and as a trace."""
    log = make_iolog("engines.iolog", requests or REQUESTS // 2, target, mib * MIB, writes)
    requests_list, trace = path("engines.list"), path("engines.iotrace")
    run([programs("sync-loop"), "convert", log, requests_list])
    if os.path.exists(trace):
        os.unlink(trace)
    return log, requests_list, import_fio(log, "engines.iotrace")


def engine_loop(loop, requests_list, target, depth, *options):
    if loop == "sync":
        return c_loop(requests_list, target)
    return json.loads(run([programs("engine-loop"), loop, requests_list, target, depth, *options]).output)


def compare_engine(label, inputs, target, engine, options, loop, peer, depth, against_loop, against_fio, direct=False):
    log, requests_list, trace = inputs
    ours_options = ["--engine", engine, "--speed", "max", "--order", "depth", "--target", target, "--allow-writes", *options]
    if engine in ("libaio", "io_uring"):
        ours_options += ["--iodepth", depth]
    fio_options = ["--replay_no_stall=1", f"--ioengine={peer}", f"--iodepth={depth}", f"--replay_redirect={target}"]
    if direct:
        ours_options += ["--direct"]
        fio_options += ["--direct=1"]
    rounds = []
    for _ in range(PAIRS):
        report, _ = replay(trace, *ours_options)
        hand = engine_loop(loop, requests_list, target, depth, *(["direct"] if direct else [])) if against_loop else None
        job, _ = fio(log, *fio_options)
        rounds.append((report["run"]["iops"], hand["iops"] if hand else 0, fio_rate(job)))
    if against_loop:
        compare(label, count, [(r[0], r[1]) for r in rounds], "C loop", at_least=against_loop)
    compare(label, count, [(r[0], r[2]) for r in rounds], f"fio {peer}", at_least=against_fio)


def section_engines():
    heading(f"Every engine on a cached file of {disk_folder()}, {count(REQUESTS // 2)} random 4 KiB requests (requests/s)")
    with DiskTarget(16) as target:
        for writes in (0, 30):
            inputs = prepared(target, 16, writes)
            kind = "reads" if not writes else f"{100 - writes} % reads"
            for engine, options, loop, peer, depth, against_loop, against_fio in CACHED:
                label = f"{engine}, depth {depth}, {kind}"
                attempt(label, lambda: compare_engine(
                    label, inputs, target, engine, options, loop, peer, depth, against_loop, against_fio))
    heading("io_uring on tmpfs, where the kernel hands writes to workers (requests/s)")
    target = make_target("target", 16 * MIB)
    inputs = prepared(target, 16, 30, REQUESTS // 10)
    for depth in (1, 32):
        label = f"io_uring, tmpfs, depth {depth}, 70 % reads"
        attempt(label, lambda: compare_engine(label, inputs, target, "io_uring", [], "io_uring", "io_uring", depth, None, 0.95))


def section_direct():
    heading(f"O_DIRECT on a file of {disk_folder()}, random 4 KiB reads (requests/s)")
    with DiskTarget(256) as target:
        inputs = prepared(target, 256, 0, REQUESTS // 25)
        for engine, peer, depths in (("sync", "psync", (1,)), ("libaio", "libaio", (1, 8, 64)), ("io_uring", "io_uring", (1, 8, 64))):
            for depth in depths:
                label = f"{engine}, O_DIRECT, depth {depth}"
                attempt(label, lambda: compare_engine(label, inputs, target, engine, [], engine, peer, depth, None, 0.95, True))


def section_paced():
    heading("Every engine on its schedule: rate reached, lag p50 / p99 / max, share later than 1 ms")
    target = make_target("target", 16 * MIB)
    for rate in (1000, 10000, 50000):
        requests = min(rate * 4, 100000)
        log = make_iolog("paced.iolog", requests, target, 16 * MIB, interval_ns=1_000_000_000 // rate)
        trace = import_fio(log, "paced.iotrace")
        for engine, peer in (("sync", "psync"), ("splice", "splice"), ("mmap", "mmap"), ("libaio", "libaio"), ("io_uring", "io_uring")):
            attempt(f"{engine} at {rate}/s", lambda: paced_ours(engine, trace, target, rate))
            attempt(f"fio {peer} at {rate}/s", lambda: paced_fio(peer, log, target, rate, requests))
        attempt(f"net at {rate}/s", lambda: paced_net(trace, rate))
        attempt(f"nbd at {rate}/s", lambda: paced_nbd(trace, rate))
        os.unlink(trace)


def paced_net(trace, rate):
    """From a server on this machine that sends what the trace reads; fio has no such replay."""
    socket = path("paced.sock")
    with Server([tool("trace-replay"), "serve", trace, "--unix", socket], socket):
        paced_ours("net", trace, f"unix:{socket}", rate)


def paced_nbd(trace, rate):
    need("nbdkit")
    socket = path("paced.sock")
    with Server(["nbdkit", "-f", "-U", socket, "memory", "64M"], socket):
        paced_ours("nbd", trace, f"nbd+unix:///?socket={socket}", rate)


def paced_ours(engine, trace, target, rate):
    report, _ = replay(trace, "--engine", engine, "--speed", "original", "--order", "schedule", "--target", target)
    lag = report["latency"]["lag"]
    figures = " / ".join(seconds(lag[k] / 1e9) for k in ("p50_ns", "p99_ns", "max_ns"))
    late = report["fidelity"]["late_share"] * 100
    row(f"{engine} at {rate}/s", f"{report['run']['iops']:.0f}/s", ratio=figures, target=f"late {late:.2f} %",
        reached=report["fidelity"]["verdict"] == "faithful")


def paced_fio(peer, log, target, rate, requests):
    job, _ = fio(log, f"--ioengine={peer}", f"--replay_redirect={target}", f"--write_lat_log={path('fio')}", "--runtime=60")
    with open(path("fio_lat.1.log"), encoding="utf-8") as file:
        fields = [line.split(",") for line in file]
    times = [int(f[0]) * 1_000_000 - int(f[1]) for f in fields]
    late = sorted((t - times[0]) - i * 1_000_000_000 // rate for i, t in enumerate(times))
    figures = " / ".join(seconds(late[i] / 1e9) for i in (len(late) // 2, len(late) * 99 // 100, len(late) - 1))
    share = sum(1 for l in late if l > 1_000_000) / len(late) * 100
    row("", "", f"fio {peer}", f"{fio_rate(job):.0f}/s", figures, f"late {share:.2f} %")


def section_timing():
    requests, rate = 20000, 5000
    heading(f"Replaying {requests} requests at {rate}/s on their recorded schedule")
    target = make_target("target", 16 * MIB)
    log = make_iolog("timed.iolog", requests, target, 16 * MIB, interval_ns=1_000_000_000 // rate)

    def measure_ours():
        trace = import_fio(log, "timed.iotrace")
        replayed = path("timed-log.iotrace")
        options = ["--engine", "sync", "--speed", "original", "--order", "schedule", "--target", target]
        report, _ = replay(trace, *options, "--log", replayed)
        lag = report["latency"]["lag"]
        absolute("lag, p50", lag["p50_ns"] / 1e9, seconds, at_most=2e-6)
        absolute("lag, p99", lag["p99_ns"] / 1e9, seconds, at_most=20e-6)
        row("lag, max", seconds(lag["max_ns"] / 1e9))
        row("verdict", str(report["fidelity"]["verdict"]))
        attempt("drift", lambda: measure_drift(trace, replayed))

    def measure_drift(trace, replayed):
        drift = drift_ns(start_times_ns(replayed), start_times_ns(trace), 1000)
        # "No later" within what one clock reading costs and what the machine does meanwhile: half of the lag's target.
        absolute("drift: last 1000 requests against first 1000", drift / 1e9, seconds, at_most=1e-6)

    def measure_fio():
        fio(log, "--ioengine=psync", f"--replay_redirect={target}", f"--write_lat_log={path('fio')}")
        # Start = completion - latency; the log's clock ticks in milliseconds, so these are good to about 1 ms.
        with open(path("fio_lat.1.log"), encoding="utf-8") as file:
            fields = [line.split(",") for line in file]
        times = [int(f[0]) * 1_000_000 - int(f[1]) for f in fields]
        due = [i * 1_000_000_000 // rate for i in range(len(times))]
        late = sorted((t - times[0]) - d for t, d in zip(times, due))
        row("lateness of fio, p50 (ms clock)", "", "fio psync", seconds(late[len(late) // 2] / 1e9))
        row("lateness of fio, p99 (ms clock)", "", "fio psync", seconds(late[len(late) * 99 // 100] / 1e9))
        row("drift of fio, last 1000 against first", "", "fio psync", seconds(drift_ns(times, due, 1000) / 1e9))

    attempt("trace-replay run", measure_ours)
    attempt("fio", measure_fio)


def section_codec():
    heading("The trace format (one core)")
    attempt("codec", codec_speed)


def codec_speed():
    """TraceBenchmarks names its own targets: "figure   value   (target >= 3)"."""
    sample = os.environ.get("BENCH_VSCSI", "")
    output = run([tool("TraceBenchmarks"), *([sample] if sample else [])]).output
    for line in output.splitlines():
        found = re.match(r"(.+?):? +([0-9.]+)(?: bytes each)? *(?:\(target ([<>≤≥]) ([0-9.]+)\))?$", line)
        if not found:
            print(line)
            continue
        figure, value, relation, target = found.groups()
        reached = None
        if target:
            reached = float(value) >= float(target) if relation in ">≥" else float(value) <= float(target)
        row(figure[:46], value, target=f"{relation} {target}" if target else "", reached=reached)
    if not sample:
        print("CloudPhysics requests: not measured, set BENCH_VSCSI to a vscsi trace")


def section_record():
    heading("Recording 4 KiB reads and writes of a memory-backed file: what a call costs more than an unrecorded one")
    attempt("recorded", record_cost)
    attempt("loss", record_loss)


def call_costs(*prefix, calls=2_000_000):
    """Nanoseconds per call of each kind, recorded by whatever stands before the program."""
    output = run([*prefix, programs("record-cost"), calls]).output
    return {kind: float(ns) for kind, ns in re.findall(r"(pread|pwrite|read) ([0-9.]+) ns", output)}


def recording(*options):
    return [tool("trace-record"), "run", "--force", "-o", path("cost.iotrace"), *options, "--"]


def record_cost():
    """Many short rounds in turn: what else runs on the machine only adds, so the fastest rounds are compared."""
    plain, recorded, straced = [], [], []
    strace = shutil.which("strace")
    for _ in range(4 * PAIRS):
        plain.append(call_costs(calls=200_000))
        recorded.append(call_costs(*recording("--quiet", "--no-calibration"), calls=200_000))
    for _ in range(PAIRS if strace else 0):  # 3,000 calls of each kind take long enough under strace
        straced.append(call_costs(strace, "-f", "-o", "/dev/null", calls=9_000))
    ns = lambda value: f"{value:.0f} ns"
    for kind in ("pread", "pwrite", "read"):
        fastest = min(p[kind] for p in plain)
        added = min(r[kind] for r in recorded) - fastest
        row(f"added per {kind}, fastest rounds", ns(added), "unrecorded call", ns(fastest),
            spread([r[kind] / p[kind] for r, p in zip(recorded, plain)]), "<= 120 ns", added <= 120)
        middle = statistics.median(r[kind] - p[kind] for r, p in zip(recorded, plain))
        row(f"  median of pairs", ns(middle))
        if straced:
            peer = min(s[kind] for s in straced) - fastest
            row(f"added per {kind}, fastest rounds", ns(added), "strace", ns(peer), f"{added / peer:.4f}")
    if not straced:
        print("strace is not installed: not compared")


def record_loss():
    """Four threads that keep a rate together; every call must be in the trace."""
    threads, calls, rate = 4, 1_000_000, 1_000_000
    finished = run([*recording(), programs("record-cost"), calls, threads, rate])
    info = json.loads(run([tool("trace-record"), "info", "--json", "-", path("cost.iotrace")]).output)
    dropped = info["lost_events"]
    reached = float(re.search(r"calls/s ([0-9.]+)", finished.output).group(1))
    row("events dropped, 4 threads, default ring", count(dropped), "of events", count(info["events"] + dropped), "", "0", dropped == 0)
    row("  calls/s of the four together", count(reached), target=f"{count(rate)} asked")


def stream_trace(size, requests, writes):
    """Requests of one size and one direction."""
    log = path("stream.iolog")
    with open(log, "wb") as output:
        run([programs("generate-iolog"), requests, path("target"), 16 * MIB, size, 100 if writes else 0, 1000], stdout=output)
    trace = import_fio(log, "stream.iotrace")
    os.unlink(log)
    return trace


def beside_receiver(address, size, requests, sender):
    """Runs a sender against the C receiver; the receiver's bytes/s."""
    command = [programs("net-peer"), "receive", address, str(size), str(requests)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as receiver:
        try:
            receiver.stderr.readline()  # it listens
            sender()
            output, _ = receiver.communicate(timeout=300)
        except (NotMeasured, subprocess.TimeoutExpired):
            receiver.kill()
            raise
    result = json.loads(output)
    return result["bytes"] / result["seconds"]


def section_net():
    heading("One stream between two processes of this machine (bytes/s), beside a C sender and receiver of the same sizes")
    rate = lambda value: f"{value / (1 << 30):.2f} GiB/s"
    for kind in ("tcp", "unix"):
        for size, requests in ((4096, REQUESTS), (65536, REQUESTS // 8)):
            attempt(f"{kind}, {size} B", lambda: stream_pairs(kind, size, requests, rate))
    heading(f"NBD: {count(REQUESTS // 4)} reads of 4 KiB at nbdkit's memory plugin (requests/s)")
    for depth in (1, 32):
        attempt(f"nbd, depth {depth}", lambda: nbd_pairs(depth))


def stream_pairs(kind, size, requests, rate):
    address, target = ("tcp:40917", "tcp://127.0.0.1:40917") if kind == "tcp" else (f"unix:{path('s')}",) * 2
    trace = stream_trace(size, requests, writes=True)
    options = ["--engine", "net", "--target", target, "--speed", "max", "--order", "depth", "--workers", "1"]
    peer = lambda: run([programs("net-peer"), "send", address, size, requests])
    try:
        for label, more in (("", ["--no-digest"]), (" with digests", [])):
            rounds = []
            for _ in range(PAIRS):
                rounds.append(
                    tuple(
                        once(address, kind, size, requests, sender)
                        for sender in (lambda: replay(trace, *options, *more), peer)
                    )
                )
            goal = 0.9 if not label else None
            compare(f"{kind}, {size} B, sending{label}", rate, rounds, "C sender", at_least=goal)
    finally:
        os.unlink(trace)


def once(address, kind, size, requests, sender):
    if kind == "unix" and os.path.exists(address[len("unix:"):]):
        os.unlink(address[len("unix:"):])
    return beside_receiver(address, size, requests, sender)


class Server:
    """A program that listens at a Unix socket; it and the socket are gone afterwards."""

    def __init__(self, command, socket):
        self.socket = socket
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.exists(socket):
                break
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        if os.path.exists(self.socket):
            os.unlink(self.socket)


def nbd_pairs(depth):
    need("nbdkit")
    requests = REQUESTS // 4
    log = make_iolog("nbd.iolog", requests, path("target"), 64 * MIB)
    trace = import_fio(log, "nbd.iotrace")
    socket = path("nbd.sock")
    uri = f"nbd+unix:///?socket={socket}"
    options = ["--engine", "nbd", "--target", uri, "--speed", "max", "--order", "depth", "--iodepth", str(depth)]
    with Server(["nbdkit", "-f", "-U", socket, "memory", "64M"], socket):
        rounds = []
        for _ in range(PAIRS):
            report, _ = replay(trace, *options)
            job, _ = fio(log, "--replay_no_stall=1", "--ioengine=nbd", f"--uri={uri}", f"--iodepth={depth}")
            rounds.append((report["run"]["iops"], fio_rate(job)))
        compare(f"nbd, depth {depth}", count, rounds, "fio nbd", at_least=1)
    os.unlink(log)
    os.unlink(trace)


def section_attach():
    heading("Attaching: what a pread of 4 KiB costs more while a recorder is attached to the program")
    attempt("attached", attach_cost)


def attached_cost(make_recorder, ready_s=1.0, seconds_long=1.0):
    """Nanoseconds per call of a program that waits until a recorder is attached; the fastest of many short rounds."""
    start = path("start")
    if os.path.exists(start):
        os.unlink(start)
    with subprocess.Popen([programs("attach-cost"), start, str(seconds_long)], stdout=subprocess.PIPE) as program:
        recorder = None
        try:
            if make_recorder:
                recorder = subprocess.Popen(
                    [str(a) for a in make_recorder(program.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
                time.sleep(ready_s)
                if recorder.poll() is not None:
                    raise NotMeasured(f"{make_recorder(0)[0]} exited with {recorder.returncode}")
            open(start, "w", encoding="utf-8").close()
            output = program.communicate(timeout=120)[0]
        finally:
            program.kill()
            if recorder and recorder.poll() is None:
                recorder.send_signal(signal.SIGINT)
                try:
                    recorder.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    recorder.kill()
                    recorder.wait()
    return float(output)


def attach_cost():
    if os.geteuid() != 0:
        raise NotMeasured("attaching needs root")
    trace = path("attach.iotrace")
    begin = "tracepoint:syscalls:sys_enter_pread64 /pid == PID/ { @s[tid] = nsecs; @o[tid] = args->pos; @n[tid] = args->count; }"
    end = 'tracepoint:syscalls:sys_exit_pread64 /pid == PID/ { printf("%d %d %d %d %d\\n", tid, @s[tid], @o[tid], @n[tid], args->ret); }'
    peers = {
        "strace": (lambda pid: ["strace", "-f", "-o", "/dev/null", "-p", pid], 1.0),
        "bpftrace": (lambda pid: ["bpftrace", "-e", (begin + end).replace("PID", str(pid))], 5.0),
        "trace-cmd": (lambda pid: ["trace-cmd", "record", "-o", path("trace.dat"), "-P", pid, "-e", "syscalls:sys_enter_pread64",
                                   "-e", "syscalls:sys_exit_pread64"], 3.0),
    }
    by = lambda route: lambda pid: [tool("trace-record"), "attach", "--force", "--quiet", "--no-calibration", "-o", trace, "--route", route,
                                    "--pid", pid]
    ours = by("auto")
    plain, attached = [], []
    for _ in range(PAIRS):
        plain.append(attached_cost(None))
        attached.append(attached_cost(ours))
    base = statistics.median(plain)
    ns = lambda value: f"{value:.0f} ns"
    added = [a - p for a, p in zip(attached, plain)]
    middle = statistics.median(added)
    row("added per pread", ns(middle), "unrecorded call", ns(base), spread([a / p for a, p in zip(attached, plain)]), "<= 300 ns",
        middle <= 300)
    print(f"  by route {json.loads(run([tool('trace-record'), 'info', '--json', '-', trace]).output)['metadata']['source']}")
    by_events = statistics.median(attached_cost(by("syscalls")) for _ in range(3)) - base
    row("added per pread", ns(middle), "by --route syscalls", ns(by_events), f"{middle / by_events:.3f}")
    attempt("the kernel's events alone", lambda: attach_floor(base, by_events, ns))
    attempt("what other processes pay", lambda: bystander_cost(base, by, ns))
    for name, (command, ready_s) in peers.items():
        def measure(name=name, command=command, ready_s=ready_s):
            need(name)
            peer = attached_cost(command, ready_s) - base
            row("added per pread", ns(middle), name, ns(peer), f"{middle / peer:.3f}" if peer > 0 else "")
        attempt(f"beside {name}", measure)
    attempt("loss at a high rate", attach_loss)


def attach_floor(base, ours, ns):
    """The same two events of the kernel for the same process, which nobody reads: what no recorder that uses them can be under."""
    instance = "/sys/kernel/tracing/instances/attach-floor"

    def put(name, value):
        with open(os.path.join(instance, name), "w", encoding="utf-8") as file:
            file.write(str(value))

    def command(pid):
        put("set_event_pid", pid)
        for side in ("enter", "exit"):
            put(f"events/syscalls/sys_{side}_pread64/enable", 1)
        return ["sleep", "60"]

    os.mkdir(instance)
    try:
        put("trace_clock", "mono")
        floor = statistics.median(attached_cost(command) for _ in range(3)) - base
    finally:
        put("events/enable", 0)
        os.rmdir(instance)
    row("by --route syscalls", ns(ours), "the two events alone", ns(floor), f"{ours / floor:.3f}")


def bystander_cost(base, by, ns):
    """A program beside the recorded one: the kernel's hooks are for all."""
    with subprocess.Popen(["sleep", "600"]) as recorded:
        try:
            costs = [statistics.median(attached_cost(lambda _: by(route)(recorded.pid)) for _ in range(3)) - base
                     for route in ("auto", "syscalls")]
        finally:
            recorded.kill()
    row("added per pread of others", ns(costs[0]), "by --route syscalls", ns(costs[1]), f"{costs[0] / costs[1]:.3f}")


def attach_loss():
    """400,000 calls/s of four threads for about 3 s: every call is in the trace, or the kernel's counters say that it is not."""
    trace = path("loss.iotrace")
    command = ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.05; done; exec "$@"', path("go"), programs("record-cost"), "300000", "4", "400000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        recorder = subprocess.Popen([tool("trace-record"), "attach", "--force", "--quiet", "-o", trace, "--pid", str(program.pid)])
        time.sleep(1)
        open(path("go"), "w", encoding="utf-8").close()
        output = program.communicate()[0].decode()
        recorder.wait()
    figures = json.loads(run([tool("trace-record"), "info", "--json", "-", trace]).output)["metadata"]["summary"]
    lost = int(figures["kernel_events_lost"])
    row("kernel events lost, default buffers", count(lost), "of events", count(int(figures["kernel_events"]) + lost), "", "0", lost == 0)
    row("  calls/s of the four together", count(float(re.search(r"calls/s ([0-9.]+)", output).group(1))), target="400 k asked")


def section_block():
    heading("Recording a loop device under fio: requests/s with and without")
    attempt("block", block_cost)


def loop_rate(device, recorder=None):
    """Requests/s of 4 KiB direct random reads and writes, queue depth 8, for 2 s."""
    started = None
    if recorder:
        started = subprocess.Popen(
            [str(a) for a in recorder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        if started.poll() is not None:
            raise NotMeasured(f"{os.path.basename(str(recorder[0]))} exited with {started.returncode}")
    try:
        output = run(["fio", "--name=b", f"--filename={device}", "--rw=randrw", "--bs=4k", "--direct=1", "--ioengine=libaio",
                      "--iodepth=8", "--runtime=2", "--time_based", "--output-format=json"]).output
    finally:
        if started:
            started.send_signal(signal.SIGINT)
            started.wait()
    return fio_rate(json.loads(output[output.index("{") :])["jobs"][0])


def block_cost():
    need("fio")
    if os.geteuid() != 0:
        raise NotMeasured("a loop device needs root")
    image = path("image")
    with open(image, "wb") as file:
        file.truncate(64 * MIB)
    device = run(["losetup", "--find", "--show", image]).output.strip()
    try:
        ours = [tool("trace-record"), "block", "--force", "--quiet", "-o", path("block.iotrace"), device]
        rounds = [(loop_rate(device, ours), loop_rate(device)) for _ in range(PAIRS)]
        compare("requests/s, recorded", count, rounds, "unrecorded")

        def beside():
            need("blktrace")
            theirs = ["blktrace", "-d", device, "-D", folder(), "-o", "blktrace"]
            compare("requests/s, recorded", count, [(r[0], loop_rate(device, theirs)) for r in rounds], "blktrace")

        attempt("beside blktrace", beside)
    finally:
        run(["losetup", "--detach", device])


# ----------------------------------------------------------------------------------------------------------------- main


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    load = os.getloadavg()[0]
    name = models[0] if models else os.uname().machine
    return f"{os.cpu_count()} x {name}, Linux {os.uname().release}, load {load:.2f} before the start, {PAIRS} pairs"


def main():
    parser = argparse.ArgumentParser(description="Comparisons with peers.")
    parser.add_argument("--build", required=True, help="folder of trace-record and trace-replay")
    parser.add_argument("--programs", required=True, help="folder of the compiled programs of Benchmarks")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=" ".join(SECTIONS))
    arguments = parser.parse_args()
    unknown = [s for s in arguments.sections if s not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]}; there are: {' '.join(SECTIONS)}")
    work["build"], work["programs"] = arguments.build, arguments.programs
    # Memory-backed unless the user names a place: what is compared is the tools, not a disk.
    base = os.environ.get("TMPDIR") or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="iotrace-bench.", dir=base) as temporary:
        work["folder"] = temporary
        print(machine())
        if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
            print("The machine is busy with something else: rates will be lower, lag higher, and ratios wide.")
        for section in arguments.sections or SECTIONS:
            globals()[f"section_{section}"]()
            for left in glob.glob(path("*")):
                shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
