# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host sees of the security infrastructure: Vault, the log store, Prometheus, Alertmanager, certificates.

Unreachable, unhealthy and "could not look" are three answers: findings of two rules, and a blind spot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional, Union

from ..files import read_regular
from . import transport
from .child import Child
from .errors import DetectionError
from .findings import Finding, Scan, found
from .options import read

PAUSE = 0.5
"""Seconds before a second attempt: one lost packet is no alert."""
GRACE = 2.0
"""Seconds beyond what all attempts may take."""

_NAMES = {"log_store": "The log store", "vault": "Vault", "prometheus": "Prometheus", "alertmanager": "Alertmanager"}
_PATHS = {
    "loki": "/ready",
    "http": "",
    "vault": "/v1/sys/health",
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
}
"""What is asked, by the type of the server. Source: each one's HTTP API documentation."""
_VAULT_GOOD = (200, 429, 472, 473)
_VAULT_BAD = {
    474: "is a standby that has no active node",
    501: "is not initialised",
    503: "is sealed",
    530: "was removed from its cluster",
}
"""Vault's documentation, /sys/health: 200 active, 429 standby, 472 DR secondary, 473 performance standby."""

STATES = ("ready", "unready", "unreachable", "unconfigured", "blind")


class Probe(NamedTuple):
    """A server to ask. Attributes: kind, a key of _NAMES; type, a key of _PATHS; name; url; ca_cert, a file or None."""

    kind: str
    type: str
    name: str
    url: str
    ca_cert: Optional[str]


class Certificate(NamedTuple):
    """A certificate to look at, by a file's path or by host and port. Attributes: days, to be left of it."""

    name: str
    path: Optional[str]
    host: str
    port: int
    server_name: Optional[str]
    ca_cert: Optional[str]
    days: float


Target = Union[Probe, Certificate]


class Options(NamedTuple):
    """Attributes: timeout, seconds of one attempt; attempts; probes; certificates."""

    timeout: float
    attempts: int
    probes: tuple[Probe, ...]
    certificates: tuple[Certificate, ...]

    @property
    def longest(self) -> float:
        """Seconds after which nothing is waited for any more."""
        return self.attempts * self.timeout + (self.attempts - 1) * PAUSE + GRACE

    @property
    def targets(self) -> tuple[Target, ...]:
        return (*self.probes, *self.certificates)

    @classmethod
    def from_config(cls, config: Any) -> Options:
        """Checks the configuration's part `infrastructure`. Raises DetectionError."""
        options = read(config, "infrastructure", _OPTIONS)
        probes = []
        if options["log_store"] is not None:
            store = read(options["log_store"], "infrastructure.log_store", _LOG_STORE)
            if store["type"] not in ("loki", "http"):
                raise DetectionError("The configuration's infrastructure.log_store.type has to be loki or http.")
            probes.append(_probe("log_store", store["type"], "", store, "infrastructure.log_store"))
        for kind in ("vault", "prometheus", "alertmanager"):
            for number, given in enumerate(options[kind]):
                where = f"infrastructure.{kind}[{number}]"
                server = read(given, where, _SERVER)
                probes.append(_probe(kind, kind, server["name"], server, where))
        several = [
            _certificate(given, f"infrastructure.certificates[{number}]", options["days"])
            for number, given in enumerate(options["certificates"])
        ]
        named = [("certificate", one.name) for one in several] + [(one.kind, one.name) for one in probes]
        for kind, name in named:
            if named.count((kind, name)) > 1:
                raise DetectionError(f"The configuration's infrastructure names the {kind} {name!r:.100} twice.")
        return cls(options["timeout"], options["attempts"], tuple(probes), tuple(several))


