# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One scan of this host, from the lock to the metrics: looks, compares, remembers, logs, sends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple, Optional

from ..files import StoreError
from ..lock import BusyError, locked
from . import alerts, allowlist, baseline, infrastructure, persistence, programs, scheduled
from .baseline import Baseline, BaselineDamaged, BaselineMissing
from .errors import DetectionError
from .findings import Finding, Scan, found
from .inventory import Inventory, Reader, empty, merge
from .memory import Memory, utc
from .programs import guarded
from .rules import SEVERITIES
from .settings import Settings

EXPECTED = (DetectionError, StoreError)
"""What an operator can mend; the message says how."""


class Seen(NamedTuple):
    """What one look at the host gave.

    Attributes:
        scans: by scanner.
        inventory: what a baseline is made of.
        reader: of the same look.
        log_store: one of infrastructure.STATES.
        baseline: for the report: its state, when it was written, how many items it has.
    """

    scans: dict[str, Scan]
    inventory: Inventory
    reader: Reader
    log_store: str
    baseline: dict[str, Any]


class Aside(NamedTuple):
    """What child processes look at, under way. Whoever started them ends them."""

    probes: infrastructure.Running
    programs: programs.Running


def look(
    settings: Settings, memory: Memory, now: float, *, record: bool, root: str = "/", aside: Optional[Aside] = None
) -> Seen:
    """Everything that the rules ask for. Changes nothing but, with `record`, the baseline of a host that had none.

    Without `aside` it is started here. Raises StoreError where the baseline cannot be written.
    """
    with ExitStack() as ends:
        if aside is None:
            probes = ends.enter_context(infrastructure.start(settings.infrastructure, now))
            aside = Aside(probes, ends.enter_context(programs.start(settings, root)))
        reader = Reader(root, settings.persistence.skip_folders)
        inventory = _inventory(reader, settings)
        old, judged, report = _baseline(settings, memory, inventory, now, record=record)
        accept = settings.accept_package_changes
        changed = guarded(
            "files", lambda: Scan(baseline.compare(old, inventory, reader, accept_package_changes=accept), [])
        )
        scans = {**aside.programs.finish(), "allowlist": Scan(settings.expired, []), "baseline": Scan(judged, [])}
        # With nothing to compare with, nobody can tell whether a change of before is still there: it stays.
        scans["files" if old else "standing"] = Scan(changed.findings, [*inventory.blind, *changed.blind])
        scans["infrastructure"], store = aside.probes.finish()
    allowed = {name: Scan(allowlist.apply(scan.findings, settings.allow), scan.blind) for name, scan in scans.items()}
    return Seen(allowed, inventory, reader, store, report)


def _inventory(reader: Reader, settings: Settings) -> Inventory:
    try:
        return merge(scheduled.scan(reader), persistence.scan(reader, settings.persistence))
    except Exception as error:  # noqa: BLE001 - the same
        lost = empty()
        lost.add_blind(
            "/", f"The scanner of files failed, which is a fault of its own: {type(error).__name__}: {error}"
        )
        return lost


def _baseline(
    settings: Settings, memory: Memory, inventory: Inventory, now: float, *, record: bool
) -> tuple[Optional[Baseline], list[Finding], dict[str, Any]]:
    """The baseline, what is to be said of it, and its part of the report."""
    path = settings.baseline
    state = "compared"
    try:
        old = baseline.load(path)
    except BaselineDamaged as error:
        return None, [found("baseline.damaged", path, str(error), {}, [])], {"state": "damaged"}
    except BaselineMissing as error:
        # A damaged memory may have known of one.
        if memory.scans or memory.damage:
            return None, [found("baseline.missing", path, str(error), {}, [])], {"state": "missing"}
        if not record:
            return None, [], {"state": "none"}
        old, state = baseline.write(path, inventory.items, now), "written"
    summary = f"A baseline was written at {old.written}: what was there then is taken for good."
    told = found("baseline.written", path, summary, {"items": len(old.items)}, [old.written])
    return old, [told], {"state": state, "written": old.written, "items": len(old.items)}


def preview(
    settings: Settings,
    version: str,
    clock: Callable[[], float] = time.time,
    root: str = "/",
    aside: Optional[Aside] = None,
) -> dict[str, Any]:
    """The report of a scan now, which records and sends nothing; `aside` as of look(). Raises DetectionError."""
    began, now = time.monotonic(), clock()
    memory = Memory.load(settings.memory)
    seen = look(settings, memory, now, record=False, root=root, aside=aside)
    memory.update(seen.scans, now, os.uname().nodename, settings.reminder)
    report = _report(seen, memory, version, now)
    report["duration"] = time.monotonic() - began
    return {**report, "findings": memory.active()}


def last(settings: Settings) -> dict[str, Any]:
    """The report of the last run that recorded; empty before there was one. Raises DetectionError."""
    memory = Memory.load(settings.memory)
    if memory.damage:
        raise DetectionError(
            f"What the last run recorded in {settings.memory} is damaged: {memory.damage}. The next run keeps it and "
            "tells so; what is there now: custodes detect"
        )
    return {**memory.last_run, "findings": memory.active()} if memory.last_run else {}


def run(
    settings: Settings,
    version: str,
    clock: Callable[[], float] = time.time,
    root: str = "/",
    aside: Optional[Aside] = None,
) -> dict[str, Any]:
    """Scans, records, sends what is to be sent, and gives the report; its `problem` is None when all of it went well.

    What cannot be remembered is sent nevertheless, again and again: a disk that somebody has filled must not silence a
    host. It is logged once it can be remembered, or each run would log it anew.

    Args:
        aside: as of look().

    Raises:
        BusyError: another scan is under way.
        StoreError, DetectionError: it could not begin, or not write its metrics.
    """
    try:
        return _run(settings, version, clock, root, aside)
    except BusyError:
        raise
    except EXPECTED as error:
        with suppress(StoreError):
            _write_metrics(settings, {"version": version, "problem": str(error)}, clock())
        raise


