#!/usr/bin/env python3
"""Records programs as they run in production, counts them by the kernel, and replays each trace on its recorded schedule.

    production.py --build .build/release [--seconds 20] [NAME …]

Needs root. Names: postgres, redis, sqlite3, fio-libaio, fio-io_uring, static; all of them unless named. Everything is made below a
temporary folder and on loop devices of its own, which are removed at the end.
"""
import argparse
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ARGUMENTS = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ARGUMENTS.add_argument("--build", required=True)
ARGUMENTS.add_argument("--seconds", type=int, default=20)
ARGUMENTS.add_argument("names", nargs="*")
OPTIONS = ARGUMENTS.parse_args()
FOLDER = tempfile.mkdtemp(prefix="production.", dir="/var/tmp")
IMAGE_BYTES = 2 << 30


def tool(name):
    return os.path.join(os.path.abspath(OPTIONS.build), name)


def path(name):
    return os.path.join(FOLDER, name)


def run(*words, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]}: {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is not installed")


@contextlib.contextmanager
def recording(command, *words):
    """A recorder that has begun; ended when the block is left. Gives the trace's path."""
    trace = path(f"{command}-{time.monotonic_ns()}.iotrace")
    recorder = subprocess.Popen(
        [tool("trace-record"), command, "--no-calibration", "-o", trace, *[str(w) for w in words]], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    recorder.stderr.readline()  # it says when it has begun
    if recorder.poll() is not None:
        raise RuntimeError(f"{command}: ended with {recorder.returncode}")
    try:
        yield trace
        time.sleep(0.5)
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.communicate(timeout=120)


@contextlib.contextmanager
def loop_device(name):
    image = path(name)
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)
        os.unlink(image)


@contextlib.contextmanager
def mounted(device):
    run("mkfs.ext4", "-q", "-F", device)
    point = path("mnt")
    os.makedirs(point, exist_ok=True)
    run("mount", device, point)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=False)


def milliseconds(nanoseconds):
    return f"{nanoseconds / 1e6:.3f}" if nanoseconds is not None else "-"


def show_counts(name, trace):
    """What was recorded, beside the kernel's own counters as the trace's ledger has them."""
    info = json.loads(run(tool("trace-record"), "info", "--json", "-", trace))
    print(f"\n{name}: {info['events']} events, {info['lost_events']} lost, {info['size_bytes'] / max(1, info['events']):.1f} bytes each")
    # Of processes that have ended the kernel has no counters any more.
    for row in [row for row in info["metadata"]["ledger"]["coverage"] if row["kernel"] is not None]:
        word = "equal" if row["recorded"] == row["kernel"] else row["explanation"] or "not explained"
        print(f"  {row['source']} {row['counter']}: {row['recorded']} recorded, {row['kernel']} by the kernel, {row['unit']}: {word}")
    return info


def stolen_seconds():
    """CPU time that the hypervisor gave to others, of all CPUs together (proc(5), steal)."""
    with open("/proc/stat", encoding="ascii") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def replay(trace, engine, *options):
    """One replay on the recorded schedule: verdict, lag, and recorded beside replayed latencies. - Returns: whether it was faithful."""
    report = path("report.json")
    stolen = stolen_seconds()
    done = subprocess.run(
        [tool("trace-replay"), "run", trace, "--engine", engine, "--quiet", "--force", "--json", report, *options], cwd=FOLDER,
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0 and not os.path.exists(report):
        print(f"  {engine}: {done.stderr.strip()[-300:]}")
        return True
    with open(report, encoding="utf-8") as file:
        result = json.load(file)
    os.unlink(report)
    fidelity, run_, lag = result["fidelity"], result["run"], result["latency"]["lag"]
    if run_["requests"] == 0:
        print(f"  {engine}: nothing to replay: " + ", ".join(f"{row['requests']} {row['reason']}" for row in fidelity["not_replayed"]))
        return True
    reasons = "".join(f" ({r})" for r in fidelity["reasons"])
    print(f"  {engine}: {fidelity['verdict']}{reasons}; {run_['requests']} requests, {run_['errors']} errors, "
          f"lag p50 {milliseconds(lag['p50_ns'])} p99 {milliseconds(lag['p99_ns'])} ms, late {100 * fidelity['late_share']:.2f} %, "
          f"{stolen_seconds() - stolen:.2f} s stolen by the host in {run_['elapsed_ns'] / 1e9:.1f} s")
    for line in done.stdout.splitlines():
        if line.startswith("recorded"):
            print(f"    {line}")
    return fidelity["verdict"] == "faithful"


def replays(trace, device=None):
    scratch = ["--scratch", FOLDER]
    for engine in ("sync", "io_uring"):
        # What a neighbour of this machine takes makes requests late: io_uring, which can follow every schedule, may try again, and
        # each attempt is shown. One request at a time can't follow where several were in flight.
        for _ in range(3 if engine == "io_uring" else 1):
            if replay(trace, engine, *(["--target", device, "--allow-writes"] if device else scratch)):
                break


# MARK: PostgreSQL

def postgres():
    need("pgbench", "setpriv", "mkfs.ext4", "losetup")
    base = "/usr/lib/postgresql"
    programs = os.path.join(base, sorted(os.listdir(base))[-1], "bin")
    account = pwd.getpwnam("postgres")

    def server(*words, folder):
        return run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words, cwd=folder)

    os.chmod(FOLDER, 0o755)
    with loop_device("postgres.img") as device, mounted(device) as point:
        os.chown(point, account.pw_uid, account.pw_gid)
        data = os.path.join(point, "d")
        server(f"{programs}/initdb", "-D", data, "-A", "trust", "--no-sync", folder=point)
        start = ["-D", data, "-o", f"-c listen_addresses='' -k {point}", "-l", f"{point}/log", "-w"]
        server(f"{programs}/pg_ctl", *start, "start", folder=point)
        try:
            server("pgbench", "-i", "-q", "-s", "10", "-h", point, "postgres", folder=point)
            with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
                postmaster = file.readline().strip()
            benchmark = ["pgbench", "-c", "2", "-T", str(OPTIONS.seconds), "-h", point, "postgres"]
            with recording("attach", "--pid", postmaster) as files:
                server(*benchmark, folder=point)
            with recording("block", device) as blocks:
                server(*benchmark, folder=point)
                os.sync()
        finally:
            subprocess.run(
                ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", f"{programs}/pg_ctl", "-D", data, "-m", "fast", "-w",
                 "stop"], cwd=point, check=False, capture_output=True)
    show_counts("postgres, attached to the server under pgbench", files)
    replays(files)
    show_counts("postgres, its device under pgbench", blocks)
    with loop_device("target.img") as target:
        replays(blocks, target)


