# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure one scan of a host with 400 processes, as the service runs it, beside detect.sh, the script of an operator.

    python -m benchmarks.detect

Both ask the same two servers on loopback. Then the CPU seconds of scanning 5,000 processes and 2,000 listeners, out of
a tree that looks like /proc. As another user than root, both see less.

Root measures in a PID namespace of its own. The scan, and not the script, also looks at the networks of containers and
asks more about processes in which it finds something: what else runs on the machine would count on one side alone.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from benchmarks._measure import BenchmarkError, Row, cpu_ratio, main, note, ratio, run
from lab.pki import Authority
from lab.processes import spawn
from lab.receiver import Receiver

RATIO_GOAL = 1.0
RSS_GOAL = 30  # MiB
CPU_GOAL = 1.0  # seconds
RUNS = 31
PROCESSES = 400
MANY_PROCESSES, MANY_LISTENERS = 5000, 2000
SCRIPT = Path(__file__).with_name("detect.sh")
ISOLATED = ["-I", "-S"]
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
INSIDE = "BENCHMARK_IN_NAMESPACE"
"""Environment variable of the process in the namespace."""

# Of the scan's process and of its children, each as it ends. Not ru_maxrss, which begins with the memory of the
# process that forked.
_PEAK = """
import os, runpy, sys
end = os._exit
def told(code):
    status = open("/proc/self/status", "rb").read()
    os.write(1, b"PEAK %s\\n" % status.partition(b"VmHWM:")[2].split()[0])
    end(code)
os._exit = told
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_MANY = """
import datetime, resource, sys
sys.path.insert(0, sys.argv[1])
from custodes.detection import listeners, processes, procfs
today = datetime.date.today().isoformat()
proc = procfs.Proc(sys.argv[2])
found = [
    processes.scan(proc, processes.Options.from_config({})),
    listeners.scan(proc, listeners.Options.from_config({}, today)),
]
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, *(len(scan.findings) for scan in found), *(len(scan.blind) for scan in found))
"""


def host_python() -> str:
    """The Python that a host's service is run by, not the one of .venv."""
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.executable).parent
    )
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else shutil.which("python3", path=path) or ""


@contextmanager
def busy_host(folder: Path) -> Iterator[None]:
    """Sleeping processes, until there are PROCESSES of them in all; each is ended by its id."""
    sleep = shutil.which("sleep") or "sleep"
    there = sum(one.name.isdigit() for one in Path("/proc").iterdir())
    with (folder / "sleepers.log").open("wb") as log:
        sleepers = [
            spawn([sleep, "3600"], log, env={"PATH": os.defpath}, cwd=folder) for _unused in range(there, PROCESSES)
        ]
    try:
        yield
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()


def config(folder: Path, server: str, ca_file: Path) -> Path:
    """The agent's configuration file."""
    file = folder / "detect.json"
    content = {
        "state_directory": str(folder / "state"),
        "log_directory": str(folder / "log"),
        # As on a host where nothing is amiss; the script asks for the owner of every listener, allowed or not.
        "listeners": {"allowed": [{"port": "1-65535", "reason": "this machine's own"}]},
        "infrastructure": {
            "log_store": {"type": "loki", "url": server, "ca_cert": str(ca_file)},
            "vault": [{"name": "vault", "url": server, "ca_cert": str(ca_file)}],
        },
    }
    file.write_text(json.dumps(content))
    file.chmod(0o600)
    for name in ("state", "log"):
        (folder / name).mkdir(mode=0o700)
    return file


def side_by_side(folder: Path, agent: Path) -> Iterator[Row]:
    """Run a scan and the script, in turns."""
    authority = Authority(folder / "pki")
    with Receiver(certificate=authority.issue("server")) as server, busy_host(folder):
        server.answer("v1/sys/health", body={"initialized": True, "sealed": False, "standby": False})
        server.answer("ready")
        file = config(folder, server.https, authority.ca_file)
        arguments = [str(agent), "detect", "--run", "--config", str(file)]
        baseline = folder / "baseline"
        baseline.touch()
        environment = {
            "BASELINE": str(baseline),
            "ALERTS": str(folder / "alerts"),
            "VAULT": server.https,
            "LOKI": server.https,
            "CACERT": str(authority.ca_file),
        }
        pairs = []
        for number in range(RUNS + 1):
            # In turns of ours, theirs, theirs, ours: a run is slower after one of the other side.
            script = run(["sh", str(SCRIPT)], environment) if number % 2 else None
            pairs.append((run(arguments), script or run(["sh", str(SCRIPT)], environment)))
        # The first one writes the baseline, and Python's and the kernel's caches are cold.
        del pairs[0]
        lines = run([host_python(), *ISOLATED, "-c", _PEAK, *arguments]).output.splitlines()
        peaks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("PEAK ")]
    row = ratio(f"scan of a host with {PROCESSES} processes vs a shell script", pairs, RATIO_GOAL)
    yield row
    yield cpu_ratio(row)
    yield Row(f"scan, peak memory of the largest of its {len(peaks)} processes", max(peaks), "MiB", RSS_GOAL)