def _run(
    settings: Settings, version: str, clock: Callable[[], float], root: str, aside: Optional[Aside]
) -> dict[str, Any]:
    began, now = time.monotonic(), clock()
    with locked(settings.state_directory, "scan"):
        memory = Memory.load(settings.memory)
        seen = look(settings, memory, now, record=True, root=root, aside=aside)
        log = os.path.join(settings.log_directory, "alerts.log")
        problems: list[str] = []
        seen.scans["log"] = guarded("the log", lambda: Scan(alerts.tampered(log, memory.log), []))
        if settings.delivery.destinations:
            from . import spool  # noqa: PLC0415 - without a webhook nothing of it is needed

            seen.scans["delivery"] = Scan(spool.findings(memory.delivery), [])
        memory.update(seen.scans, now, os.uname().nodename, settings.reminder)
        report = _report(seen, memory, version, now)
        # On a quiet host one save at the end does, and nobody waits for the disk.
        busy = bool(memory.pending or memory.delivery.get("queue"))

        def save() -> None:
            if busy:
                memory.save(settings.memory)

        remembered = _saved(save, problems)
        _tell(settings, memory, log if remembered else None, seen.log_store, report, problems, save)
        report["problem"] = " ".join(problems) or None
        report["duration"] = time.monotonic() - began
        memory.last_run = report
        if not _saved(lambda: memory.save(settings.memory, sync=busy), problems):
            report["problem"] = " ".join(problems)
        report = {**report, "findings": memory.active()}
        _write_metrics(settings, report, clock())
        return report


def _saved(save: Callable[[], None], problems: list[str]) -> bool:
    try:
        save()
    except StoreError as error:
        if str(error) not in problems:
            problems.append(str(error))
        return False
    return True


def _tell(
    settings: Settings,
    memory: Memory,
    log: Optional[str],
    store: str,
    report: dict[str, Any],
    problems: list[str],
    save: Callable[[], None],
) -> None:
    """To the log, if any, then to the webhooks: a full disk keeps nothing from being sent."""
    events = memory.pending
    if events and log:
        try:
            memory.log = alerts.append(log, events, settings.log_max_bytes, settings.log_keep)
            # Saved as empty when the spool has them: in between, a crash makes them be told again, to both, by ids.
            memory.pending = []
        except DetectionError as error:
            problems.append(str(error))
    if settings.delivery.destinations:
        from . import delivery  # noqa: PLC0415 - the same

        try:
            report["delivery"], _findings = delivery.deliver(events, store, memory.delivery, settings.delivery, save)
        except StoreError as error:
            if str(error) not in problems:
                problems.append(str(error))
    try:
        alerts.note(
            os.path.join(settings.log_directory, "degraded-mode.log"),
            _line(report, problems),
            time.time(),
            settings.log_max_bytes,
            settings.log_keep,
        )
    except DetectionError as error:
        problems.append(str(error))


def _line(report: dict[str, Any], problems: list[str]) -> str:
    counts = ", ".join(f"{count} {severity}" for severity, count in report["counts"].items() if count) or "no findings"
    sent = report["delivery"]
    told = f"; webhooks: {sent['sent']} sent, {sent['waiting']} waiting" if sent else ""
    failed = f"; FAILED: {' '.join(problems)}" if problems else ""
    blind = f"; blind: {len(report['blind'])}" if report["blind"] else ""
    state = report["baseline"]["state"]
    return f"{counts}{blind}; baseline {state}; log store {report['log_store']}{told}{failed}"


def _report(seen: Seen, memory: Memory, version: str, now: float) -> dict[str, Any]:
    counts = dict.fromkeys(reversed(SEVERITIES), 0)
    for known in memory.known.values():
        counts[known.finding.severity] += 1
    return {
        "version": version,
        "host": os.uname().nodename,
        "started": utc(now),
        "duration": None,
        "baseline": seen.baseline,
        "counts": counts,
        "blind": [sentence for scan in seen.scans.values() for sentence in scan.blind],
        "log_store": seen.log_store,
        "delivery": {},
        "problem": None,
    }


def _write_metrics(settings: Settings, report: dict[str, Any], ended: float) -> None:
    if settings.metrics_file is None:
        return
    from .. import textfile  # noqa: PLC0415 - not every host has node_exporter
    from . import metrics  # noqa: PLC0415

    textfile.write(settings.metrics_file, metrics.render(report, ended))


def rebaseline(
    settings: Settings, now: float, confirm: Callable[[list[str]], bool], root: str = "/"
) -> Optional[Baseline]:
    """Takes what is there now for good, once `confirm` has seen every change in a line; None when it said no.

    Raises StoreError, BusyError, DetectionError.
    """
    with locked(settings.state_directory, "scan"):
        reader = Reader(root, settings.persistence.skip_folders)
        inventory = _inventory(reader, settings)
        old = None
        with suppress(BaselineMissing, BaselineDamaged):
            old = baseline.load(settings.baseline)
        changes = baseline.changes(old.items, inventory.items) if old else []
        lines = [baseline.sentence(change, reader) for change in changes if not _unseen(change, inventory)]
        lines += [f"Not seen, and kept as it was: {sentence}" for sentence in inventory.blind]
    # Whoever is asked may have gone to lunch, and scans go on.
    if not confirm(lines):
        return None
    with locked(settings.state_directory, "scan"):
        return baseline.write(settings.baseline, baseline.renewed(old, inventory), now)


def _unseen(change: baseline.Change, inventory: Inventory) -> bool:
    return change.after is None and inventory.is_unseen(change.path)
