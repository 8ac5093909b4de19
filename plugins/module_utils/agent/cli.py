# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that hosts run, ``custodes COMMAND``. Each command is a class with an entry in COMMANDS.

Exit codes: 0 it went well, 1 it ran and failed, 2 it could not even begin (usage, an unreadable configuration).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, Optional, TextIO

from .config import ConfigError
from .detect import Detect
from .snapshot import Snapshot
from .watchdog import Watchdog

if TYPE_CHECKING:
    import argparse

UNUSABLE = 2


COMMANDS = (Detect, Snapshot, Watchdog)


def main(
    argv: Optional[Sequence[str]] = None,
    environ: Optional[Mapping[str, str]] = None,
    out: Optional[TextIO] = None,
    err: Optional[TextIO] = None,
) -> int:
    """Runs the command that argv names; gives the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    options = Detect.of_service(argv) or _parsed(argv)
    try:
        return int(options.start(options, os.environ if environ is None else environ, out or sys.stdout))
    except ConfigError as error:
        (err or sys.stderr).write(f"custodes {options.command}: {error}\n")
        return UNUSABLE


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    import argparse  # noqa: PLC0415 - the service does without

    parser = argparse.ArgumentParser(
        prog="custodes", description="What the custodes.security_dr collection runs on hosts."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        about = (command.__doc__ or "").strip()
        one = commands.add_parser(command.name, help=about, description=about)
        command.options(one)
        one.set_defaults(start=command.run)
    return parser.parse_args(argv)


def run() -> NoReturn:
    """What the agent's file calls: main(), and an end at once, as tidying up takes a twentieth of a scan."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError:
        code = code or UNUSABLE
    os._exit(code)
