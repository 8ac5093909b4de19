# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU time of a command and of everything that it started, as `make test` reports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "tools" / "cpu_time.py"
SPIN = "import time\nwhile time.process_time() < 0.5: pass"
# A server that leaves its session and its parent, and ends before the command does.
ORPHAN = """
import os, subprocess, sys, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.run([sys.executable, "-c", sys.argv[1]])
        os._exit(0)
    os._exit(0)
os.close(write)
os.wait()
os.read(read, 1)
"""


def measured(*command: str) -> tuple[int, float]:
    read, write = os.pipe()
    done = subprocess.run([sys.executable, str(PROGRAM), str(write), *command], pass_fds=[write], check=False)
    os.close(write)
    with os.fdopen(read) as spent:
        return done.returncode, float(spent.read() or 0)


@pytest.mark.parametrize("program", [SPIN, ORPHAN], ids=["a child", "an orphan"])
def test_all_that_ran_under_it_counts(program: str) -> None:
    code, seconds = measured(sys.executable, "-c", program, SPIN)
    assert code == 0
    assert seconds >= 0.5


def test_the_status_is_the_commands() -> None:
    assert measured("sh", "-c", "exit 3")[0] == 3
    assert measured("sh", "-c", "kill -TERM $$")[0] == 128 + 15
    assert measured("no-such-program")[0] == 127
