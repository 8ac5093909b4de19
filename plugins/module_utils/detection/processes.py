# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes look like an intruder's: miners, programs without a file, and what plays the kernel.

Every process costs a few system calls; more is asked only about one in which something was found. Not seen are what a
kernel module hides, a script that an innocent interpreter runs, a miner of another name that takes its pool from a file
and reaches it at a port like 443, and pools by name in connections: nothing here asks the network for an address.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple, Optional

from . import commands, kernel_threads, miners
from .errors import DetectionError
from .findings import Finding, Scan, found
from .options import Kind, read
from .procfs import Owners, Proc
from .sockets import Socket, is_loopback, is_private, with_port

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run/shm", "/run/user", "/run/lock")  # noqa: S108 - looked for, not used
"""Folders that everybody may write to and no program is installed in."""
NAMESPACES = 128
"""Networks of others, such as containers', whose connections are looked at: up to 10 ms of CPU for each."""

_DELETED = " (deleted)"
_MEMFD = "/memfd:"
# The runtime's first process in a container, up to its exec, is a copy of itself in memory (CVE-2019-5736).
_RUNTIME_COPY = ("/memfd:runc_cloned:/proc/self/exe (deleted)", "runc:[")
# fmt: off
_READERS = frozenset(f"/usr/bin/{name}" for name in (
    "grep", "egrep", "rg", "ag", "less", "more", "vi", "vim", "vim.basic", "vim.tiny", "nvim", "nano", "sed", "mawk",
    "gawk", "cat", "tail", "head", "pgrep",
))
"""Programs whose arguments are what somebody looks for. Only root can put another program in their places."""
# fmt: on


class Options(NamedTuple):
    """What to look for.

    Attributes:
        names, arguments: what recognises miners.
        ports: of pools.
        temporary: folders' names, each with a slash at its end.
        namespaces: so many other networks are looked at.
    """

    names: miners.Names
    arguments: miners.Arguments
    ports: frozenset[int]
    temporary: tuple[str, ...]
    namespaces: int

    @classmethod
    def from_config(cls, config: Any) -> Options:
        """Check the section "processes", whose lists add to what is built in unless `defaults` is false.

        Raises DetectionError.
        """
        spec: dict[str, tuple[Kind, Any]] = {
            "miner_names": (list, []),
            "pool_ports": (list, []),
            "pool_names": (list, []),
            "temporary_folders": (list, []),
            "defaults": (bool, True),
            "network_namespaces": (int, NAMESPACES),
        }
        given = read(config, "processes", spec)
        for name in ("miner_names", "pool_names", "temporary_folders"):
            if not all(isinstance(one, str) and one.strip() for one in given[name]):
                raise DetectionError(f"The configuration's processes.{name} takes texts, none of them empty.")
        if not all(isinstance(one, int) and one is not True and 0 < one < 65536 for one in given["pool_ports"]):
            raise DetectionError("The configuration's processes.pool_ports takes numbers from 1 to 65535.")
        folders = [*given["temporary_folders"], *(TEMPORARY if given["defaults"] else ())]
        if not all(one.startswith("/") for one in folders):
            raise DetectionError("The configuration's processes.temporary_folders takes absolute paths.")
        return cls(
            miners.Names([*given["miner_names"], *(miners.NAMES if given["defaults"] else ())]),
            miners.Arguments([*given["pool_names"], *(miners.POOLS if given["defaults"] else ())]),
            frozenset(given["pool_ports"]) | (miners.PORTS if given["defaults"] else frozenset()),
            tuple(f"{one.rstrip('/')}/" for one in folders),
            given["network_namespaces"],
        )


def scan(proc: Proc, options: Options) -> Scan:
    """Look at every process and its connections. Several processes that are alike are one finding."""
    survey = _Survey(proc, options)
    try:
        pids = proc.pids()
    except OSError as error:
        return Scan([], [f"{proc.root} cannot be listed: {error.strerror}."])
    if "1" not in pids:
        survey.blind_at("Processes are hidden: there is no process 1. Run it as root, and without hidepid.")
    for pid in pids:
        survey.look(pid)
    survey.look_at_mounts()
    survey.look_at_connections()
    return Scan(survey.findings(), survey.blind)


