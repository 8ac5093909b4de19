# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes are told about: by a /proc made of files, and by real processes of this machine."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import processes
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding, Scan
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.processes import Options
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.procfs import Proc
from lab.processes import wait_for
from unit.detection.proc_tree import ID, KERNEL_THREAD, Tree

PEER = ("203.0.113.9", 3333)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "proc")


def scan(tree: Tree, **config: Any) -> Scan:
    return processes.scan(tree.proc(), Options.from_config(config))


def only(tree: Tree, **config: Any) -> Finding:
    result = scan(tree, **config)
    assert result.blind == []
    assert len(result.findings) == 1, result.findings
    return result.findings[0]


def test_an_innocent_host_has_no_findings(tree: Tree) -> None:
    for pid, comm in ((2, "kthreadd"), (3, "kworker/0:1"), (4, "ksoftirqd/0"), (5, "kswapd0"), (6, "kworker/R-rcu_gp")):
        tree.process(pid, comm, None, ppid=2, flags=KERNEL_THREAD)
    tree.process(60, "(sd-pam)", "/usr/lib/systemd/systemd", ["(sd-pam)"])
    tree.process(61, "sshd", "/usr/sbin/sshd", ["sshd: xmrig [priv]"])
    tree.process(62, "celery", "/usr/bin/python3", ["[celery] worker"])
    tree.process(63, "python3", "/usr/bin/python3", ["[celeryd: a@b:MainProcess] -active-"])
    tree.process(64, "postgres", "/usr/lib/postgresql/bin/postgres", ["postgres: xmrig db [local] idle"])
    tree.process(65, "nginx", "/usr/sbin/nginx", ["nginx: worker process"])
    tree.process(66, "ksmtuned", "/usr/bin/bash", ["/bin/bash", "/usr/sbin/ksmtuned"])
    tree.process(67, "tmpreaper", "/usr/sbin/tmpreaper", ["tmpreaper", "/tmp/x"])
    tree.process(68, "netns", "/usr/bin/netns", ["netns"])
    tree.process(69, "x", "/tmpfiles/x", ["x"])
    tree.process(70, "grep", "/usr/bin/grep", ["grep", "stratum+tcp://pool.example:3333", "x"])
    tree.socket("tcp", ("10.0.0.1", 45700), 9, peer=("10.0.0.2", 5432))
    tree.socket("tcp", ("127.0.0.1", 45701), 10, peer=("127.0.0.1", 3333))
    assert scan(tree) == Scan([], [])


@pytest.mark.parametrize(
    ("comm", "exe", "command"),
    [
        ("xmrig", "/opt/a", ["a"]),
        ("a", "/opt/xmrig", ["a"]),
        ("a", "/opt/a", ["./xmrig", "-c", "x"]),
        ("a", "/opt/a", ["xmrig -c x"]),
        ("ld-linux-x86-64", "/usr/lib/ld-linux-x86-64.so.2", ["ld.so", "--inhibit-cache", "/opt/xmrig"]),
    ],
)
def test_a_miner_by_name(tree: Tree, comm: str, exe: str, command: list[str]) -> None:
    tree.process(60, comm, exe, command, uid=33)
    finding = only(tree)
    assert (finding.rule, finding.severity, finding.subject) == ("process.miner_name", "critical", exe)
    assert finding.key == ("", exe, "33")
    assert finding.evidence["pids"] == [60]
    assert (finding.evidence["user"], finding.evidence["exe"]) == ("www", exe)


def test_a_miner_by_its_arguments(tree: Tree) -> None:
    tree.process(60, "nginx", "/usr/sbin/nginx", ["nginx", "-o", "stratum+tcp://h:443", "-p", "sesame"])
    finding = only(tree)
    assert finding.rule == "process.miner_arguments"
    assert finding.evidence["matched"] == "-o stratum+tcp://h:443"
    assert finding.evidence["command"] == "nginx -o stratum+tcp://h:443 -p ***"


def test_the_arguments_of_those_who_started_the_scan_are_left_out(tree: Tree) -> None:
    tree.process(49, "sh", "/bin/dash", ["pssh", "stratum+tcp://h:443"], ppid=1)
    shutil.rmtree(tree.root / "50")
    tree.process(50, "custodes", "/usr/bin/python3", ["custodes", "stratum+tcp://h:443"], ppid=49)
    tree.mounts()
    assert scan(tree).findings == []
    tree.process(51, "sh", "/bin/dash", ["pssh", "stratum+tcp://h:443"], ppid=49)
    assert only(tree).evidence["pids"] == [51]


