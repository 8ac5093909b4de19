# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads /proc: which processes there are, what they run, which sockets are open and whose they are.

The formats are those of proc(5) and of the kernel's Documentation/filesystems/proc.rst and
Documentation/networking/proc_net_tcp.rst. Every method may meet a process that is gone: FileNotFoundError or
ProcessLookupError, both normal. PermissionError means that it was not looked at.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Union

from . import commands
from .sockets import Socket, tcp, udp

_COMMAND_FIRST = 64 * 1024
LINKS_MOST = 500_000
"""Open files that are looked at for the owners of sockets."""
_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of include/linux/sched.h."""
_EPHEMERAL = (32768, 60999)

_ID = r"[0-9a-f]{64}|[0-9a-f]{32}-[0-9]+"
_CONTAINER = (
    rf"/(?!\w*-?conmon-)(?:(?P<prefix>[\w.-]*?)-)?(?P<id>{_ID})(?:\.scope)?(?:/|$)"
    r"|/lxc(?:\.payload)?[./](?P<lxc>[^/]+)"
    r"|/machine\.slice/(?:systemd-nspawn@(?P<nspawn>[^/]+)\.service|machine-(?!qemu)(?P<machine>[^/]+)\.scope)(?:/|$)"
)


class Owners(NamedTuple):
    """Whose sockets they are.

    Attributes:
        found: inode → process id, the lowest of those that have it open.
        denied: some processes' open files may not be listed.
        cut: more than LINKS_MOST files were open; the rest was not looked at.
    """

    found: dict[int, str]
    denied: bool
    cut: bool


class Proc:
    """One /proc, as one scan sees it: tables are read once and remembered.

    A process is named by its id as text. A thread, "ID/task/THREAD", can stand for it wherever one is taken: a
    process whose first thread has ended shows its program by the others alone.
    """

    def __init__(self, root: str = "/proc", users: str = "/etc/passwd") -> None:
        """Reads nothing yet. `users` is the file with their names: NSS could ask the network."""
        self.root = root
        self._users = users
        self._names: dict[int, str] | None = None
        self._booted: float | None = None
        self._own_container: str | None = None
        self._listeners: dict[str, list[Socket]] = {}

    def pids(self) -> list[str]:
        """Every process's id, ascending. Raises OSError."""
        return sorted(filter(str.isdigit, os.listdir(self.root)), key=int)

    def read(self, name: str, size: int = 4096) -> bytes:
        """The first bytes of a file below /proc."""
        fd = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, size)
        finally:
            os.close(fd)

    def link(self, name: str) -> str:
        """What a symbolic link below /proc says, such as "1/exe" or "1/ns/net"."""
        return os.readlink(f"{self.root}/{name}")

    def command(self, pid: str) -> bytes:
        """A process's arguments, each ended by NUL, up to commands.READ bytes."""
        fd = os.open(f"{self.root}/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, _COMMAND_FIRST)
            if len(text) < _COMMAND_FIRST:
                return text
            parts, size = [text], len(text)
            while size < commands.READ and (more := os.read(fd, commands.READ - size)):
                parts.append(more)
                size += len(more)
            return b"".join(parts)
        finally:
            os.close(fd)

    def stat(self, pid: str) -> list[bytes]:
        """The fields of /proc/PID/stat after the name: [0] is the state (field 3), [1] the parent, [19] the start."""
        return self.read(f"{pid}/stat", 2048).rpartition(b")")[2].split()

    def kernel_thread(self, pid: str) -> bool:
        """Tell by the kernel's own flag, which no program can set."""
        return bool(int(self.stat(pid)[6]) & _KERNEL_THREAD)

    def live_thread(self, pid: str) -> str | None:
        """Name a thread that still runs a program in a process whose first thread has ended."""
        task = f"{self.root}/{pid}/task"
        # The count of its links is the count of threads and 2 more: one cheap look for hundreds of kernel threads.
        if os.stat(task).st_nlink < 4:
            return None
        for thread in sorted(os.listdir(task), key=int)[1:9]:
            try:
                self.link(f"{pid}/task/{thread}/exe")
            except OSError:
                continue
            return f"{pid}/task/{thread}"
        return None

    def ancestry(self) -> frozenset[str]:
        """The ids of the process that asks and of those that started it."""
        chain: list[str] = []
        try:
            pid = self.link("self")
            while pid != "0" and pid not in chain:
                chain.append(pid)
                pid = os.fsdecode(self.stat(pid)[1])
        except (OSError, IndexError):
            pass
        return frozenset(chain)

    def really_named_so(self, pid: str, exe: str) -> bool:
        """Tell a program whose file's name ends in " (deleted)" from one whose file is gone."""
        try:
            running, there = os.stat(f"{self.root}/{pid}/exe"), os.lstat(f"{self.root}/{pid}/root{exe}")
        except OSError:
            return False
        return os.path.samestat(running, there)

    def uid(self, pid: str) -> int:
        """The effective user id."""
        return int(self._status(pid)[b"Uid"].split()[1])

    def container(self, pid: str) -> str:
        """The container that a process is in, such as "docker 0123456789ab"; "" for the host and for one's own."""
        if self._own_container is None:
            try:
                self._own_container = container_of(os.fsdecode(self.read("self/cgroup")))
            except OSError:
                self._own_container = ""
        try:
            name = container_of(os.fsdecode(self.read(f"{pid}/cgroup")))
        except OSError:
            return ""
        return "" if name == self._own_container else name

    def place(self, pid: str) -> str:
        """Whose file system the path of its program is of: "" for the host's, "container" or "user namespace".

        In a user namespace of their own everybody may mount what they like where they like.
        """
        if self.container(pid):
            return "container"
        try:
            foreign = self.link(f"{pid}/ns/user") != self.link("self/ns/user")
        except OSError:
            return ""
        return "user namespace" if foreign else ""

    def user(self, uid: int) -> str:
        """A user's name by the host's passwd file, or the number."""
        if self._names is None:
            self._names = _read_users(self._users)
        return self._names.get(uid, str(uid))

    def describe(self, pid: str) -> dict[str, Any]:
        """What to know about a process, as far as it can be read; values for a finding's evidence."""
        told: dict[str, Any] = {}
        for look in (self._origin, self._program, self._surroundings):
            try:
                told.update(look(pid))
            except (OSError, KeyError, IndexError):
                continue
        return told

    def _origin(self, pid: str) -> dict[str, Any]:
        fields = self.stat(pid)
        if self._booted is None:
            found = re.search(rb"^btime (\d+)", self.read("stat", 4 * 1024 * 1024), re.MULTILINE)
            self._booted = float(found.group(1)) if found else 0.0
        started = self._booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return {"ppid": int(fields[1]), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))}

    def _program(self, pid: str) -> dict[str, Any]:
        name = os.fsdecode(self.read(f"{pid}/comm", 64)).rstrip("\n")
        return {"name": name, "command": commands.shown(self.command(pid))}

    def _surroundings(self, pid: str) -> dict[str, Any]:
        status, container = self._status(pid), self.container(pid)
        uid = int(status[b"Uid"].split()[1])
        if not container:
            return {"user": self.user(uid)}
        inside = status.get(b"NSpid", b"").split()[-1:]
        return {"user": str(uid), "container": container, **({"pid_in_container": int(inside[0])} if inside else {})}

    def _status(self, pid: str) -> dict[bytes, bytes]:
        lines = self.read(f"{pid}/status", 8192).splitlines()
        return {name: value for name, colon, value in (line.partition(b":") for line in lines) if colon}

    def hidden(self) -> list[tuple[str, str]]:
        """The mounts that cover a process's folder: mount point, and what of its file system was mounted there."""
        covered = re.compile(rb"^\S+ \S+ \S+ (\S+) (/proc/\d+)(?:/\S*)? ", re.MULTILINE)
        whole = b"".join(_chunks(f"{self.root}/self/mountinfo"))
        return [(os.fsdecode(point), os.fsdecode(source)) for source, point in covered.findall(whole)]

    def ephemeral_ports(self) -> tuple[int, int]:
        """The first and last port that the kernel gives to whoever asks for none in particular."""
        try:
            first, last = self.read("sys/net/ipv4/ip_local_port_range").split()
            return int(first), int(last)
        except (OSError, ValueError):
            return _EPHEMERAL

    def listening(self) -> tuple[list[Socket], list[str]]:
        """The sockets of this network that wait for anybody, TCP's and UDP's, and why some cannot be seen."""
        sockets, problems = [], []
        for protocol in ("tcp", "tcp6", "udp", "udp6"):
            try:
                if protocol not in self._listeners:
                    self._listeners[protocol] = self._read_table(protocol, frozenset(), "net")[0]
                sockets += self._listeners[protocol]
            except (OSError, ValueError) as error:
                problems.append(self._problem(f"net/{protocol}", error))
        return sockets, problems

    def connections(self, ports: frozenset[int], folder: str = "net") -> tuple[list[Socket], list[str]]:
        """The TCP connections, made or in the making, to a peer's port that is one of `ports`, and what is not seen.

        `folder` is "net" for this network, whose listeners are then known as well, or "ID/net" for a process's.
        """
        sockets, problems = [], []
        for protocol in ("tcp", "tcp6"):
            try:
                listeners, connections = self._read_table(protocol, ports, folder)
            except (OSError, ValueError) as error:
                problems.append(self._problem(f"{folder}/{protocol}", error))
                continue
            sockets += connections
            if folder == "net":
                self._listeners[protocol] = listeners
        return sockets, problems

    def established(self, folder: str) -> bool:
        """Tell, cheaply, whether a network may have TCP connections, by its counter CurrEstab (RFC 4022)."""
        try:
            found = re.search(rb"^Tcp:(?: -?\d+){8} (\d+)", self.read(f"{folder}/snmp"), re.MULTILINE)
        except OSError:
            return True
        return found is None or int(found.group(1)) > 0

    def _read_table(self, protocol: str, ports: frozenset[int], folder: str) -> tuple[list[Socket], list[Socket]]:
        # The kernel walks its whole hash of all networks' connections for a table: milliseconds, for nothing at times.
        if self._unused(protocol, folder):
            return [], []
        try:
            chunks = _chunks(f"{self.root}/{folder}/{protocol}")
            return (udp(chunks), []) if protocol.startswith("udp") else tcp(chunks, ports)
        except FileNotFoundError:
            # A kernel without IPv6 has no such table.
            if protocol.endswith("6"):
                return [], []
            raise

    def _unused(self, protocol: str, folder: str) -> bool:
        six = "6" if protocol.endswith("6") else ""
        try:
            counts = self.read(f"{folder}/sockstat{six}")
        except OSError:
            return False
        return bool(re.search(rb"^%s: inuse 0\b" % protocol.upper().encode(), counts, re.MULTILINE))

    def _problem(self, name: str, error: Union[OSError, ValueError]) -> str:
        reason = error.strerror if isinstance(error, OSError) else "it is not in the known format"
        return f"{self.root}/{name} cannot be read: {reason}."

    def owners(self, inodes: Iterable[int]) -> Owners:
        """Find who has sockets open; ends as soon as all are found. One that nobody has is the kernel's own."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
        found: dict[int, str] = {}
        denied, left = False, LINKS_MOST
        for pid in self.pids() if wanted else ():
            folder = f"{self.root}/{pid}/fd"
            try:
                names = os.listdir(folder)
            except PermissionError:
                denied = True
                continue
            except OSError:
                continue
            for name in names[:left]:
                try:
                    inode = wanted.pop(os.readlink(f"{folder}/{name}"), None)
                except OSError:
                    continue
                if inode is not None:
                    found[inode] = pid
            left -= len(names)
            if not wanted or left <= 0:
                break
        return Owners(found, denied, bool(wanted) and left <= 0)


def container_of(cgroup: str) -> str:
    """The container that /proc/PID/cgroup names, as runtime and short id or name, or "".

    Known are the paths of Docker, Podman, containerd and CRI-O (with and without Kubernetes), LXC, systemd-nspawn and
    whatever else puts an id of 64 hexadecimal digits there. A container's monitor, and a virtual machine, is a process
    of the host.
    """
    for line in cgroup.splitlines():
        match = re.search(_CONTAINER, line.split(":", 2)[-1])
        if not match:
            continue
        if match.group("id"):
            runtime = match.group("prefix") or next((one for one in ("docker", "kubepods") if one in line), "container")
            return f"{runtime} {match.group('id')[:12]}"
        name = match.group("lxc") or match.group("nspawn") or match.group("machine")
        return f"{'lxc' if match.group('lxc') else 'machine'} {name}"
    return ""


def _read_users(path: str) -> dict[int, str]:
    names: dict[int, str] = {}
    try:
        lines = b"".join(_chunks(path)).splitlines()
    except OSError:
        return names
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit():
            names.setdefault(int(fields[2]), os.fsdecode(fields[0]))
    return names


def _chunks(path: str) -> Iterator[bytes]:
    """A file in pieces that end at the end of a line."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        rest = b""
        while chunk := os.read(fd, 65536):
            whole, newline, after = chunk.rpartition(b"\n")
            if newline:
                yield rest + whole + newline
                rest = after
            else:
                rest += chunk
        if rest:
            yield rest
    finally:
        os.close(fd)
