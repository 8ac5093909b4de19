# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A /proc made of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.detection.procfs import Proc

_HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
KERNEL_THREAD = 0x00200000
ID = "0123456789abcdef" * 4
"""Of a container."""


class Tree:
    """A folder that looks like /proc, with a process 1 and the process that asks, 50."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net").mkdir(parents=True)
        (root / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")
        for table in ("tcp", "tcp6", "udp", "udp6"):
            (root / "net" / table).write_text(_HEADER)
        (root / "users").write_text("root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/false\n")
        (root / "self").symlink_to("50")
        self.process(1, "systemd", "/usr/lib/systemd/systemd", ["/sbin/init"], ppid=0)
        self.process(50, "custodes", "/usr/bin/python3.11", ["python3", "/usr/local/bin/custodes", "detect"])
        self.mounts("22 1 0:5 / /proc rw - proc proc rw")

    def proc(self) -> Proc:
        """Read it anew."""
        return Proc(str(self.root), users=str(self.root / "users"))

    def process(
        self,
        pid: int | str,
        comm: str | bytes,
        exe: str | None,
        command: Sequence[str | bytes] = (),
        ppid: int = 1,
        uid: int = 0,
        flags: int = 0,
        cgroup: str = "/system.slice/x.service",
        sockets: Sequence[int] = (),
        net: int = 1,
        user: int = 1,
        inside: int | None = None,
    ) -> Path:
        """Add a process; without a program it looks like a kernel thread or one that has ended."""
        folder = self.root / str(pid)
        for name in ("fd", "ns", "task"):
            (folder / name).mkdir(parents=True)
        raw = os.fsencode(comm)
        (folder / "comm").write_bytes(raw + b"\n")
        if exe is not None:
            (folder / "exe").symlink_to(exe)
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(one) + b"\0" for one in command))
        number = str(pid).encode().partition(b"/")[0]
        zeros = b"0 " * 12
        line = b"%b (%b) S %d 1 1 0 -1 %d %b500 0 0\n" % (number, raw, ppid, flags, zeros)
        (folder / "stat").write_bytes(line)
        ids = f"\t{inside}" if inside else ""
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{pid}{ids}\n")
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        (folder / "ns" / "net").symlink_to(f"net:[{net}]")
        (folder / "ns" / "user").symlink_to(f"user:[{user}]")
        for number, inode in enumerate(sockets):
            (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
        return folder

    def mounts(self, *lines: str) -> None:
        """Set what is mounted."""
        (self.root / "50" / "mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def socket(
        self,
        table: str,
        local: tuple[str, int],
        inode: int,
        peer: tuple[str, int] | None = None,
        state: str | None = None,
        uid: int = 0,
        net: str = "net",
    ) -> None:
        """Add a line to a table; without a peer it waits for anybody."""
        path = self.root / net / table
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(_HEADER)
        zero = "::" if table.endswith("6") else "0.0.0.0"
        code = state or ("01" if peer else "0A" if table.startswith("tcp") else "07")
        with path.open("a") as file:
            file.write(
                f"   0: {hexadecimal(*local)} {hexadecimal(*(peer or (zero, 0)))} {code} 00000000:00000000 "
                f"00:00000000 00000000 {uid:5d}        0 {inode} 1 0000000052f318fc 100 0 0 10 0\n"
            )


def hexadecimal(address: str, port: int) -> str:
    """An address as this machine's kernel prints it."""
    import ipaddress

    packed = ipaddress.ip_address(address).packed
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    text = "".join((word[::-1] if sys.byteorder == "little" else word).hex() for word in words)
    return f"{text.upper()}:{port:04X}"
