# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets wait for anybody, against what was allowed.

Seen are TCP and UDP, IPv4 and IPv6, of the host's own network. A container's own network is the container's affair;
raw and packet sockets, SCTP and what a packet filter passes on are not looked at.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

from . import allowlist
from .errors import DetectionError
from .findings import Finding, Scan, found
from .options import Kind, read
from .procfs import Owners, Proc
from .sockets import Socket, text_of, with_port

DEFAULTS = (
    ("tcp", 22, "SSH"),
    ("tcp", 80, "HTTP"),
    ("tcp", 443, "HTTPS"),
    ("tcp", 8080, "HTTP of an application"),
    ("tcp", 8443, "HTTPS of an application"),
    ("tcp", 9090, "Prometheus"),
    ("tcp", 9100, "node_exporter"),
    ("tcp", 6443, "Kubernetes API"),
    ("udp", 68, "DHCP client"),
    ("udp", 546, "DHCPv6 client"),
    ("udp", 123, "NTP"),
    ("udp", 323, "chrony's control, on loopback"),
)
"""Protocol, port and reason of what is allowed unless `defaults` is false."""

ENTRY: Mapping[str, tuple[Kind, Any]] = {
    "port": ((int, str), None),
    "protocol": (str, None),
    "address": (str, None),
    "user": ((str, int), None),
    "program": (str, None),
}
"""What an entry of the allowlist takes: all that is given has to fit."""

Network = tuple[int, int, int]
"""Bytes of an address, the network as a number, and its mask."""


class Entry(NamedTuple):
    """What is allowed; None fits everything. `network` may be "loopback"; `user` is a name or number as text."""

    ports: Optional[tuple[int, int]]
    protocol: Optional[str]
    network: Union[Network, str, None]
    user: Optional[str]
    program: Optional[str]

    def fits(self, socket: Socket) -> bool:
        """Whether port, protocol and address fit."""
        if self.protocol is not None and self.protocol != socket.protocol:
            return False
        if self.ports is not None and not self.ports[0] <= socket.port <= self.ports[1]:
            return False
        if self.network is None:
            return True
        if isinstance(self.network, str):
            return socket.loopback
        size, network, mask = self.network
        return size == len(socket.address) and int.from_bytes(socket.address, "big") & mask == network

    def fits_owner(self, users: Iterable[str], program: str) -> bool:
        """Whether one of the users, and the program, fit."""
        return (self.user is None or self.user in users) and (
            self.program is None or fnmatch.fnmatchcase(program, self.program)
        )


class Options(NamedTuple):
    """What is allowed.

    Attributes:
        ports: (protocol, port) of the defaults.
        entries: of the allowlist, all live.
        udp_ephemeral: also looks at UDP ports of the range from which the kernel gives one to every client.
        expired: a finding for each entry that has expired.
    """

    ports: frozenset[tuple[str, int]]
    entries: Sequence[Entry]
    udp_ephemeral: bool
    expired: Sequence[Finding]

    @classmethod
    def from_config(cls, config: Any, today: str) -> Options:
        """Check the section "listeners"; `today` is YYYY-MM-DD. Raises DetectionError."""
        spec: dict[str, tuple[Kind, Any]] = {
            "allowed": (list, []),
            "defaults": (bool, True),
            "udp_ephemeral": (bool, False),
        }
        given = read(config, "listeners", spec)
        live, expired = allowlist.read(given["allowed"], "listeners.allowed", ENTRY, today)
        ports = frozenset((protocol, port) for protocol, port, reason in DEFAULTS if given["defaults"])
        return cls(ports, [_entry(one) for one in live], given["udp_ephemeral"], expired)


def _entry(given: Mapping[str, Any]) -> Entry:
    if all(given[name] is None for name in ENTRY):
        raise DetectionError(f"An entry of listeners.allowed would allow everything: give it {', '.join(ENTRY)}.")
    if given["protocol"] not in (None, "tcp", "udp"):
        raise DetectionError(f"listeners.allowed has a protocol {given['protocol']!r:.80}: it takes tcp or udp.")
    user = given["user"]
    return Entry(
        _ports(given["port"]),
        given["protocol"],
        _network(given["address"]),
        None if user is None else str(user),
        given["program"],
    )


def _ports(given: Union[int, str, None]) -> Optional[tuple[int, int]]:
    if given is None:
        return None
    first, dash, last = str(given).partition("-")
    bounds = [first, last if dash else first]
    if not all(one.isascii() and one.isdigit() for one in bounds) or not 0 < int(first) <= int(bounds[1]) < 65536:
        raise DetectionError(f'listeners.allowed has a port {given!r:.80}: it takes 1 to 65535, or two as in "80-89".')
    return int(first), int(bounds[1])