def test_who_reads_for_an_argument_is_trusted_by_its_path_on_the_host(tree: Tree) -> None:
    tree.process(60, "grep", "/usr/bin/grep", ["grep", "stratum+tcp://h:443"])
    assert scan(tree).findings == []
    tree.process(61, "grep", "/usr/bin/grep", ["grep", "stratum+tcp://h:443"], user=2)
    assert only(tree).subject == "user namespace: /usr/bin/grep"


def test_alike_processes_are_one_finding_whatever_their_ids(tree: Tree) -> None:
    for pid in (60, 61, 62):
        tree.process(pid, "xmrig", "/opt/xmrig", ["xmrig"])
    tree.process(63, "xmrig", "/opt/xmrig", ["xmrig"], uid=33)
    first, second = scan(tree).findings
    assert (first.evidence["pids"], second.evidence["pids"]) == ([60, 61, 62], [63])
    assert first.fingerprint != second.fingerprint
    for pid in (60, 61, 62, 63):
        shutil.rmtree(tree.root / str(pid))
    tree.process(99, "xmrig", "/opt/xmrig", ["xmrig"])
    assert only(tree).fingerprint == first.fingerprint


def test_a_deleted_program(tree: Tree, tmp_path: Path) -> None:
    tree.process(60, "nginx", "/usr/sbin/nginx (deleted)", ["nginx"])
    finding = only(tree)
    assert (finding.rule, finding.severity) == ("process.deleted_executable", "medium")
    assert finding.subject == "/usr/sbin/nginx (deleted)"


def test_a_program_whose_file_is_named_deleted(tree: Tree, tmp_path: Path) -> None:
    program = tmp_path.parent / "x (deleted)"
    program.write_text("")
    folder = tree.process(60, "x", str(program), ["x"])
    (folder / "root").symlink_to("/")
    found = {one.rule for one in scan(tree, defaults=False).findings}
    program.unlink()
    assert found == set()


def test_a_program_in_memory(tree: Tree) -> None:
    tree.process(60, "a", "/memfd:a (deleted)", ["a"])
    assert (only(tree).rule, only(tree).severity) == ("process.memfd_executable", "critical")


def test_a_container_runtime_copies_itself_to_memory(tree: Tree) -> None:
    tree.process(60, "runc:[2:INIT]", "/memfd:runc_cloned:/proc/self/exe (deleted)", ["runc", "init"])
    assert (only(tree).rule, only(tree).severity) == ("process.memfd_executable", "low")


@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm", "/run/user/1000", "/dev/shm/.x"])
def test_a_program_in_a_temporary_folder(tree: Tree, folder: str) -> None:
    tree.process(60, "a", f"{folder}/a", ["a"])
    assert (only(tree).rule, only(tree).severity) == ("process.temporary_executable", "high")


def test_a_program_in_a_temporary_folder_by_way_of_the_loader(tree: Tree) -> None:
    tree.process(60, "ld-musl", "/lib/ld-musl-x86_64.so.1", ["ld", "--library-path", "/lib", "/tmp/a"])
    finding = only(tree)
    assert finding.rule == "process.temporary_executable"
    assert finding.evidence["matched"] == "/tmp/a"


@pytest.mark.parametrize(
    ("rule", "exe", "severity"),
    [
        ("process.temporary_executable", "/tmp/a", "medium"),
        ("process.deleted_executable", "/a (deleted)", "low"),
        ("process.miner_name", "/xmrig", "critical"),
    ],
)
def test_in_a_container_a_path_is_another(tree: Tree, rule: str, exe: str, severity: str) -> None:
    for pid, first in ((60, "a"), (61, "b")):
        cgroup = f"/kubepods/burstable/pod1/{first}{ID[1:]}"
        tree.process(pid, "a", exe, ["a"], uid=33, cgroup=cgroup, inside=7)
    finding = only(tree)
    assert (finding.rule, finding.severity) == (rule, severity)
    assert finding.subject == f"container: {exe}"
    assert finding.key == ("container", exe, "33")
    assert finding.evidence["containers"] == ["kubepods a123456789ab", "kubepods b123456789ab"]
    assert (finding.evidence["user"], finding.evidence["pid_in_container"]) == ("33", 7)


