# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of /proc/net: tcp, tcp6, udp and udp6, as the kernel's Documentation/networking/proc_net_tcp.rst has them.

A table may have a hundred thousand lines of which three matter: one regular expression finds these.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LISTEN = re.compile(rb":0000 0A ")
_UNCONNECTED = re.compile(rb":0000 07 ")
_MAPPED = bytes(10) + b"\xff\xff"


class Socket(NamedTuple):
    """One line of a table.

    Attributes:
        protocol: "tcp" or "udp".
        address, peer: 4 or 16 bytes in network order; an IPv4 address inside IPv6 is 4.
        port, peer_port: numbers.
        uid: who opened it.
        inode: of the socket, the same as in the link /proc/PID/fd/N.
    """

    protocol: str
    address: bytes
    port: int
    peer: bytes
    peer_port: int
    uid: int
    inode: int

    @property
    def loopback(self) -> bool:
        """Whether nobody but this host can reach it."""
        return is_loopback(self.address)


def tcp(chunks: Iterable[bytes], ports: frozenset[int]) -> tuple[list[Socket], list[Socket]]:
    """The listeners of a table; and the connections, made or in the making, from here to one of the ports.

    Connections from there to a listener are left out. Without ports nothing is read after the listeners.
    """
    either = b"|".join(b"%04X" % port for port in sorted(ports))
    wanted = re.compile(rb":(?:0000 0A|(?:" + either + rb") 0[12]) ") if ports else _LISTEN
    listeners: dict[int, list[Socket]] = {}
    connections = []
    for chunk in chunks:
        for socket in _matching(chunk, wanted, "tcp"):
            # The kernel lists all listeners first. Those of the other family are in the other table, with theirs.
            if socket.peer_port == 0:
                listeners.setdefault(socket.port, []).append(socket)
            elif socket.port not in listeners:
                connections.append(socket)
        if not ports and chunk[chunk.rfind(b"\n", 0, -1) + 1 :].split()[3:4] not in ([b"0A"], [b"st"]):
            break
    return [one for several in listeners.values() for one in several], connections


def udp(chunks: Iterable[bytes]) -> list[Socket]:
    """The sockets that are bound and take what anybody sends."""
    return [socket for chunk in chunks for socket in _matching(chunk, _UNCONNECTED, "udp")]


def _matching(chunk: bytes, wanted: re.Pattern[bytes], protocol: str) -> Iterator[Socket]:
    for match in wanted.finditer(chunk):
        start = chunk.rfind(b"\n", 0, match.start()) + 1
        end = chunk.find(b"\n", match.end())
        fields = chunk[start : end if end >= 0 else len(chunk)].split()
        if len(fields) < 10:
            continue
        (address, port), (peer, peer_port) = (field.split(b":") for field in fields[1:3])
        yield Socket(
            protocol, packed(address), int(port, 16), packed(peer), int(peer_port, 16), int(fields[7]), int(fields[9])
        )


def packed(text: bytes, little: bool = sys.byteorder == "little") -> bytes:
    """An address as the kernel prints it, in words of 32 bits in the machine's order, as 4 or 16 bytes.

    Raises ValueError for what is no address.
    """
    raw = bytes.fromhex(text.decode("ascii"))
    if little:
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return raw[12:] if raw.startswith(_MAPPED) else raw


def text_of(address: bytes) -> str:
    """An address for a person."""
    if len(address) == 4:
        return "{}.{}.{}.{}".format(*address)
    import ipaddress  # noqa: PLC0415 - most hosts show no IPv6 address, and start without it

    return str(ipaddress.IPv6Address(address))


def with_port(address: bytes, port: int) -> str:
    """An address and port for a person."""
    return f"{text_of(address)}:{port}" if len(address) == 4 else f"[{text_of(address)}]:{port}"


def is_loopback(address: bytes) -> bool:
    """Whether it is of 127.0.0.0/8, or ::1."""
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\x01"


def is_private(address: bytes) -> bool:
    """Whether it is of no use on the Internet: RFC 1918, 6598 and 3927, and IPv6's unique and link-local ones."""
    if len(address) == 16:
        return address[0] & 0xFE == 0xFC or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
    first, second = address[0], address[1]
    return (
        first == 10
        or (first == 172 and 16 <= second < 32)
        or (first, second) in ((192, 168), (169, 254))
        or (first == 100 and 64 <= second < 128)
    )