def many(folder: Path, agent: Path) -> Iterator[Row]:
    """Run the scanners on a tree that looks like /proc."""
    proc = folder / "proc"
    make_proc(proc)
    told = [run([host_python(), *ISOLATED, "-c", _MANY, str(agent), str(proc)]).output.split() for _one in range(3)]
    seconds = statistics.median(float(row[0]) for row in told)
    findings, blind = tuple(map(int, told[0][1:3])), tuple(map(int, told[0][3:5]))
    if findings != (0, MANY_LISTENERS) or any(blind):
        raise BenchmarkError(f"processes and listeners have {findings} findings and {blind} blind spots")
    yield Row(f"scan of {MANY_PROCESSES} processes and {MANY_LISTENERS} listeners", seconds, "s of CPU", CPU_GOAL)


def make_proc(proc: Path) -> None:
    """A tree that looks like /proc on a large host: every process has some files open, and 2,000 listen."""
    net = proc / "net"
    net.mkdir(parents=True)
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    tail = "00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0000 100 0 0 10 0\n"
    listening = [
        f"{number:4}: 00000000:{10000 + number:04X} " + tail.format(state="0A", inode=500000 + number)
        for number in range(MANY_LISTENERS)
    ]
    (net / "tcp").write_text(head + "".join(listening))
    for name in ("tcp6", "udp", "udp6"):
        (net / name).write_text(head)
    (proc / "stat").write_text("btime 1700000000\n")
    (proc / "uptime").write_text("100000.00 200000.00\n")
    ports = proc / "sys" / "net" / "ipv4"
    ports.mkdir(parents=True)
    (ports / "ip_local_port_range").write_text("32768\t60999\n")
    (proc / "self").symlink_to("1")
    for number in range(MANY_PROCESSES):
        pid = 1 + number
        folder = proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "ns").mkdir()
        name = f"worker-{number % 50}"
        # Fields 9 to 21 and 23 to 52; the 22nd is when it started.
        stat = f"{pid} ({name}) S 1 {pid} {pid} 0 -1 {'0 ' * 13}{1000 + number}{' 0' * 30}\n"
        (folder / "stat").write_text(stat)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_bytes(f"/usr/sbin/{name}\0--number\0{number}\0".encode())
        (folder / "status").write_text(f"Name:\t{name}\nState:\tS\nPid:\t{pid}\nPPid:\t1\nUid:\t0\t0\t0\t0\n")
        (folder / "mountinfo").write_text("22 1 0:20 / /proc rw,nosuid - proc proc rw\n")
        (folder / "cgroup").write_text(f"0::/system.slice/{name}.service\n")
        for link, target in (("exe", f"/usr/sbin/{name}"), ("cwd", "/"), ("root", "/")):
            (folder / link).symlink_to(target)
        for kind in ("mnt", "net", "pid"):
            (folder / "ns" / kind).symlink_to(f"{kind}:[4026531840]")
        for descriptor in range(6):
            (folder / "fd" / str(descriptor)).symlink_to(f"/var/log/{name}")
        if number < MANY_LISTENERS:
            (folder / "fd" / "6").symlink_to(f"socket:[{500000 + number}]")


def enter_namespace() -> None:
    """Run this program in a PID namespace of its own and end, where this user may make one."""
    if INSIDE in os.environ:
        return
    if os.geteuid() == 0 and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0:
        command = [*NAMESPACE, sys.executable, "-m", "benchmarks.detect"]
        sys.exit(subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode)
    note("detect: without a PID namespace of its own, which takes root: other processes of this machine count")


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="custodes-detect-") as name:
        folder = Path(name)
        agent = folder / "custodes"
        agent.write_bytes(zipapp.build(host_python()))
        agent.chmod(0o755)
        yield from side_by_side(folder, agent)
        yield from many(folder, agent)


if __name__ == "__main__":
    enter_namespace()
    sys.exit(main(measure))