# MARK: Others

def attached(name, words, drive):
    """Attaches to a program before it goes on, and records it while `drive` runs."""
    gate = path("gate")
    if os.path.exists(gate):
        os.unlink(gate)
    wait = f'while [ ! -e "{gate}" ]; do sleep 0.02; done; exec "$@"'
    program = subprocess.Popen(["sh", "-c", wait, "sh", *words], cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with recording("attach", "--pid", program.pid) as trace:
        with open(gate, "w", encoding="utf-8"):
            pass
        drive(program)
    show_counts(name, trace)
    replays(trace)


def redis():
    need("redis-server", "redis-benchmark")
    socket = path("redis.sock")

    def drive(program):
        for _ in range(200):
            if os.path.exists(socket):
                break
            time.sleep(0.05)
        run("redis-benchmark", "-s", socket, "-t", "set", "-n", "20000", "-c", "4", "-q")
        program.terminate()
        program.wait(timeout=30)

    attached("redis-server, appendfsync always, under redis-benchmark",
             ["redis-server", "--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--appendfsync", "always", "--dir", FOLDER], drive)


def finishing(program):
    program.wait(timeout=300)


def sqlite3():
    need("sqlite3")
    inserts = "".join(f"insert into t values({i}, 'row {i}');" for i in range(3000))
    attached("sqlite3, 3,000 inserts, each a transaction",
             ["sqlite3", path("x.db"), "create table t(a integer primary key, b text);" + inserts], finishing)


def fio(engine):
    need("fio", "losetup")
    with loop_device("fio.img") as device:
        with recording("block", device) as trace:
            output = run("fio", "--name=x", f"--filename={device}", "--rw=randrw", "--bs=4k", "--direct=1", "--rate_iops=1000,1000",
                         "--iodepth=8", f"--ioengine={engine}", f"--runtime={OPTIONS.seconds // 2}", "--time_based", "--output-format=json")
    job = json.loads(output[output.index("{"):])["jobs"][0]
    show_counts(f"fio, {engine}, O_DIRECT on a device", trace)
    print(f"  fio counts {job['read']['total_ios']} reads of {job['read']['io_bytes']} bytes, "
          f"{job['write']['total_ios']} writes of {job['write']['io_bytes']} bytes")
    with loop_device("target.img") as target:
        replays(trace, target)


def static():
    need("busybox")
    with open(path("source"), "wb") as file:
        file.write(os.urandom(64 << 20))
    attached("busybox dd, linked statically", ["busybox", "dd", f"if={path('source')}", f"of={path('copy')}", "bs=64k", "conv=fsync"], finishing)


SECTIONS = {
    "postgres": postgres, "redis": redis, "sqlite3": sqlite3, "fio-libaio": lambda: fio("libaio"), "fio-io_uring": lambda: fio("io_uring"),
    "static": static,
}


def main():
    if os.geteuid() != 0:
        sys.exit("production.py: recording what already runs needs root")
    try:
        for name in OPTIONS.names or SECTIONS:
            try:
                SECTIONS[name]()
            except (RuntimeError, KeyError, OSError) as error:
                print(f"\n{name}: not measured: {error}")
            sys.stdout.flush()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


main()
