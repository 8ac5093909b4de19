# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that hosts run, ``custodes COMMAND``. Each command is a class with an entry in COMMANDS.

Exit codes: 0 it went well, 1 it ran and failed, 2 it could not even begin (usage, an unreadable configuration).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Optional, TextIO

from .config import ConfigError
from .detect import Detect
from .snapshot import Snapshot

UNUSABLE = 2


COMMANDS = (Detect, Snapshot)


def _help(prog: str) -> argparse.HelpFormatter:
    # argparse makes one for each option, and would measure the terminal: its imports are a twentieth of a scan.
    return argparse.HelpFormatter(prog, width=100)


def main(
    argv: Optional[Sequence[str]] = None,
    environ: Optional[Mapping[str, str]] = None,
    out: Optional[TextIO] = None,
    err: Optional[TextIO] = None,
) -> int:
    """Runs the command that argv names; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="custodes", description="What the custodes.security_dr collection runs on hosts.", formatter_class=_help
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", prog="custodes")
    for command in COMMANDS:
        about = (command.__doc__ or "").strip()
        one = commands.add_parser(command.name, help=about, description=about, formatter_class=_help)
        command.options(one)
        one.set_defaults(start=command.run)
    options = parser.parse_args(argv)
    try:
        return int(options.start(options, os.environ if environ is None else environ, out or sys.stdout))
    except ConfigError as error:
        (err or sys.stderr).write(f"custodes {options.command}: {error}\n")
        return UNUSABLE