_OPTIONS: dict[str, tuple[type, Any]] = {
    "timeout": (float, 5.0),
    "attempts": (int, 2),
    "log_store": (dict, None),
    "vault": (list, []),
    "prometheus": (list, []),
    "alertmanager": (list, []),
    "certificates": (list, []),
    "days": (float, 14.0),
}
_LOG_STORE: dict[str, tuple[type, Any]] = {"url": (str, ...), "ca_cert": (str, None), "type": (str, "loki")}
_SERVER: dict[str, tuple[type, Any]] = {"name": (str, ...), "url": (str, ...), "ca_cert": (str, None)}
_CERTIFICATE: dict[str, tuple[type, Any]] = {
    "path": (str, None),
    "endpoint": (str, None),
    "server_name": (str, None),
    "ca_cert": (str, None),
    "days": (float, None),
}


def _probe(kind: str, form: str, name: str, options: Mapping[str, Any], where: str) -> Probe:
    url, path = options["url"], _PATHS[form]
    transport.parse_url(url, f"{where}.url")
    if path and not url.endswith(path):
        url = url.rstrip("/") + path
    return Probe(kind, form, name, url, options["ca_cert"])


def _certificate(given: Any, where: str, days: float) -> Certificate:
    options = read(given, where, _CERTIFICATE)
    path, endpoint, days = options["path"], options["endpoint"], options["days"] or days
    if (path is None) == (endpoint is None):
        raise DetectionError(f"The configuration's {where} has to have either path or endpoint.")
    if path is not None:
        return Certificate(path, path, "", 0, None, None, days)
    url = transport.parse_url(f"https://{endpoint}", f"{where}.endpoint")
    if url.target != "/":
        raise DetectionError(f"The configuration's {where}.endpoint has to be of the form host:port.")
    return Certificate(url.address, None, url.host, url.port, options["server_name"], options["ca_cert"], days)


class Outcome(NamedTuple):
    """Of one target. Attributes: state, as one of STATES; text, what kept this host from looking; findings."""

    state: str
    text: str = ""
    findings: tuple[Finding, ...] = ()


