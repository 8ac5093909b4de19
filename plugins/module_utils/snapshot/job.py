# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole unattended run: one at a time, recorded for the next run and for Prometheus however it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .. import textfile
from ..files import StoreError
from ..lock import BusyError, locked
from ..vault import auth
from ..vault.client import Connection, VaultClient
from ..vault.errors import VaultError
from . import backup, metrics
from .archive import SnapshotInfo
from .backup import Leg
from .catalogue import CLOCK_SLACK
from .download import origin_of
from .errors import SnapshotError
from .manifest import Origin
from .settings import Settings
from .state import State, load, save

EXPECTED = (VaultError, SnapshotError, StoreError)
"""What an operator can mend. Anything else is a bug, which is recorded as a failed run and raised."""


@dataclass
class Report:
    """What a run came to.

    Attributes:
        result: one of metrics.RESULTS.
        problem: why it is neither a success nor skipped, and what to do; None otherwise.
        warnings: what does not fail the run and should be known all the same.
        started_at: UTC, ISO 8601.
        duration: seconds.
        snapshot: the manifest of what was taken, None where nothing arrived whole; it is stored only where
            `destinations` says so.
        destinations: as Leg.to_dict tells.
        skipped: why there was nothing to do, None where there was.
        error_type: name of the exception that ended it, SnapshotError where none did.
    """

    result: str
    started_at: str
    problem: str | None = None
    warnings: list[str] = field(default_factory=list)
    duration: float = 0.0
    snapshot: dict[str, Any] | None = None
    destinations: list[dict[str, Any]] = field(default_factory=list)
    skipped: str | None = None
    error_type: str = SnapshotError.__name__

    def fail(self, error: Exception) -> None:
        """Takes it for the reason why the run has failed."""
        self.result, self.problem, self.error_type = "failed", str(error), type(error).__name__

    @property
    def ok(self) -> bool:
        """Whether there is nothing that somebody has to get up for."""
        return self.result in ("success", "skipped")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {"ok": self.ok, **asdict(self)}


def run_job(
    config: Mapping[str, Any],
    environ: Mapping[str, str],
    check: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    monotonic: Callable[[], float] = time.monotonic,
    client: Callable[[Connection], VaultClient] = VaultClient,
) -> Report:
    """Does one run. What goes wrong and an operator can mend is in the report; it is never raised.

    Args:
        config: as docs/vault-snapshots.md describes it.
        environ: for VAULT_ADDR and its like, where config has none.
        check: looks whether a run could begin, at Vault and at every destination, and changes nothing.
    """
    started, begin = now(), monotonic()
    report = Report("failed", started.isoformat(timespec="seconds"))
    try:
        settings = Settings.from_config(config, environ)
    except EXPECTED as error:
        report.fail(error)
        path = Settings.metrics_path(config)
        if path and not check:
            _write_metrics(report, _remembered(config), [], path, now())
        return report
    run = _Run(settings, environ, started, report, client)
    if check:
        run.attempt(check=True)
        report.duration = round(monotonic() - begin, 3)
        return report
    try:
        with locked(settings.state_directory, "snapshot run"):
            try:
                run.load_state()
                run.attempt()
            except BaseException as error:
                report.result, report.problem = "failed", f"The run was ended by {type(error).__name__}: {error}"
                raise
            finally:
                report.duration = round(monotonic() - begin, 3)
                run.record(now())
    except BusyError as error:
        # The run that holds the lock writes state and metrics; this one must not claim anything.
        report.fail(error)
    except StoreError as error:
        # What earlier runs have noted is not lost over it.
        run.load_state()
        report.fail(error)
        run.record(now())
    return report


