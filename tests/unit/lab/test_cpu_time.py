# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU time of a command and of everything that it started, as `make test` reports it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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
# Stops the measuring process, which then has an orphan and the command to reap at the same moment.
BOTH_ENDED = """
import os, signal, subprocess, sys
os.kill(os.getppid(), signal.SIGSTOP)
if os.fork() == 0:
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    os._exit(0)
os.wait()
"""
OBEYS = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: sys.exit(number + 40))
print("ready", flush=True)
time.sleep(60)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(number: signal.Signals) -> None:
    command = [sys.executable, str(PROGRAM), "1", sys.executable, "-c", OBEYS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert process.stdout.readline() == "ready\n"
        (command_id,) = children.read_text().split()
        try:
            process.send_signal(number)
            assert process.wait(20) == number + 40
        except subprocess.TimeoutExpired:
            os.kill(int(command_id), signal.SIGKILL)
            raise


def test_an_orphan_that_ends_with_the_command_counts() -> None:
    read, write = os.pipe()
    command = [sys.executable, str(PROGRAM), str(write), sys.executable, "-c", BOTH_ENDED, SPIN]
    with subprocess.Popen(command, pass_fds=[write]) as process:
        os.close(write)
        deadline = time.monotonic() + 60
        while _states_of_children(process.pid) != ["Z", "Z"] and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 0
    with os.fdopen(read) as spent:
        assert float(spent.read()) >= 0.5


def _states_of_children(pid: int) -> list[str]:
    stats = [Path(f"/proc/{child}/stat") for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]
