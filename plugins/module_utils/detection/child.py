# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a child process while this one does something else: for what waits, and is slow to import."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Optional

LONGEST_RESULT = 4 * 1024 * 1024
"""Bytes of the result's JSON."""


class Child:
    """A function at work in a child process. Use it as a context: it leaves no process behind.

    The child inherits neither locks nor open files but the standard three, ends by itself when its parent is gone, and
    is killed by its number.

    Args:
        work: gives a JSON value. Its exceptions end up on standard error.
        longest: seconds for it.

    Raises OSError: no process is to be had. To be made while this process has one thread only.
    """

    def __init__(self, work: Callable[[], Any], longest: float) -> None:
        self._deadline = time.monotonic() + longest
        self._source, sink = os.pipe()
        try:
            self._pid: Optional[int] = os.fork()
        except OSError:
            os.close(self._source)
            os.close(sink)
            raise
        if self._pid == 0:
            _work(work, longest, sink)
        os.close(sink)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def result(self) -> Any:
        """Waits for what the function gives; None when the child died or took too long. To be called once."""
        try:
            return json.loads(self._read())
        except ValueError:
            self.stop()
            return None

    def stop(self) -> None:
        """Ends and reaps the child, if there still is one."""
        pid, self._pid = self._pid, None
        if pid is not None:
            os.close(self._source)
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)  # until it is reaped, no other process has its number
                os.waitpid(pid, 0)

    def _read(self) -> bytes:
        """What comes until the end; nothing when that does not come in time."""
        import select  # noqa: PLC0415 - not in every process that imports this

        data = b""
        while len(data) <= LONGEST_RESULT:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._source], [], [], left)[0]:
                break
            part = os.read(self._source, 65536)
            if not part:
                return data
            data += part
        return b""


def _work(work: Callable[[], Any], longest: float, sink: int) -> NoReturn:
    code = 1
    try:
        # The parent may turn signals into exceptions, to clean up what is not this process's.
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.setitimer(signal.ITIMER_REAL, longest)
        # A lock on an open file is held until the last process that has it open is gone.
        for handle in map(int, os.listdir("/proc/self/fd")):
            if handle > 2 and handle != sink:
                with suppress(OSError):
                    os.close(handle)
        result = json.dumps(work()).encode()
        with os.fdopen(sink, "wb") as file:
            file.write(result)
        code = 0
    except Exception:
        import traceback  # noqa: PLC0415 - for bugs only

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        raise
    finally:
        # Nothing of what the parent has yet to write or to undo is done here.
        os._exit(code)