@pytest.mark.parametrize(
    "name",
    [
        *("[kworker/0:1]", "kworker/u8:2-events", "ksoftirqd/0", "[kthreadd]", "kswapd0", " [netns]"),
        *("[ata_sff]", "[loop0]", "[md0_raid1]", "[psimon]", "[kdmflush/253:0]", "[vhost-42]"),
    ],
)
@pytest.mark.parametrize("as_title", [False, True])
def test_what_plays_the_kernel(tree: Tree, name: str, as_title: bool) -> None:
    tree.process(60, "a" if as_title else name[:15], "/usr/bin/perl", [name if as_title else "a"])
    finding = only(tree)
    assert (finding.rule, finding.subject) == ("process.kernel_thread_imitation", "/usr/bin/perl")


def test_a_program_that_the_kernel_is_about_to_start_has_the_name_of_a_thread(tree: Tree) -> None:
    """Its name is asked for once more."""

    class Later(Proc):
        asked = 0

        def read(self, name: str, size: int = 4096) -> bytes:
            if name == "60/comm":
                self.asked += 1
                return b"kworker/u8:1\n" if self.asked == 1 else b"modprobe\n"
            return super().read(name, size)

    tree.process(60, "kworker/u8:1", "/usr/bin/kmod", ["modprobe"])
    assert processes.scan(Later(str(tree.root)), Options.from_config({})).findings == []


def test_a_process_whose_first_thread_has_ended_is_looked_at_by_another(tree: Tree) -> None:
    tree.process(60, "a", None)
    tree.process("60/task/60", "a", None)
    tree.process("60/task/61", "a", "/opt/xmrig", ["a"])
    finding = only(tree)
    assert (finding.rule, finding.evidence["pids"]) == ("process.miner_name", [60])


def test_a_mount_that_hides_a_process(tree: Tree) -> None:
    tree.mounts(
        "22 1 0:5 / /proc rw shared:5 - proc proc rw",
        "23 22 0:9 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw",
        "90 22 8:1 /home/x/empty /proc/4711 rw - ext4 /dev/sda1 rw",
        "91 22 8:1 /home/x/empty /proc/4712 rw - ext4 /dev/sda1 rw",
    )
    finding = only(tree)
    assert (finding.rule, finding.key) == ("process.hidden", ("/home/x/empty",))
    assert finding.evidence["mount_points"] == ["/proc/4711", "/proc/4712"]


def test_a_connection_to_a_pool(tree: Tree) -> None:
    tree.process(60, "a", "/opt/a", ["a"], sockets=[500, 501], uid=33)
    tree.socket("tcp", ("10.0.0.1", 41000), 500, peer=PEER)
    tree.socket("tcp6", ("2001:db8::5", 41001), 501, peer=("2001:db8::1", 14444), state="02")
    finding = only(tree)
    assert (finding.rule, finding.severity, finding.subject) == ("process.pool_connection", "high", "/opt/a")
    assert finding.key == ("", "/opt/a", "33")
    assert finding.evidence["peers"] == ["203.0.113.9:3333", "[2001:db8::1]:14444"]


def test_a_connection_to_a_private_address_may_be_anything(tree: Tree) -> None:
    tree.process(60, "a", "/opt/a", ["a"], sockets=[500, 501])
    tree.socket("tcp", ("10.0.0.1", 41000), 500, peer=("10.1.2.3", 4444))
    assert only(tree).severity == "medium"
    tree.socket("tcp", ("10.0.0.1", 41001), 501, peer=PEER)
    assert only(tree).severity == "high"


def test_a_connection_that_nobody_owns(tree: Tree) -> None:
    tree.socket("tcp", ("10.0.0.1", 41000), 500, peer=PEER, uid=33)
    finding = only(tree)
    assert (finding.subject, finding.evidence["user"]) == ("203.0.113.9:3333", "www")


def test_ports_of_ones_own(tree: Tree) -> None:
    tree.socket("tcp", ("10.0.0.1", 41000), 500, peer=("203.0.113.9", 8444))
    assert scan(tree).findings == []
    assert only(tree, pool_ports=[8444]).rule == "process.pool_connection"
    assert scan(tree, defaults=False).findings == []


def test_a_connection_from_a_container(tree: Tree) -> None:
    cgroup = f"/system.slice/docker-{ID}.scope"
    tree.process(60, "a", "/a", ["a"], sockets=[500], net=2, cgroup=cgroup)
    tree.process(61, "a", "/b", ["a"], net=2, cgroup=cgroup)
    tree.socket("tcp", ("172.17.0.2", 41000), 500, peer=PEER, net="60/net")
    assert (only(tree).subject, only(tree).evidence["container"]) == ("container: /a", "docker 0123456789ab")
    counter = "Tcp: RtoAlgorithm RtoMin\nTcp: 1 200 120000 -1 5 0 0 0 {} 9\n"
    (tree.root / "60" / "net" / "snmp").write_text(counter.format(1))
    assert only(tree).subject == "container: /a"
    (tree.root / "60" / "net" / "snmp").write_text(counter.format(0))
    assert scan(tree).findings == [], "a network without connections is not walked through"


