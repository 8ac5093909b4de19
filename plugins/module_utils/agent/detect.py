# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``custodes detect``: looks for the obvious signs of an intruder on this host."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Optional, TextIO

from ..files import StoreError
from .config import ConfigError, read_config
from .version import VERSION

if TYPE_CHECKING:
    import argparse

    from ..detection.settings import Settings

CONFIG = "/etc/custodes/detect.json"

OK, FAILED = 0, 1
MATTERS = frozenset({"medium", "high", "critical"})
"""Severities for which a scan by hand ends with FAILED."""


class Detect:
    """Looks for the obvious signs of an intruder; without options it prints what is there now and records nothing."""

    name = "detect"

    @staticmethod
    def options(parser: argparse.ArgumentParser) -> None:
        """Adds the options of this command."""
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--run", action="store_true", help="record and send what is found, as the service does")
        what.add_argument("--last", action="store_true", help="do not scan: print what the last run recorded")
        what.add_argument("--rebaseline", action="store_true", help="take what is there now for good, after asking")
        what.add_argument("--check-config", action="store_true", help="only read the configuration and judge it")
        parser.add_argument("--yes", action="store_true", help="with --rebaseline: do not ask")
        parser.add_argument("--config", default=CONFIG, metavar="FILE", help="default: %(default)s")
        parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")

    @staticmethod
    def of_service(argv: Sequence[str]) -> Optional[SimpleNamespace]:
        """The options, where these are the arguments that the unit gives: argparse would take a tenth of a scan."""
        if len(argv) != 4 or list(argv[:3]) != ["detect", "--run", "--config"]:
            return None
        asked = {"last": False, "rebaseline": False, "check_config": False, "yes": False, "json": False}
        return SimpleNamespace(command="detect", start=Detect.run, run=True, config=argv[3], **asked)

    @staticmethod
    def run(options: Any, environ: Mapping[str, str], out: TextIO) -> int:
        """Runs this command; gives the exit code. Raises ConfigError."""
        # A short life, in which hardly anything becomes garbage: looking for it costs more than it gives back.
        gc.disable()
        # What a command needs is imported by that command: the other one need not be able to run.
        from ..detection.errors import DetectionError  # noqa: PLC0415

        # Credentials are needed to send and to judge, and only root can read them.
        config = read_config(options.config, environ)
        try:
            if options.check_config:
                _settings(config)
                out.write(f"{options.config} is usable.\n")
                return OK
            if os.geteuid() != 0:
                raise ConfigError("Run this as root: others see only what is their own, and would take that for all.")
            if options.rebaseline:
                return _rebaseline(_settings(config), options, out)
            report, code = _last(config) if options.last else _scan(config, record=options.run)
        except (DetectionError, StoreError) as error:
            raise ConfigError(f"{options.config}: {error}" if options.check_config else str(error)) from error
        out.write(_told(report, as_json=options.json))
        return code


def _settings(config: Mapping[str, Any]) -> Settings:
    from ..detection.settings import Settings  # noqa: PLC0415 - as above

    return Settings.from_config(config, time.time(), VERSION)


def _last(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    from ..detection import job  # noqa: PLC0415 - as above

    return job.last(_settings(config)), OK


def _scan(config: Mapping[str, Any], *, record: bool) -> tuple[dict[str, Any], int]:
    now = time.time()
    # Each is waited for while what the next one needs is still being imported.
    from ..detection import infrastructure  # noqa: PLC0415 - as above

    with infrastructure.start(infrastructure.Options.from_config(config.get("infrastructure")), now) as probes:
        settings = _settings(config)
        from ..detection import programs  # noqa: PLC0415

        with programs.start(settings) as running:
            from ..detection import job  # noqa: PLC0415

            aside = job.Aside(probes, running)
            if record:
                report = job.run(settings, VERSION, aside=aside)
                return report, FAILED if report["problem"] else OK
            report = job.preview(settings, VERSION, aside=aside)
            return report, FAILED if _matters(report) else OK


def _matters(report: Mapping[str, Any]) -> bool:
    severities = {finding["severity"] for finding in report.get("findings", ())}
    return bool(severities & MATTERS or report.get("blind") or report.get("problem"))


def _told(report: Mapping[str, Any], *, as_json: bool) -> str:
    from ..detection.report import text  # noqa: PLC0415 - as above

    if as_json:
        return json.dumps(report, sort_keys=True) + "\n"
    if not report:
        return "No run has recorded anything yet. Start one: systemctl start degraded-detection.service\n"
    return text(report)


def _rebaseline(settings: Settings, options: Any, out: TextIO) -> int:
    from ..detection import job  # noqa: PLC0415 - as above

    def confirm(lines: Sequence[str]) -> bool:
        out.write("".join(f"{line}\n" for line in lines) or "Nothing has changed since the last baseline.\n")
        if options.yes:
            return True
        out.write("All of this is taken for good from now on. Go on? Type yes: ")
        out.flush()
        return sys.stdin.readline().strip() == "yes"

    baseline = job.rebaseline(settings, time.time(), confirm)
    if baseline is None:
        out.write("Nothing was changed.\n")
        return FAILED
    out.write(f"Baseline written: {len(baseline.items)} items, {baseline.written}.\n")
    return OK
