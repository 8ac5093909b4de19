# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the controller spends on each host of a fleet, beside a plain playbook that puts the same files there.

    python -m benchmarks.rollout [--hosts 10 20 40] [--only ours|plain]

Hosts are containers of this machine, so the seconds on the clock are theirs as well; the CPU seconds are those of the
controller alone: ansible-playbook, its forks, and the ssh clients, which stay behind for the next task.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from benchmarks._measure import BenchmarkError, Cost, Row, failure, main
from lab.hosts import Host, Hosts
from lab.processes import LabError

ROOT = Path(__file__).resolve().parents[2]
FLEETS = (10, 20, 40)
FORKS = 10
RATIO_GOAL = 0.5
GROWTH_GOAL = 1.2
"""What a host may cost in the largest fleet, over what one costs in the smallest."""
SPARE_MIB = 1024
TIMEOUT = 1800.0
"""Seconds for one run of a playbook."""
INOTIFY_EACH = 8
"""Instances that the init of one host, and its services, have open; 7 were counted."""
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_PR_SET_CHILD_SUBREAPER = 36
_CLEAN = """
systemctl disable --now degraded-detection.timer || true
systemctl stop degraded-detection.service || true
rm -rf /etc/custodes /usr/local/bin/custodes /var/lib/custodes /var/log/security
rm -f /etc/systemd/system/degraded-detection.*
systemctl daemon-reload
"""
_TOKEN = "for-measuring-only"
_CONFIG = {
    "delivery": {
        "destinations": [{"name": "nobody", "url": "https://localhost:9/", "token_credential": "webhook"}],
    },
}
_UNITS = {
    "degraded-detection.service": """\
[Unit]
Description=Look for the signs of an intruder
[Service]
Type=oneshot
ExecStart=/usr/local/bin/custodes detect --run
LoadCredential=webhook:/etc/custodes/credentials/webhook
TimeoutStartSec=4min
MemoryMax=256M
ProtectSystem=strict
ReadWritePaths=/var/lib/custodes /var/log/security
NoNewPrivileges=yes
""",
    "degraded-detection.timer": """\
[Unit]
Description=Look for the signs of an intruder every five minutes
[Timer]
OnBootSec=1min
OnCalendar=*:0/5
RandomizedDelaySec=30
AccuracySec=1
[Install]
WantedBy=timers.target
""",
}


@dataclass(frozen=True)
class Side:
    """A playbook with its variables: those of the group `fleet`, and those of the play, which come by -e."""

    name: str
    playbook: Path
    variables: dict[str, object]
    extra: dict[str, object]


@dataclass(frozen=True)
class Rollout:
    """One run over a fleet.

    Attributes:
        cpu: seconds of the controller.
        seconds: on the clock.
        changed: tasks that changed something, of all hosts.
        tasks: that ran for a host, the most.
        modules: that ran on the first host, as root.
    """

    cpu: float
    seconds: float
    changed: int
    tasks: int
    modules: int


class Controller:
    """Runs playbooks, and counts the CPU seconds of all that comes of it: ssh's masters outlive ansible-playbook."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self._folder = folder
        self._hosts = hosts
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self, side: Side, fleet: Sequence[Host]) -> Rollout:
        """One run. Raises BenchmarkError, with the end of its output, when it fails."""
        inventory = self._folder / "inventory.json"
        hosts = {host.name: self._hosts.connection(host) for host in fleet}
        inventory.write_text(json.dumps({"fleet": {"hosts": hosts, "vars": side.variables}}))
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(self._folder / "ansible"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv" / "collections"),
            "ANSIBLE_FORKS": str(FORKS),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._folder / "cp"),
            "ANSIBLE_NOCOLOR": "true",
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        modules = self._modules(fleet[0])
        before, began = os.times(), time.perf_counter()
        finished = subprocess.run(
            [str(program), "--inventory", str(inventory), "--extra-vars", json.dumps(side.extra), str(side.playbook)],
            env=environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        seconds = time.perf_counter() - began
        _end_orphans()
        after = os.times()
        if finished.returncode != 0:
            how = f"ended with exit status {finished.returncode}"
            raise BenchmarkError(failure(side.name, how, seconds, finished.stdout))
        recap = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)", finished.stdout, re.MULTILINE)
        rows = [(int(ok), int(changed)) for name, ok, changed in recap if name in hosts]
        return Rollout(
            after.children_user + after.children_system - before.children_user - before.children_system,
            seconds,
            sum(changed for _ok, changed in rows),
            max(ok for ok, _changed in rows),
            self._modules(fleet[0]) - modules,
        )

    def clean(self, fleet: Sequence[Host]) -> None:
        """Remove what a side has put on the hosts."""
        for host in fleet:
            self._hosts.run(host.name, "sh", "-c", _CLEAN)

    def _modules(self, host: Host) -> int:
        """How often Ansible has become root on a host: sudo notes each time."""
        told = self._hosts.run(host.name, "sh", "-c", "journalctl --quiet --no-pager _COMM=sudo || true")
        return told.count("BECOME-SUCCESS")


def _end_orphans() -> None:
    """End the ssh clients that were left behind, each by its id: only then are their CPU seconds counted."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    for pid in map(int, children.read_text().split()):
        with contextlib.suppress(OSError):
            alive = Path(f"/proc/{pid}/cmdline").read_bytes()
            if alive.startswith(b"ssh"):
                os.kill(pid, signal.SIGTERM)
            # What has ended has no command line any more.
            if alive.startswith(b"ssh") or not alive:
                os.waitpid(pid, 0)


