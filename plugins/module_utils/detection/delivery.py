# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends alerts to webhooks while the log store is not ready, and keeps on disk what none of them has taken yet.

The spool is saved with every acknowledgement, so that a restart sends nothing twice. What a crash between a receiver's
2xx and that save repeats has the same ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

from ..files import StoreError
from . import receivers, transport
from .errors import DetectionError
from .findings import Finding
from .options import read
from .receivers import Destination, Event
from .rules import SEVERITIES
from .spool import Entry, Spool, findings

BACKOFF, LONGEST_BACKOFF, LONGEST_RETRY_AFTER = 60.0, 1800.0, 3600.0
"""Seconds: the first ceiling of the back-off, the last one, and the most that a receiver can ask for."""
PATIENCE, PAUSES = 5.0, 3
"""So many seconds of Retry-After are slept off within a delivery, so many times for one request."""
MOST_REFUSALS = 60
"""Requests that one destination may refuse in one delivery: those of a batch in single events, and some."""

_SINGLY = (400, 413, 422)
"""One event may be the reason for these; for any other 4xx it is the URL or the token."""


class Options(NamedTuple):
    """How to deliver.

    Attributes:
        when: degraded, while the log store is not ready, or always.
        to: first, an event is done when one destination has it, or all.
        min_severity: one of SEVERITIES.
        hold_seconds: for so long the log store has to have been ready until it counts as having an event.
        spool_max: events.
        budget: seconds for one delivery.
        destinations: in the order of preference.
        version: of this program, for the receivers.
    """

    when: str
    to: str
    min_severity: str
    hold_seconds: float
    spool_max: int
    budget: float
    destinations: tuple[Destination, ...]
    version: str

    @classmethod
    def from_config(cls, config: Any, version: str = "") -> Options:
        """Checks the configuration's part `delivery`. Raises DetectionError."""
        options = read(config, "delivery", _OPTIONS)
        for name, values in (("when", ("degraded", "always")), ("to", ("first", "all")), ("min_severity", SEVERITIES)):
            if options[name] not in values:
                raise DetectionError(f"The configuration's delivery.{name} has to be one of {', '.join(values)}.")
        options["destinations"] = tuple(
            receivers.read_destination(given, f"delivery.destinations[{number}]")
            for number, given in enumerate(options["destinations"])
        )
        names = [destination.name for destination in options["destinations"]]
        for name in names:
            if names.count(name) > 1:
                raise DetectionError(f"The configuration's delivery names the destination {name!r:.100} twice.")
        return cls(version=version, **options)


_OPTIONS: dict[str, tuple[type, Any]] = {
    "when": (str, "degraded"),
    "to": (str, "first"),
    "min_severity": (str, "medium"),
    "hold_seconds": (float, 600.0),
    "spool_max": (int, 1000),
    "budget": (float, 60.0),
    "destinations": (list, []),
}


def _uniform(ceiling: float) -> float:
    import random  # noqa: PLC0415 - only where something has failed

    return random.uniform(0.0, ceiling)  # noqa: S311 - spreads load, guards nothing


def deliver(
    events: Sequence[Event],
    store_state: str,
    memory: dict[str, Any],
    options: Options,
    save: Callable[[], None],
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    post: Callable[..., transport.Answer] = transport.post,
    jitter: Callable[[float], float] = _uniform,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, Any], list[Finding]]:
    """Takes this run's events into the spool and sends what is to be sent.

    While the log store is ready, only the end of what was sent before is sent.

    Args:
        events: those of this run. Events of the delivery before may be among them: they are known by their ids.
        store_state: one of infrastructure.STATES.
        memory: the spool; empty at first, changed here.
        options: how.
        save: makes the spool last. When it raises StoreError, what can be sent is sent nevertheless.
        clock, sleep, post, jitter, monotonic: stand in for time.time, time.sleep, transport.post, the random part of
            the back-off under a ceiling, and time.monotonic.

    Returns:
        The report, without secrets: how many events were `sent`, `rejected` and `dropped` now, how many are `waiting`,
        and by `destinations` the last `problem` of each or None, and `retry_in`, in seconds. And what
        spool.findings(memory) gives: the next run takes it up.

    Raises StoreError, at its end: the last save has failed.
    """
    names = [destination.name for destination in options.destinations]
    spool = Spool(memory, names, first=options.to == "first")
    sender = _Sender(spool, options, save, clock, sleep, post, jitter, monotonic)
    always, ready = options.when == "always", store_state == "ready"
    now = clock()
    spool.enqueue(events, now, options.min_severity)
    spool.hold(now, float("inf") if always else options.hold_seconds, ready=ready)
    spool.clear()
    spool.bound(options.spool_max)
    sender.save()
    sender.send(everything=always or not ready)
    spool.clear()
    sender.save()
    if sender.unsaved is not None:
        raise sender.unsaved
    return sender.report(), findings(memory)