class _Group:
    """Processes that are alike: the same rule, program, user and place."""

    def __init__(self, severity: Optional[str], summary: str, subject: str, evidence: dict[str, Any]) -> None:
        self.severity = severity
        self.summary = summary
        self.subject = subject
        self.evidence = evidence
        self.pids: list[int] = []
        self.peers: list[str] = []
        self.containers: list[str] = []


class _Survey:
    def __init__(self, proc: Proc, options: Options) -> None:
        self.blind: list[str] = []
        self._proc = proc
        self._options = options
        self._ancestry = proc.ancestry()
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._others: list[Finding] = []
        self._programs: dict[str, list[tuple[str, str]]] = {}
        self._harmless: set[tuple[str, bytes, bytes]] = set()
        self._networks: dict[str, str] = {}

    def blind_at(self, sentence: str) -> None:
        if sentence not in self.blind:
            self.blind.append(sentence)

    def findings(self) -> list[Finding]:
        return [*(_finding(key, group) for key, group in self._groups.items()), *self._others]

    def look(self, pid: str) -> None:
        """Look at one process. One that ends meanwhile, or belongs to the kernel, is passed over."""
        proc = self._proc
        try:
            exe = self._program_of(pid)
            name = proc.read(f"{pid}/comm", 64)
            command = proc.command(pid)
        except FileNotFoundError:
            self._look_at_threads(pid)
            return
        except ProcessLookupError:
            return
        except OSError as error:
            self.blind_at(f"Processes cannot be read: {error.strerror}.")
            return
        if self._suspicious(exe, name, command):
            self._judge(pid, exe, os.fsdecode(name).rstrip("\n"), command)
        self._note_network(pid)

    def _program_of(self, pid: str) -> str:
        """The path of the program, "" where that cannot be told: there is more to be looked at than that."""
        try:
            return self._proc.link(f"{pid}/exe")
        except PermissionError:
            self.blind_at("Some processes' programs cannot be seen: that takes root and CAP_SYS_PTRACE.")
        except OSError as error:
            # The kernel tells no path of more than a page, and whoever makes folders in folders can have one.
            if error.errno != errno.ENAMETOOLONG:
                raise
            name = os.fsdecode(self._proc.read(f"{pid}/comm", 64)).rstrip("\n")
            self.blind_at(f"A program lies so deep in folders that its path cannot be read: process named {name}")
        return ""

    def _look_at_threads(self, pid: str) -> None:
        if "/" in pid:
            return
        try:
            thread = self._proc.live_thread(pid)
        except OSError:
            return
        if thread:
            self.look(thread)

    def _suspicious(self, exe: str, name: bytes, command: bytes) -> bool:
        """Whether these alone give any rule a reason to ask more; hosts run the same few programs many times."""
        alike = (exe, name, command)
        if alike in self._harmless:
            return False
        names, own = self._options.names, os.fsdecode(name).rstrip("\n")
        program, title = exe.rpartition("/")[2], _title(command)
        if (
            self._by_program(exe)
            or _is_loader(program)
            or any(names.match(one) for one in (own, program, _started_as(title)))
            or kernel_threads.named_so(own)
            or kernel_threads.named_so(title)
            or self._options.arguments.match(command)
            or commands.too_long(command)
        ):
            return True
        if len(command) < 4096 and len(self._harmless) < 4096:
            self._harmless.add(alike)
        return False

    def _judge(self, pid: str, exe: str, name: str, command: bytes) -> None:
        for rule, summary in self._by_program(exe):
            if rule == "process.deleted_executable" and self._proc.really_named_so(pid, exe):
                continue
            low = rule == "process.memfd_executable" and exe == _RUNTIME_COPY[0] and name.startswith(_RUNTIME_COPY[1])
            self._add(rule, pid, exe, name, summary, severity="low" if low else None)
        if _is_loader(exe.rpartition("/")[2]):
            self._look_at_loaded(pid, exe, name, command)
        self._look_at_names(pid, exe, name, _title(command))
        if pid not in self._ancestry:
            sign = self._options.arguments.match(command)
            if sign and not (exe in _READERS and not self._proc.place(pid)):
                self._add("process.miner_arguments", pid, exe, name, "Its arguments are a miner's.", {"matched": sign})
        if commands.too_long(command):
            self.blind_at(f"A command line is too long to be looked at as a whole: {exe or name}")

    def _by_program(self, exe: str) -> list[tuple[str, str]]:
        """What the path alone tells; hosts run the same few programs many times."""
        if exe in self._programs:
            return self._programs[exe]
        told = []
        if exe.startswith(_MEMFD) and exe.endswith(_DELETED):
            told.append(("process.memfd_executable", "It runs a program that has only ever been in memory."))
        elif exe.endswith(_DELETED):
            told.append(("process.deleted_executable", "The file of the program that it runs was deleted."))
        if exe.startswith(self._options.temporary):
            told.append(("process.temporary_executable", "It runs a program from a folder for temporary files."))
        if len(exe) < 256 and len(self._programs) < 4096:
            self._programs[exe] = told
        return told

    def _look_at_loaded(self, pid: str, exe: str, name: str, command: bytes) -> None:
        """A program that is run by naming it to the dynamic loader is that program."""
        for argument in command[:65536].split(b"\0", 9)[1:9]:
            path = os.fsdecode(argument)
            if path.startswith(self._options.temporary):
                summary = "The dynamic loader runs a program from a folder for temporary files."
                self._add("process.temporary_executable", pid, exe, name, summary, {"matched": path})
            elif self._options.names.match(path.rpartition("/")[2]):
                self._add("process.miner_name", pid, exe, name, "The program is a miner by name.", {"matched": path})

    def _look_at_names(self, pid: str, exe: str, name: str, title: str) -> None:
        names = self._options.names
        match = names.match(name) or names.match(exe.rpartition("/")[2]) or names.match(_started_as(title))
        if match:
            self._add("process.miner_name", pid, exe, name, f"It is a miner by name: {match}.", {"matched": match})
        claimed = next((one for one in (name, title) if kernel_threads.named_so(one)), None)
        if claimed is not None and self._imitates(pid, exe, name):
            summary = f"It is a program that calls itself {claimed}, which would be a thread of the kernel."
            self._add("process.kernel_thread_imitation", pid, exe, name, summary, {"matched": claimed})

    def _imitates(self, pid: str, exe: str, name: str) -> bool:
        """Ask again: what the kernel starts has its name from a kernel's thread up to the moment of its exec."""
        try:
            if self._proc.kernel_thread(pid) or self._proc.read(f"{pid}/comm", 64).rstrip(b"\n") != os.fsencode(name):
                return False
            return not exe or self._proc.link(f"{pid}/exe") == exe
        except (OSError, IndexError, ValueError):
            return False

    def _add(
        self,
        rule: str,
        pid: str,
        exe: str,
        name: str,
        summary: str,
        more: Optional[dict[str, Any]] = None,
        severity: Optional[str] = None,
    ) -> _Group:
        proc = self._proc
        try:
            uid = str(proc.uid(pid))
        except (OSError, KeyError, IndexError, ValueError):
            uid = "unknown"
        place, program = proc.place(pid), exe or f"process named {name}"
        key = (rule, place, program, uid)
        group = self._groups.get(key)
        if group is None:
            subject = f"{place}: {program}" if place else program
            evidence = {"exe": exe, **proc.describe(pid), **(more or {})}
            group = self._groups[key] = _Group(severity or _severity(rule, place), summary, subject, evidence)
        number = int(pid.partition("/")[0])
        if number not in group.pids:
            group.pids.append(number)
        container = proc.container(pid) if place == "container" else ""
        if container and container not in group.containers:
            group.containers.append(container)
        return group

    def _note_network(self, pid: str) -> None:
        if "self" not in self._networks:
            try:
                self._networks["self"] = self._proc.link("self/ns/net")
            except OSError:
                self._networks["self"] = ""
        if self._networks["self"]:
            try:
                self._networks.setdefault(self._proc.link(f"{pid}/ns/net"), pid)
            except OSError:
                return

    def look_at_mounts(self) -> None:
        """A mount over a process's folder hides it from everybody who reads /proc."""
        try:
            covered = self._proc.hidden()
        except OSError as error:
            self.blind_at(f"{self._proc.root}/self/mountinfo cannot be read: {error.strerror}.")
            return
        points: dict[str, list[str]] = {}
        for point, source in covered:
            points.setdefault(source, []).append(point)
        summary = "Something is mounted over a process's folder in /proc, which hides the process."
        self._others += [
            found(
                "process.hidden", f"{source} on {over[0]}", summary, {"mounted": source, "mount_points": over}, [source]
            )
            for source, over in points.items()
        ]

    def look_at_connections(self) -> None:
        """Connections to the ports of pools, from here and from the networks of containers."""
        own = self._networks.pop("self", "")
        self._networks.pop(own, None)
        others = [pid for pid in self._networks.values() if self._proc.established(f"{pid}/net")]
        sockets, problems = self._proc.connections(self._options.ports)
        for problem in problems:
            self.blind_at(problem)
        for pid in others[: self._options.namespaces]:
            # What cannot be read here has ended, and its network with it.
            sockets += self._proc.connections(self._options.ports, f"{pid}/net")[0]
        if len(others) > self._options.namespaces:
            self.blind_at("More networks of containers have connections than processes.network_namespaces looks at.")
        sockets = [one for one in dict.fromkeys(sockets) if not is_loopback(one.peer)]
        if not sockets:
            return
        try:
            owners = self._proc.owners(one.inode for one in sockets)
        except OSError:
            owners = Owners({}, True, False)
        if (owners.denied or owners.cut) and len(owners.found) < len(sockets):
            self.blind_at("The owners of some connections to pools' ports could not be seen.")
        for socket in sockets:
            self._add_connection(socket, owners.found.get(socket.inode))

    def _add_connection(self, socket: Socket, pid: Optional[str]) -> None:
        peer = with_port(socket.peer, socket.peer_port)
        private = is_private(socket.peer)
        severity = "medium" if private else None
        summary = f"It is connected to a port that mining pools use: {socket.peer_port}."
        exe, name = "", "unknown"
        if pid is not None:
            try:
                name = os.fsdecode(self._proc.read(f"{pid}/comm", 64)).rstrip("\n")
                exe = self._proc.link(f"{pid}/exe")
            except OSError:
                pid = pid if name != "unknown" else None
        if pid is None:
            user = self._proc.user(socket.uid)
            key = ("process.pool_connection", "", peer, str(socket.uid))
            self._groups.setdefault(key, _Group(severity, summary, peer, {"peers": [peer], "user": user}))
            return
        group = self._add("process.pool_connection", pid, exe, name, summary, severity=severity)
        if not private:
            group.severity = None
        if peer not in group.peers:
            group.peers.append(peer)


def _finding(key: tuple[str, ...], group: _Group) -> Finding:
    evidence = {"pids": group.pids, **group.evidence}
    if group.peers:
        evidence["peers"] = group.peers
    if len(group.containers) > 1:
        evidence["containers"] = group.containers
    return found(key[0], group.subject, group.summary, evidence, key[1:], group.severity)


def _severity(rule: str, place: str) -> Optional[str]:
    """In a container, images that were replaced and programs unpacked to /tmp are commoner than intruders."""
    if place != "container":
        return None
    return {"process.deleted_executable": "low", "process.temporary_executable": "medium"}.get(rule)


def _title(command: bytes) -> str:
    return os.fsdecode(command[: command.find(b"\0")] if b"\0" in command else command[:4096])


def _started_as(title: str) -> str:
    # A title may go on with what others have chosen, such as a user: "postgres: xmrig".
    return title.split(None, 1)[0].rpartition("/")[2] if title.strip() else ""


def _is_loader(program: str) -> bool:
    return program.startswith("ld-") and ".so" in program