def ours(folder: Path) -> Side:
    # In one batch, as the other side.
    extra: dict[str, object] = {
        "host_detection_hosts": "fleet",
        "host_detection_batches": ["100%"],
        "host_detection_rollout_directory": str(folder / "rollout"),
    }
    variables: dict[str, object] = {
        "host_detection_delivery": _CONFIG["delivery"],
        "host_detection_credentials": {"webhook": _TOKEN},
    }
    return Side("deploy-host-detection.yml", ROOT / "playbooks" / "deploy-host-detection.yml", variables, extra)


def plain(folder: Path) -> Side:
    files = folder / "files"
    files.mkdir()
    (files / "custodes").write_bytes(zipapp.build("/usr/bin/python3"))
    (files / "detect.json").write_text(json.dumps(_CONFIG))
    for name, content in _UNITS.items():
        (files / name).write_text(content)
    variables: dict[str, object] = {"plain_files": str(files), "plain_token": _TOKEN}
    return Side("the plain playbook", Path(__file__).with_name("rollout_plain.yml"), variables, {})


def available_mib() -> int:
    """Memory that is left."""
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) // 1024


@contextlib.contextmanager
def room_for(hosts: int) -> Iterator[None]:
    """Raise a limit of this machine while it lasts: by default, no more than 20 systemds find it enough.

    Raises LabError where that takes another user.
    """
    before, needed = int(_INOTIFY.read_text()), 128 + INOTIFY_EACH * hosts
    if before >= needed:
        yield
        return
    line = f"sysctl fs.inotify.max_user_instances={needed}"
    try:
        _INOTIFY.write_text(str(needed))
    except OSError as error:
        raise LabError(f"{hosts} hosts need more of this machine's kernel: sudo {line}") from error
    print(f"until the end: {line} (it was {before})", flush=True)
    try:
        yield
    finally:
        _INOTIFY.write_text(str(before))


def rollouts(
    hosts: Hosts, folder: Path, sides: Sequence[Side], fleets: Sequence[int]
) -> dict[tuple[str, int], Rollout]:
    """Each side over each fleet, twice: a first run on clean hosts, and a second one. Prints a line for each.

    Returns the first runs. Raises LabError when there is too little memory for it.
    """
    if available_mib() < SPARE_MIB:
        raise LabError(f"less than {SPARE_MIB} MiB of memory are left: give fewer --hosts")
    controller = Controller(folder, hosts)
    first = {}
    for size in fleets:
        for side in sides:
            fleet = hosts.hosts[:size]
            controller.clean(fleet)
            for number in ("first", "second"):
                run = controller.run(side, fleet)
                print(
                    f"  {side.name}, {size} hosts, {number} run: {run.cpu / size:.2f} CPU seconds of the controller a "
                    f"host, {run.seconds / size:.2f} s a host on the clock ({run.seconds:.0f} s in all), "
                    f"{run.tasks} tasks and {run.modules} modules on a host, changed={run.changed}",
                    flush=True,
                )
                if number == "first":
                    first[side.name, size] = run
                elif run.changed:
                    raise BenchmarkError(f"{side.name}: a second run changes {run.changed} things, instead of none")
    return first


def rows(first: dict[tuple[str, int], Rollout], sides: Sequence[Side], fleets: Sequence[int]) -> Iterator[Row]:
    """How the cost grows, and the ratio of the sides."""
    size = fleets[-1]
    costs = {side.name: Cost(first[side.name, size].seconds, first[side.name, size].cpu) for side in sides}
    if len(sides) == 2:
        own, other = (first[side.name, size].cpu for side in sides)
        what = f"roll-out to {size} hosts, CPU of the controller vs a plain playbook"
        yield Row(what, own / other, "x", RATIO_GOAL, ours=costs[sides[0].name], theirs=costs[sides[1].name])
    for side in sides:
        each = [first[side.name, size].cpu / size for size in fleets]
        what = f"{side.name}, CPU for each of {size} hosts vs each of {fleets[0]}"
        # The growth of the other side is no goal of ours.
        yield Row(what, each[-1] / each[0], "x", GROWTH_GOAL if side is sides[0] else None)


def measure() -> Iterator[Row]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", nargs="+", type=int, default=FLEETS, help="sizes of the fleets, ascending")
    parser.add_argument("--only", choices=("ours", "plain"), help="one side only")
    options = parser.parse_args()
    fleets = sorted(options.hosts)
    # Short: the path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="custodes-"))
    folder.chmod(0o700)
    try:
        sides = [ours(folder)] if options.only != "plain" else []
        sides += [plain(folder)] if options.only != "ours" else []
        left = available_mib()
        names = [f"host-{number}" for number in range(1, fleets[-1] + 1)]
        with room_for(fleets[-1]), Hosts(folder / "hosts", names) as hosts:
            used = left - available_mib()
            print(f"{fleets[-1]} hosts take {used} MiB, {used / fleets[-1]:.0f} MiB each", flush=True)
            first = rollouts(hosts, folder, sides, fleets)
        yield from rows(first, sides, fleets)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(measure))