class _Run:
    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        started: datetime,
        report: Report,
        client: Callable[[Connection], VaultClient],
    ) -> None:
        self.settings = settings
        self.environ = environ
        self.started = started
        self.report = report
        self.client = client
        self.state = State()
        self.legs = [Leg(destination) for destination in settings.destinations]

    def load_state(self) -> None:
        try:
            self.state = load(self.settings.state_directory)
        except StoreError as error:
            self.report.warnings.append(f"{error} It is begun anew.")

    def attempt(self, check: bool = False) -> None:
        """The run itself; its end is in the report."""
        try:
            self._work(check)
        except EXPECTED as error:
            self.report.fail(error)
        self.report.warnings += [warning for leg in self.legs for warning in leg.warnings]
        self.report.destinations = [leg.to_dict() for leg in self.legs]

    def _work(self, check: bool) -> None:
        client = self.client(self.settings.connection)
        if self.settings.only_on_leader:
            leader = client.leader_address()
            if leader != self.settings.connection.url:
                self._skip(f"{self.settings.connection.url} is not the leader: {leader} is")
                return
        backup.look(self.legs, self.started, clean=not check)
        young = self._young_enough()
        if young:
            self._skip(young)
            return
        auth.authenticate(client, self.settings.vault, self.environ)
        try:
            leader_client = client.at_leader()
            if check:
                self._conclude(None)
                return
            origin = replace(origin_of(leader_client), seal_key_id=self.settings.seal_key_id)
            taken = backup.deliver(
                leader_client,
                origin,
                self.legs,
                self.started,
                self.settings.first_byte_timeout,
                lambda info: self._judge(info, origin),
                self.state.read_back_is_due(self.settings.read_back_every),
            )
        finally:
            client.logout()
        self.report.snapshot = taken.manifest
        self._conclude(taken)
        if self.report.ok:
            for leg in self.legs:
                if leg.verified:
                    leg.prune(self.started)

    def _skip(self, why: str) -> None:
        self.report.result, self.report.skipped = "skipped", why

    def _young_enough(self) -> str | None:
        """Why nothing has to be taken: another node has done so a while ago, to all that is required."""
        ages = [
            self.started - _taken_at(leg.last_good) if leg.last_good and leg.problem is None else None
            for leg in self.legs
            if leg.destination.required
        ]
        limit = timedelta(seconds=self.settings.min_interval)
        known = [age for age in ages if age is not None and timedelta(0) <= age < limit]
        if not ages or len(known) < len(ages):
            return None
        return f"every required destination has a good snapshot of {max(known).total_seconds():.0f} s ago"

    def _judge(self, info: SnapshotInfo, origin: Origin) -> str | None:
        last = self._last_good()
        reason = backup.why_flagged(info, origin, last, self.settings.max_key_loss_percent)
        if reason is None and last is not None and last.get("cluster_id") != origin.cluster_id:
            self.report.warnings.append(
                f"The last good snapshot, {last.get('name')}, is of another cluster ({last.get('cluster_id')}) than "
                f"this one ({origin.cluster_id}). If two clusters share a destination, give each a prefix of its own."
            )
        if reason is not None and self.settings.accept_flagged:
            self.report.warnings.append(f"Accepted, as accept_flagged says: {reason}.")
            return None
        return reason

    def _last_good(self) -> dict[str, Any] | None:
        """The newest good manifest of any destination, or of this host's own memory while that destination is down."""
        found = [manifest for manifest in (*(leg.last_good for leg in self.legs), self.state.last_good) if manifest]
        present = [manifest for manifest in found if _taken_at(manifest) <= self.started + CLOCK_SLACK]
        return max(present or found, key=_taken_at, default=None)

    def _conclude(self, taken: backup.Taken | None) -> None:
        """Sets result and problem; without anything taken, by what the destinations answer."""
        done = [leg for leg in self.legs if (leg.verified if taken else leg.problem is None)]
        lost = [leg for leg in self.legs if leg not in done and leg.destination.required]
        said: list[str] = []
        if taken is not None and taken.flagged and done:
            said.append(
                f"{taken.manifest['name']} was stored, but flagged: {taken.flagged}. It is not offered as the latest, "
                "and nothing was pruned. Find out what has happened to Vault. If this is what Vault is meant to hold "
                "from now on, run once with accept_flagged."
            )
        if lost or not done:
            self.report.error_type = StoreError.__name__
            held = ", ".join(leg.label for leg in done) or "none"
            what = "a verified copy of the new snapshot" if taken else "answered"
            said.append(
                f"{len(lost) or len(self.legs)} of {len(self.legs)} destinations failed, so this run has: "
                f"{backup.problems(lost or self.legs)} Nothing was pruned. With {what}: {held}."
            )
        self.report.problem = " ".join(said) or None
        flagged = taken is not None and taken.flagged and done
        self.report.result = "flagged" if flagged else "failed" if said else "success"
        self.report.warnings += [
            f"{leg.label}, which is optional, failed: {leg.problem}" for leg in self.legs if leg not in (*done, *lost)
        ]

    def record(self, ended: datetime) -> None:
        """Writes down the run for the next one and for Prometheus. That it cannot is a warning: the copies count."""
        report, state = self.report, self.state
        state.last_run = ended.timestamp()
        if report.snapshot is not None:
            state.last_snapshot = report.snapshot
        if report.result == "success":
            state.last_success = ended.timestamp()
            state.last_good = report.snapshot
            due = state.read_back_is_due(self.settings.read_back_every)
            state.runs_since_read_back = 0 if due else state.runs_since_read_back + 1
        try:
            save(self.settings.state_directory, state)
        except StoreError as error:
            report.warnings.append(str(error))
        if self.settings.metrics_file:
            _write_metrics(report, state, self.legs, self.settings.metrics_file, ended)


def _remembered(config: Mapping[str, Any]) -> State:
    """The state, as far as it can be found by a config that is wrong."""
    with suppress(StoreError, KeyError, TypeError):
        return load(Path(config["state_directory"]))
    return State()


def _write_metrics(report: Report, state: State, legs: list[Leg], path: Path, ended: datetime) -> None:
    last = state.last_snapshot or {}
    values = {
        "last_success_timestamp_seconds": state.last_success,
        "last_run_timestamp_seconds": ended.timestamp(),
        "duration_seconds": report.duration,
        "size_bytes": last.get("size"),
        "index": last.get("index"),
        "keys": sum(last["key_counts"].values()) if last else None,
    }
    by_destination: list[tuple[str, Mapping[str, Any]]] = []
    for leg in legs:
        told: dict[str, Any] = {"kept": leg.kept}
        if report.result != "skipped":
            told.update(verified=leg.verified, destination_success=leg.verified and not leg.prune_problem)
            told.update(pruned=len(leg.pruned))
        by_destination.append((leg.label, told))
    try:
        textfile.write(path, metrics.render(report.result, values, by_destination))
    except StoreError as error:
        report.warnings.append(f"Prometheus is not told of this run: {error}")


def _taken_at(manifest: Mapping[str, Any] | None) -> datetime:
    try:
        moment = datetime.fromisoformat(str((manifest or {}).get("taken_at")))
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
