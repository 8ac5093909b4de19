# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``custodes snapshot``: takes a verified snapshot of Vault."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Optional, TextIO

from .config import ConfigError, become_owner, read_config

if TYPE_CHECKING:
    import argparse

CONFIG = "/etc/custodes/snapshot.json"

OK, FAILED = 0, 1


class Snapshot:
    """Takes a verified snapshot of Vault into every destination, as vault-snapshot.service does."""

    name = "snapshot"

    @staticmethod
    def options(parser: argparse.ArgumentParser) -> None:
        """Adds the options of this command."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--once", action="store_true", help="take one snapshot now")
        what.add_argument("--check-config", action="store_true", help="only read the configuration and judge it")
        parser.add_argument("--config", default=CONFIG, metavar="FILE", help="default: %(default)s")
        parser.add_argument("--json", action="store_true", help="print the whole report as one JSON object")
        parser.add_argument(
            "--accept-flagged",
            action="store_true",
            help="take a snapshot that shrank or went backwards as the new measure: you know why it did",
        )

    @staticmethod
    def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
        """Runs this command; gives the exit code. Raises ConfigError."""
        if sys.flags.no_site:
            # So the agent's file starts, for detection's sake; this command needs what is installed beside Python.
            import site  # noqa: PLC0415

            site.main()
        # What a command needs is imported by that command: detection must run where there is no hvac.
        from ..snapshot import job  # noqa: PLC0415
        from ..snapshot.settings import Settings  # noqa: PLC0415
        from ..vault.client import HVAC_IMPORT_ERROR  # noqa: PLC0415

        if HVAC_IMPORT_ERROR is not None:
            raise ConfigError(
                f"{sys.executable} cannot import what snapshots need: {HVAC_IMPORT_ERROR}. Install hvac, boto3 and "
                "requests there, or run the role vault_snapshot again."
            )
        config = read_config(options.config, environ)
        if options.check_config:
            try:
                Settings.from_config(config, environ)
            except job.EXPECTED as error:
                raise ConfigError(f"{options.config}: {error}") from error
            out.write(f"{options.config} is usable.\n")
            return OK
        if options.accept_flagged:
            config["accept_flagged"] = True
        become_owner(config.get("state_directory"))
        # So systemd ends a run that takes too long: a failed one, which is recorded and told to Prometheus.
        signal.signal(signal.SIGTERM, _end)
        report = job.run_job(config, environ)
        told = report.to_dict()
        out.write(json.dumps(told, sort_keys=True) + "\n" if options.json else snapshot_text(told))
        return OK if report.ok else FAILED


def _end(_number: int, _frame: Optional[FrameType]) -> None:
    raise SystemExit(
        "it was told to end (SIGTERM): by hand, or because it took longer than TimeoutStartSec of its service"
    )


def snapshot_text(told: Mapping[str, Any]) -> str:
    """A run's report in a few lines, for a person or the journal."""
    snapshot = told["snapshot"] or {}
    name = f" {snapshot['name']}" if snapshot else ""
    lines = [f"Snapshot{name}: {told['result']}, {told['duration']:.1f} s"]
    if snapshot:
        keys = sum(snapshot["key_counts"].values())
        lines.append(f"  {snapshot['size']} bytes, Raft index {snapshot['index']}, {keys} keys")
    for one in told["destinations"]:
        what = "verified" if one["verified"] else "nothing new"
        kept = "unknown" if one["kept"] is None else one["kept"]
        lines.append(f"  {one['label']}: {what}, {kept} kept, {len(one['pruned'])} pruned")
        lines += [f"    {one['prune_problem']}"] if one["prune_problem"] else []
    lines += [f"  {told['skipped']}"] if told["skipped"] else []
    lines += [f"  Warning: {warning}" for warning in told["warnings"]]
    lines += [f"  {told['problem']}"] if told["problem"] else []
    return "\n".join(lines) + "\n"