def test_more_networks_than_are_looked_at_are_said(tree: Tree) -> None:
    for number in (2, 3):
        tree.process(60 + number, "a", "/a", ["a"], net=number)
    assert "network_namespaces" in scan(tree, network_namespaces=1).blind[0]
    assert scan(tree, network_namespaces=2).blind == []


def test_hostile_names_stay_a_line_and_hide_nothing(tree: Tree) -> None:
    hostile = b'\xff\n\x1b[2J"\\'
    tree.process(
        60, b"xmrig\n\x1b[31m\xff", b"/opt/".decode() + os.fsdecode(hostile) + "xmrig", [hostile, b"a" * 100_000]
    )
    tree.process(61, ") R 2 (", "/opt/" + os.fsdecode(hostile), [b"y" * 100_000, b"--donate-level"])
    findings = scan(tree).findings
    assert [one.rule for one in findings] == ["process.miner_name", "process.miner_arguments"]
    for one in findings:
        text = json.dumps(one._asdict(), ensure_ascii=False)
        assert text.isprintable()
        assert len(text) < 4000
        text.encode()


@pytest.mark.parametrize("command", [[b"y" * 3_000_000, "--donate-level"], ["y"] * 10_001, [b"y " * 10_001]])
def test_a_command_line_that_is_too_long_is_said(tree: Tree, command: list[str | bytes]) -> None:
    tree.process(60, "a", "/opt/a", command)
    assert scan(tree) == Scan([], ["A command line is too long to be looked at as a whole: /opt/a"])
    tree.process(61, "a", "/opt/a", [*["y"] * 9_000, "--donate-level=1"])
    assert [one.rule for one in scan(tree).findings] == ["process.miner_arguments"]


def test_not_to_have_looked_is_said(tree: Tree, tmp_path: Path) -> None:
    assert "cannot be listed" in processes.scan(Proc(str(tmp_path / "none")), Options.from_config({})).blind[0]
    shutil.rmtree(tree.root / "1")
    (tree.root / "net" / "tcp").unlink()
    (tree.root / "50" / "mountinfo").unlink()
    blind = scan(tree).blind
    assert ["no process 1" in blind[0], "mountinfo" in blind[1], "net/tcp" in blind[2]] == [True, True, True]


def test_a_program_whose_path_is_too_long_to_be_read_is_looked_at_otherwise(tree: Tree) -> None:
    class Deep(Proc):
        def link(self, name: str) -> str:
            if name == "60/exe":
                raise OSError(errno.ENAMETOOLONG, "File name too long")
            return super().link(name)

    tree.process(60, "app", "/opt/x", ["app", "--donate-level", "1"])
    result = processes.scan(Deep(str(tree.root)), Options.from_config({}))
    assert [(one.rule, one.subject) for one in result.findings] == [
        ("process.miner_arguments", "process named app"),
    ]
    assert result.blind == ["A program lies so deep in folders that its path cannot be read: process named app"]


def test_what_may_not_be_read_is_said_once(tree: Tree) -> None:
    class Denied(Proc):
        def link(self, name: str) -> str:
            if name.endswith("/exe"):
                raise PermissionError(13, "Permission denied")
            return super().link(name)

    tree.process(60, "xmrig", "/opt/x", ["x"])
    tree.process(61, "kworker/0:1", None, flags=KERNEL_THREAD)
    tree.process(62, "kworker/0:1", "/opt/x", ["x"])
    result = processes.scan(Denied(str(tree.root)), Options.from_config({}))
    assert [(one.rule, one.subject, one.evidence["pids"]) for one in result.findings] == [
        ("process.miner_name", "process named xmrig", [60]),
        ("process.kernel_thread_imitation", "process named kworker/0:1", [62]),
    ]
    assert result.blind == ["Some processes' programs cannot be seen: that takes root and CAP_SYS_PTRACE."]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"miner_names": [3]}, "miner_names"),
        ({"miner_names": [" "]}, "miner_names"),
        ({"pool_ports": [0]}, "pool_ports"),
        ({"pool_ports": ["3333"]}, "pool_ports"),
        ({"pool_ports": [True]}, "pool_ports"),
        ({"pool_names": "x"}, "pool_names"),
        ({"temporary_folders": ["x"]}, "temporary_folders"),
        ({"network_namespaces": 0}, "network_namespaces"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_option_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        Options.from_config(config)


# Real processes.


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., int]]:
    started = []

    def starter(arguments: Sequence[str | bytes], **options: Any) -> int:
        """Start it, and wait until it is what it shall be: a Python program says so, another has left Python behind."""
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        started.append(process)
        assert process.stdout
        if "-c" in arguments:
            assert select.select([process.stdout], [], [], 20)[0], "it did not start"
            assert os.read(process.stdout.fileno(), 1)
        else:
            # The kernel closes the pipe on which Popen waits a moment before the new program has its arguments.
            wait_for("it has its arguments", lambda: bool(Path(f"/proc/{process.pid}/cmdline").read_bytes()), 20)
        return process.pid

    yield starter
    for process in started:
        process.kill()
        process.communicate()


