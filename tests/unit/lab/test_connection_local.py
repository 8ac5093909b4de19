# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module in a fork ends as in a process of its own, and leaves its parent alone."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path

import pytest
from ansible.playbook.play_context import PlayContext
from lab.connection_plugins.local import Connection, run_forked


@pytest.mark.parametrize(
    ("script", "code", "stdout", "stderr"),
    [
        ("print('so', end='')", 0, b"so", b""),
        ("import sys; sys.stderr.write('so'); sys.exit(3)", 3, b"", b"so"),
        ("import sys; sys.exit()", 0, b"", b""),
        ("raise SystemExit('why')", 1, b"", b"why\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, b"", b""),
        ("import os; os.write(1, b'raw'); os.system('printf sub')", 0, b"rawsub", b""),
        ("import __main__, sys; print(sys.argv, sys.stdin.read(), __main__.sys is sys)", 0, b"['']  True\n", b""),
    ],
)
def test_it_ends_as_the_script_does(script: str, code: int, stdout: bytes, stderr: bytes) -> None:
    assert run_forked(script.encode()) == (code, stdout, stderr)


def test_an_exception_is_a_traceback() -> None:
    code, _stdout, stderr = run_forked(b"1 / 0")
    assert (code, stderr.splitlines()[-1]) == (1, b"ZeroDivisionError: division by zero")


def test_the_parent_stays_as_it_is(tmp_path: Path) -> None:
    def of_the_parent() -> None:
        (tmp_path / "parent").touch()

    atexit.register(of_the_parent)
    script = f"""
import atexit, os, pathlib
atexit.register(pathlib.Path({str(tmp_path / "script")!r}).touch)
os.environ["OF_THE_SCRIPT"] = "1"
os.chdir("/")
"""
    before = Path.cwd()
    try:
        assert run_forked(script.encode()) == (0, b"", b"")
    finally:
        atexit.unregister(of_the_parent)
    assert (Path.cwd(), os.environ.get("OF_THE_SCRIPT")) == (before, None)
    assert [file.name for file in tmp_path.iterdir()] == ["script"]


def test_a_signal_handler_of_the_parent_is_not_the_scripts() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run_forked(b"import os, signal; os.kill(os.getpid(), signal.SIGTERM)") == (-15, b"", b"")
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("python", "forked"), [(sys.executable, True), (f"{sys.executable} -X utf8", False)])
def test_a_module_for_this_python_is_forked_and_no_other(python: str, forked: bool) -> None:
    connection = Connection(PlayContext(), None)
    script = b"import sys; print('ansible.plugins.connection' in sys.modules)"
    code, stdout, _stderr = connection.exec_command(f"/bin/sh -c '{python} && sleep 0'", in_data=script)
    assert (code, stdout) == (0, f"{forked}\n".encode())