def scan(
    options: Options,
    now: float,
    get: Callable[..., transport.Answer] = transport.get,
    peer: Callable[..., bytes] = transport.peer_certificate,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Scan, str]:
    """Asks all at once; what was seen, and the state of the log store, one of STATES.

    Args:
        options: whom to ask.
        now: seconds since 1970.
        get, peer, sleep: stand in for transport.get, transport.peer_certificate and time.sleep.
    """
    import threading  # noqa: PLC0415 - a run without infrastructure needs none

    outcomes: dict[int, Outcome] = {}
    threads = []
    for number, target in enumerate(options.targets):

        def work(number: int = number, target: Target = target) -> None:
            outcomes[number] = _judged(target, options, now, get, peer, sleep)

        thread = threading.Thread(target=work, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # A host that is being flooded has no threads: one after the other is better than not at all.
            work()
        else:
            threads.append(thread)
    deadline = time.monotonic() + options.longest
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no end within {options.longest:g} seconds"
    return _gathered(options, [outcomes.get(number) or _blind(t, late) for number, t in enumerate(options.targets)])


def _gathered(options: Options, outcomes: list[Outcome]) -> tuple[Scan, str]:
    state = "unconfigured"
    if options.probes and options.probes[0].kind == "log_store":
        state = outcomes[0].state
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    return Scan(findings, [outcome.text for outcome in outcomes if outcome.text]), state


def _title(target: Target) -> str:
    if isinstance(target, Certificate):
        return f"The certificate {target.name}"
    return f"{_NAMES[target.kind]} {target.name}".strip()


def _blind(target: Target, reason: str) -> Outcome:
    return Outcome("blind", f"{_title(target)} could not be looked at: {reason}.")


def _judged(
    target: Target,
    options: Options,
    now: float,
    get: Callable[..., transport.Answer],
    peer: Callable[..., bytes],
    sleep: Callable[[float], None],
) -> Outcome:
    outcome = _blind(target, "it was not asked")
    for attempt in range(options.attempts):
        if attempt:
            sleep(PAUSE)
        try:
            if isinstance(target, Probe):
                outcome = _answered(target, get(target.url, target.ca_cert, options.timeout))
            else:
                outcome = _dated(target, options.timeout, now, peer)
        except transport.HttpError as error:
            outcome = _unreachable(target, error)
        if outcome.state in ("ready", "blind"):
            break
    return outcome


def _answered(probe: Probe, answer: transport.Answer) -> Outcome:
    status = answer.status
    accepted = {"vault": status in _VAULT_GOOD, "http": 200 <= status < 300}
    if accepted.get(probe.type, status == 200):
        return Outcome("ready")
    trouble = _VAULT_BAD.get(status) if probe.type == "vault" else None
    summary = f"{_title(probe)} {trouble or 'is not ready'} (it answers {status})."
    return Outcome("unready", findings=(_finding("infrastructure.unhealthy", probe, summary, {"status": status}),))


def _unreachable(target: Target, error: transport.HttpError) -> Outcome:
    if error.kind == "ca":
        return _blind(target, str(error).rstrip("."))
    if isinstance(target, Certificate) and error.certificate:
        from . import certificates  # noqa: PLC0415 - not in every run

        severity = "critical" if error.expired else "high"
        evidence = {"endpoint": target.name}
        return Outcome("unready", findings=(certificates.problem(target.name, str(error), evidence, severity),))
    summary = f"{_title(target)} cannot be reached: {error}"
    return Outcome(
        "unreachable", findings=(_finding("infrastructure.unreachable", target, summary, {"problem": error.kind}),)
    )


def _finding(rule: str, target: Target, summary: str, evidence: dict[str, Any]) -> Finding:
    if isinstance(target, Certificate):
        return found(rule, target.name, summary, evidence, ("certificate", target.name))
    address = transport.parse_url(target.url, "url").address
    return found(rule, target.name or address, summary, {"address": address, **evidence}, (target.kind, target.name))


def _dated(target: Certificate, timeout: float, now: float, peer: Callable[..., bytes]) -> Outcome:
    """Of a certificate's file, or of what an endpoint proves its name with. Raises HttpError."""
    from datetime import datetime, timezone  # noqa: PLC0415 - in a run that looks at certificates

    from . import certificates  # noqa: PLC0415

    try:
        if target.path is not None:
            times = certificates.expiries(read_regular(target.path, transport.LONGEST_PEM))
        else:
            times = [
                certificates.not_after(peer(target.host, target.port, target.ca_cert, timeout, target.server_name))
            ]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return _blind(target, reason or str(error))
    today = datetime.fromtimestamp(now, timezone.utc)
    return Outcome("ready", findings=tuple(certificates.judge(target.name, times, today, target.days)))


class Running:
    """A scan in a child process, while this one does something else. Use it as a context: it leaves no child."""

    def __init__(self, options: Options, now: float, child: Optional[Child]) -> None:
        self._options, self._now, self._child = options, now, child

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def finish(self) -> tuple[Scan, str]:
        """Waits for it: what scan() gives; all blind when the child died or did not end. To be called once."""
        if self._child is None:
            return scan(self._options, self._now)
        told = self._child.result()
        if told is None:
            lost = [_blind(target, "the process that looked died, or did not end") for target in self._options.targets]
            return _gathered(self._options, lost)
        seen, state = told
        return Scan.of(seen), state

    def stop(self) -> None:
        """Ends the child, if there still is one."""
        if self._child is not None:
            self._child.stop()


def start(options: Options, now: float) -> Running:
    """Begins a scan beside this process, which must have no other thread; none where nothing is configured.

    Where no process is to be had, finish() does the work itself.
    """

    try:
        child = Child(lambda: scan(options, now), options.longest + GRACE) if options.targets else None
        return Running(options, now, child)
    except OSError:
        return Running(options, now, None)
