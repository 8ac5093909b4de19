# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command and report the CPU time of everything that it started, servers and containers included.

    python tests/tools/cpu_time.py DESCRIPTOR COMMAND [ARGUMENT ...]

Processes whose parent ends, as a server's or a container's does, become children of this one (PR_SET_CHILD_SUBREAPER of
Linux), so the kernel adds their time to that of its own children. The seconds go to the file descriptor as one number.
The exit status is the command's.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36


def main(descriptor: int, command: list[str]) -> int:
    """Run the command to its end. Returns its exit status, 127 when it cannot be started, 128 and more for a signal."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        # Kept, as a Popen that is collected reaps its child. The descriptor is not inherited: whoever reads it must see
        # its end when this process ends.
        child = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
        return 127

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            break
    _reap_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.write(descriptor, f"{used.ru_utime + used.ru_stime:.1f}".encode())
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _reap_the_rest() -> None:
    """Reap what has ended, without waiting for what still runs."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