class Alone(Proc):
    """The real /proc with one process in it: a machine may run hundreds more than its tests need."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid

    def pids(self) -> list[str]:
        return [str(self._pid)]


def found(pid: int) -> dict[str, Finding]:
    result = processes.scan(Alone(pid), Options.from_config({}))
    return {one.rule: one for one in result.findings if pid in one.evidence.get("pids", ())}


def sleeper(path: Path) -> Path:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    return path


WAIT = "import os; os.write(1, b'.'); os.read(0, 1)"
RENAMED = "import ctypes; ctypes.CDLL(None).prctl(15, b'[kworker/0:1]', 0, 0, 0); " + WAIT
IN_MEMORY = f"""
import os
fd = os.memfd_create("evil\\n\\x1b[2J", 0)
os.write(fd, open({str(Path(sys.executable).resolve())!r}, "rb").read())
os.execve(fd, ["innocent", "-c", {WAIT!r}], dict(os.environ, PYTHONHOME={sys.base_prefix!r}))
"""


def test_real_a_miner_by_the_name_of_its_file(start: Callable[..., int], tmp_path: Path) -> None:
    pid = start([sleeper(tmp_path / "xmrig"), "60"])
    rules = found(pid)
    assert rules["process.miner_name"].subject == str(tmp_path / "xmrig")
    assert ("process.temporary_executable" in rules) == str(tmp_path).startswith("/tmp/")


def test_real_a_miner_by_its_first_argument(start: Callable[..., int]) -> None:
    pid = start([b"xmrig\xff\n\x1b[2J", "60"], executable=shutil.which("sleep"))
    assert set(found(pid)) == {"process.miner_name"}


def test_real_a_miner_by_its_arguments(start: Callable[..., int]) -> None:
    pid = start([sys.executable, "-c", WAIT, "x" * 100_000, "-o", "stratum+tcp://h:443"])
    assert set(found(pid)) == {"process.miner_arguments"}


def test_real_a_deleted_program(start: Callable[..., int], tmp_path: Path) -> None:
    program = sleeper(tmp_path / "x (deleted)")
    pid = start([program, "60"])
    assert "process.deleted_executable" not in found(pid)
    program.unlink()
    assert "process.deleted_executable" in found(pid)


def test_real_a_program_in_memory(start: Callable[..., int]) -> None:
    pid = start([sys.executable, "-c", IN_MEMORY])
    rules = found(pid)
    assert set(rules) == {"process.memfd_executable"}
    assert rules["process.memfd_executable"].subject == "/memfd:evil\\x0a\\x1b[2J (deleted)"


def test_real_a_program_that_takes_the_name_of_a_thread_of_the_kernel(start: Callable[..., int]) -> None:
    pid = start([sys.executable, "-c", RENAMED])
    assert set(found(pid)) == {"process.kernel_thread_imitation"}
    pid = start(["[kworker/u8:3]", "60"], executable=shutil.which("sleep"))
    assert set(found(pid)) == {"process.kernel_thread_imitation"}


def test_real_a_process_whose_first_thread_has_ended(start: Callable[..., int]) -> None:
    code = (
        "import ctypes, threading, time; "
        f"threading.Thread(target=lambda: (time.sleep(1), exec({WAIT!r}, {{}}))).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    pid = start([sys.executable, "-c", code, "--donate-level=1"])
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert set(found(pid)) == {"process.miner_arguments"}


def test_real_the_tests_themselves_are_innocent(start: Callable[..., int]) -> None:
    pid = start([sys.executable, "-c", WAIT])
    assert found(pid) == {}
    everything = processes.scan(Proc(), Options.from_config({}))
    assert [one for one in everything.findings if {pid, os.getpid()} & set(one.evidence.get("pids", ()))] == []
