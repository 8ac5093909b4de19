# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a demonstration does: numbered parts, and a line with its seconds for each task or step of a playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .pki import write_private
from .playbook import ROOT, Playbook, ansible_playbook
from .processes import LabError

_CALLBACKS = Path(__file__).with_name("callback_plugins")
_WIDTH = 79
"""Columns of a line before its seconds."""


class Progress:
    """The output of a demonstration with a known number of parts.

    Args:
        parts: their number.
        verbose: show all of Ansible's output instead of one line for each step of a playbook.
    """

    def __init__(self, parts: int, *, verbose: bool) -> None:
        self._parts = parts
        self._part = 0
        self._verbose = verbose
        self._redraws = sys.stdout.isatty() and not verbose

    def part(self, title: str) -> None:
        """Begin the next part."""
        self._part += 1
        self.line(f"\n[{self._part}/{self._parts}] {title}")

    def line(self, text: str = "") -> None:
        """Write a line."""
        self._erase()
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Write a line about the part."""
        self.line(f"  {text}")

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Show that a task runs, and the time that it took when it ends."""
        began = time.monotonic()
        self.now(name)
        yield
        self.took(name, time.monotonic() - began)

    def now(self, text: str) -> None:
        """Show on a terminal what runs now. The next line replaces it."""
        if self._redraws:
            sys.stdout.write(f"\r\033[K  {text[: _WIDTH - 6]} ...")
            sys.stdout.flush()

    def took(self, name: str, seconds: float) -> None:
        """Write what ended, and its seconds."""
        self.line(f"  {name:<{_WIDTH - 2}} {seconds:>5.1f} s")

    def play(self, playbook: Playbook) -> None:
        """Run a playbook, with a line for each of its steps that does something.

        Raises:
            LabError: the playbook failed. Its whole output was written, and the message has the task and the reason.
        """
        variables = playbook.directory.with_suffix(".json")
        write_private(variables, json.dumps(dict(playbook.variables)).encode())
        self.note(f"$ ansible-playbook -i inventory {playbook.name} -e @{variables.name}")
        log_file = playbook.directory.with_suffix(".log")
        with log_file.open("wb") as log:
            steps = _Steps(None if self._verbose else self)
            status = _run(playbook, variables, None if self._verbose else log, steps)
        self._erase()
        if status != 0:
            if not self._verbose:
                self.line(f"\n{log_file.read_text(errors='replace')}")
            raise LabError(f"{playbook.name} ended with status {status}{steps.failure}")

    def _erase(self) -> None:
        if self._redraws:
            sys.stdout.write("\r\033[K")


class _Steps:
    """The steps of one run of ansible-playbook, from the events of the callback `progress`.

    Args:
        progress: shows them; None for a run that shows all of Ansible's output.

    Attributes:
        failure: the last task that failed and its reason, for the end of a sentence.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.failure = ""
        self._progress = progress
        self._began = time.monotonic()
        self._step = self._task = ""
        self._worked = False

    def read(self, descriptor: int) -> None:
        """Show each event until the other end is closed."""
        with os.fdopen(descriptor) as events:
            for event in map(json.loads, events):
                if event["event"] == "begin":
                    self._begin(event["step"], event["task"])
                elif event["event"] == "done":
                    self._worked = True
                else:
                    self.failure = f": the task '{self._task}' failed on {event['host']}:\n{event['message']}"
        self._end()

    def _begin(self, step: str, task: str) -> None:
        if step != self._step:
            self._end()
            self._step, self._worked = step, False
        self._task = task
        if self._progress:
            self._progress.now(f"{step}: {task}")

    def _end(self) -> None:
        now = time.monotonic()
        if self._worked and self._progress:
            self._progress.took(self._step, now - self._began)
            self._began = now


def _run(playbook: Playbook, variables: Path, output: BinaryIO | None, steps: _Steps) -> int:
    """Run ansible-playbook with the callback. Returns its exit status."""
    reading, writing = os.pipe()
    reader = threading.Thread(target=steps.read, args=(reading,), daemon=True)
    reader.start()
    environment = {
        **playbook.environment,
        "ANSIBLE_CALLBACKS_ENABLED": "progress",
        "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
        "LAB_PROGRESS_FD": str(writing),
    }
    command = [*ansible_playbook(), "-i", str(playbook.inventory), playbook.name, "-e", f"@{variables}"]
    try:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            pass_fds=[writing],
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            check=False,
        ).returncode
    finally:
        os.close(writing)
    # A process that it left behind may keep the other end open.
    reader.join(5)
    return status


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return lines with the first column as wide as its longest text."""
    rows = list(rows)
    width = max(len(name) for name, _text in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]
