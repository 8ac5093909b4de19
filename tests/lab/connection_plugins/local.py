# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection `local` that runs a module in a fork of ansible-playbook's worker, which has imported Ansible already.

A Python process of its own is what most of a module's CPU time is spent on: 0.3 to 0.5 s become 0.1 s. The module runs
from the checkout and not from its payload; that payloads are complete is tested without this plugin.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import signal
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

from ansible.plugins import connection
from ansible.utils.display import Display

DOCUMENTATION = """
name: local
short_description: Run modules in a fork of this process
description:
  - Replaces C(ansible.builtin.local) in tests.
author: the custodes.security_dr authors (@custodes)
options:
  become_success_timeout:
    description: As of C(ansible.builtin.local).
    type: int
    default: 10
    vars:
      - name: ansible_local_become_success_timeout
  become_strip_preamble:
    description: As of C(ansible.builtin.local).
    type: bool
    default: true
    vars:
      - name: ansible_local_become_strip_preamble
extends_documentation_fragment:
  - connection_pipelining
"""


def _builtin() -> Any:
    """Return the class `Connection` of `ansible.builtin.local`; Ansible gives its name to this file."""
    path = Path(connection.__file__).with_name("local.py")
    spec: Any = importlib.util.spec_from_file_location("builtin_local", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Connection


_Local: Any = _builtin()


class Connection(_Local):  # type: ignore[misc]
    """As `ansible.builtin.local`, but for modules that are piped to this very Python."""

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command; return its exit code, stdout and stderr."""
        piped = re.fullmatch(r"/bin/sh -c '(\S+) && sleep 0'", cmd)
        if not in_data or self.become or not piped or piped[1] != sys.executable:
            result: tuple[int, bytes, bytes] = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
            return result
        Display().vvv(f"FORK {cmd}", host=self._play_context.remote_addr)
        return run_forked(in_data)


def run_forked(script: bytes) -> tuple[int, bytes, bytes]:
    """Run a Python script in a fork; return its exit code, stdout and stderr."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        pid = os.fork()
        if pid == 0:
            _become(script, stdout.fileno(), stderr.fileno())
        _pid, status = os.waitpid(pid, 0)
        stdout.seek(0)
        stderr.seek(0)
        return os.waitstatus_to_exitcode(status), stdout.read(), stderr.read()


def _become(script: bytes, stdout: int, stderr: int) -> NoReturn:
    """Be a process that was started with the script, as far as a module can see."""
    code = 1
    try:
        # Those of ansible-playbook remove its own temporary folder.
        atexit._clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = [""]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(script, "<stdin>", "exec"), main.__dict__)  # noqa: S102
        code = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - Python itself ends so
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
