# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``custodes watchdog``: tells when Prometheus or Alertmanager could alert nobody any more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from ..files import StoreError
from .config import ConfigError, read_config
from .version import VERSION

if TYPE_CHECKING:
    import argparse

CONFIG = "/etc/custodes/watchdog.json"

OK, FAILED = 0, 1


class Watchdog:
    """Asks Prometheus and Alertmanager whether alerts could reach anybody; tells the emergency webhooks when not."""

    name = "watchdog"

    @staticmethod
    def options(parser: argparse.ArgumentParser) -> None:
        """Adds the options of this command."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--run", action="store_true", help="ask, and send what is to be sent, as the service does")
        what.add_argument("--last", action="store_true", help="ask nobody: print what the last run recorded")
        what.add_argument("--check-config", action="store_true", help="only read the configuration and judge it")
        parser.add_argument("--config", default=CONFIG, metavar="FILE", help="default: %(default)s")
        parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")

    @staticmethod
    def run(options: Any, environ: Mapping[str, str], out: TextIO) -> int:
        """Runs this command; gives the exit code. Raises ConfigError."""
        from ..detection import heartbeat  # noqa: PLC0415 - the other commands do without
        from ..detection.errors import DetectionError  # noqa: PLC0415
        from ..detection.memory import Memory  # noqa: PLC0415

        config = read_config(options.config, environ)
        try:
            settings = heartbeat.Settings.from_config(config, VERSION)
            if options.check_config:
                out.write(f"{options.config} is usable.\n")
                return OK
            if options.last:
                memory = Memory.load(settings.memory)
                report = {**memory.last_run, "findings": memory.active()} if memory.last_run else {}
            else:
                report = heartbeat.run(settings, VERSION)
        except (DetectionError, StoreError) as error:
            raise ConfigError(f"{options.config}: {error}" if options.check_config else str(error)) from error
        out.write(json.dumps(report, sort_keys=True) + "\n" if options.json else watchdog_text(report))
        return FAILED if report.get("problem") and options.run else OK


def watchdog_text(report: Mapping[str, Any]) -> str:
    """A run's report in a few lines, for a person or the journal."""
    if not report:
        return "No run has recorded anything yet. Start one: systemctl start custodes-watchdog.service\n"
    lines = [f"{one['severity']}: {one['summary']}" for one in report["findings"]]
    lines += [f"Not seen: {sentence}" for sentence in report["blind"]]
    for name, one in report["delivery"].get("destinations", {}).items():
        lines += [f"Webhook {name}: {one['problem']}"] if one["problem"] else []
    lines += [f"FAILED: {report['problem']}"] if report["problem"] else []
    return "\n".join(lines or ["Alerts can reach somebody: everyone who was asked answers, and is well."]) + "\n"
