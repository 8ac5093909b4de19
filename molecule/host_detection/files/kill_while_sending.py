# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the detection's service, as nothing can refuse it, while it waits for a webhook's answer.

kill_while_sending.py PORT [start]     # the webhooks' port; with `start` the service is started here
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SERVICE = "degraded-detection.service"
SECONDS = 60


def connected(port: int) -> bool:
    """Whether this host has a connection to that port of another."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def main(port: int, *, start: bool) -> int:
    if start:
        subprocess.run(["systemctl", "start", "--no-block", SERVICE], check=True)
    deadline = time.monotonic() + SECONDS
    while not connected(port):
        if time.monotonic() > deadline:
            sys.stderr.write(f"nothing was sent to port {port} in {SECONDS} s\n")
            return 1
        time.sleep(0.02)
    # By now it has sent, and waits.
    time.sleep(0.5)
    subprocess.run(["systemctl", "kill", "--signal=SIGKILL", SERVICE], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), start="start" in sys.argv[2:]))