class _Sender:
    def __init__(
        self,
        spool: Spool,
        options: Options,
        save: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        post: Callable[..., transport.Answer],
        jitter: Callable[[float], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._spool, self._options, self._save = spool, options, save
        self._clock, self._sleep, self._post = clock, sleep, post
        self._jitter, self._monotonic = jitter, monotonic
        self._end = monotonic() + options.budget
        self.unsaved: Optional[StoreError] = None

    def save(self) -> None:
        try:
            self._save()
            self.unsaved = None
        except StoreError as error:
            # A disk that somebody has filled must not keep alerts from being sent.
            self.unsaved = error

    def send(self, *, everything: bool) -> None:
        """To each destination that is not backed off from: what it wants, then the end of what it was told."""
        usable = [one for one in self._options.destinations if not self._pause(one)]
        for number, destination in enumerate(usable):
            share = len(usable) - number
            if not everything or self._send_all(destination, self._spool.wanted(destination.name), share):
                self._send_all(destination, self._spool.closing(destination.name), share)

    def _pause(self, destination: Destination) -> float:
        """Seconds until it is tried again. More than can have been set means that the clock was set back."""
        left: float = self._spool.state(destination.name)["not_before"] - self._clock()
        return left if 0 < left <= LONGEST_RETRY_AFTER else 0.0

    def _send_all(self, destination: Destination, entries: list[Entry], share: int) -> bool:
        """Batch after batch; whether it is any use to go on with this destination in this delivery."""
        by_id = {entry["event"]["id"]: entry for entry in entries}
        waiting = receivers.batches(destination.type, [entry["event"] for entry in entries])
        refusals = 0
        while waiting:
            batch = waiting.pop(0)
            status = self._send(destination, batch, share)
            if status is None:
                return False
            sent = [by_id[event["id"]] for event in batch]
            if status < 300:
                self._spool.acknowledge(destination.name, sent)
            else:
                refusals += 1
                if status in _SINGLY and len(batch) > 1:
                    waiting[:0] = [[event] for event in batch]
                else:
                    self._spool.refuse(destination.name, sent, status)
            self.save()
            if refusals >= MOST_REFUSALS:
                return False
        return True

    def _send(self, destination: Destination, batch: Sequence[Event], share: int) -> Optional[int]:
        """The status of an answer that settles these events, 2xx or most of 4xx; None when they have to wait."""
        request = receivers.request(destination, batch, self._options.version)
        state = self._spool.state(destination.name)
        for pauses in range(PAUSES + 1):
            left = self._end - self._monotonic()
            if left < 1:
                return None
            timeout = min(destination.timeout, left / share)
            try:
                answer = self._post(
                    request.url, request.body, request.headers, destination.ca_cert, timeout, destination.proxy
                )
            except transport.HttpError as error:
                self._back_off(state, str(error), 0.0)
                return None
            status, wait = answer.status, answer.retry_after or 0.0
            if 200 <= status < 300:
                state.update(failures=0, not_before=0.0, problem=None)
                return status
            state["problem"] = f"It answers {status}."
            if 400 <= status < 500 and status not in (408, 429):
                return status
            left = self._end - self._monotonic()
            if answer.retry_after is None or wait > min(PATIENCE, left - 1) or pauses == PAUSES:
                break
            self._sleep(wait)
        self._back_off(state, f"It answers {status}.", wait)
        return None

    def _back_off(self, state: dict[str, Any], problem: str, retry_after: float) -> None:
        state["failures"] += 1
        ceiling = min(LONGEST_BACKOFF, BACKOFF * 2.0 ** min(state["failures"] - 1, 20))
        wait = max(self._jitter(ceiling), min(retry_after, LONGEST_RETRY_AFTER))
        state.update(not_before=self._clock() + wait, problem=problem)
        self.save()

    def report(self) -> dict[str, Any]:
        """As deliver() gives it."""
        return {
            "sent": len(self._spool.sent),
            "waiting": len(self._spool.value["queue"]),
            "rejected": len(self._spool.refused),
            "dropped": self._spool.dropped,
            "destinations": {
                one.name: {"problem": self._spool.state(one.name)["problem"], "retry_in": round(self._pause(one))}
                for one in self._options.destinations
            },
        }