def _network(given: Optional[str]) -> Union[Network, str, None]:
    if given is None or given == "loopback":
        return given
    import ipaddress  # noqa: PLC0415 - a host whose configuration names no address starts without it

    try:
        network = ipaddress.ip_network(given, strict=False)
    except ValueError:
        raise DetectionError(
            f"listeners.allowed has an address {given!r:.80}: it takes one, a network such as 10.0.0.0/8, or loopback."
        ) from None
    return network.max_prefixlen // 8, int(network.network_address), int(network.netmask)


def scan(proc: Proc, options: Options) -> Scan:
    """Find what listens and is not allowed. One finding per protocol, address, port, program and user."""
    open_sockets, blind = proc.listening()
    suspects = [one for one in dict.fromkeys(_looked_at(proc, open_sockets, options)) if not _allowed(one, options)]
    if not suspects:
        return Scan(list(options.expired), blind)
    return Scan([*options.expired, *_Owned(proc, options, blind).findings(suspects)], blind)


def _looked_at(proc: Proc, sockets: Iterable[Socket], options: Options) -> Iterable[Socket]:
    if options.udp_ephemeral:
        return sockets
    first, last = proc.ephemeral_ports()
    return (one for one in sockets if one.protocol == "tcp" or not first <= one.port <= last)


def _allowed(socket: Socket, options: Options) -> bool:
    return (socket.protocol, socket.port) in options.ports or any(
        entry.fits(socket) for entry in options.entries if entry.user is None and entry.program is None
    )


class _Owned:
    """Findings about sockets whose owners have to be known."""

    def __init__(self, proc: Proc, options: Options, blind: list[str]) -> None:
        self._proc = proc
        self._entries = [one for one in options.entries if one.user is not None or one.program is not None]
        self._blind = blind
        self._programs: dict[str, tuple[str, set[str], dict[str, Any]]] = {}

    def findings(self, sockets: Sequence[Socket]) -> list[Finding]:
        try:
            owners = self._proc.owners(one.inode for one in sockets)
        except OSError:
            owners = Owners({}, True, False)
        if owners.denied and len(owners.found) < len(sockets):
            self._blind.append("Some listeners' owners cannot be seen: that takes root and CAP_SYS_PTRACE.")
        if owners.cut:
            self._blind.append("So many files are open that the owners of some listeners were not looked for.")
        found_ones: dict[tuple[str, ...], Finding] = {}
        for socket in sockets:
            finding = self._finding(socket, owners.found.get(socket.inode))
            if finding is not None:
                found_ones.setdefault(finding.key, finding)
        return list(found_ones.values())

    def _finding(self, socket: Socket, pid: Optional[str]) -> Optional[Finding]:
        program, users, evidence = self._program(pid)
        user = self._proc.user(socket.uid)
        if any(
            entry.fits(socket) and entry.fits_owner({*users, user, str(socket.uid)}, program) for entry in self._entries
        ):
            return None
        where = with_port(socket.address, socket.port)
        return found(
            "listener.unexpected_loopback" if socket.loopback else "listener.unexpected",
            f"{socket.protocol} {where} {program}",
            f"{program} listens on {socket.protocol} {where}, which is not allowed.",
            {
                "protocol": socket.protocol,
                "address": text_of(socket.address),
                "port": socket.port,
                "program": program,
                "user": user,
                **evidence,
            },
            [socket.protocol, text_of(socket.address), str(socket.port), program, str(socket.uid)],
        )

    def _program(self, pid: Optional[str]) -> tuple[str, set[str], dict[str, Any]]:
        """A process's program, with where its path is of; its user by name and number; and what else is known."""
        if pid is None:
            return "an unknown program", set(), {}
        if pid not in self._programs:
            self._programs[pid] = self._look(pid)
        return self._programs[pid]

    def _look(self, pid: str) -> tuple[str, set[str], dict[str, Any]]:
        try:
            program, uid = self._proc.link(f"{pid}/exe"), self._proc.uid(pid)
        except (OSError, KeyError, IndexError):
            return "an unknown program", set(), {"pid": int(pid)}
        place = self._proc.place(pid)
        # After an update the same program still runs from the file that is gone.
        name = program[: -len(" (deleted)")] if program.endswith(" (deleted)") else program
        users = {self._proc.user(uid), str(uid)}
        return f"{place}: {name}" if place else name, users, {"pid": int(pid), **self._proc.describe(pid)}
