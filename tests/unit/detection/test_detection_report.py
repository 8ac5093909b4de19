# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads at 3 a.m."""

from __future__ import annotations

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Scan, found
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.memory import Memory
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.report import text
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.rules import RULES
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_767_225_600


def report(*findings: Any, **more: Any) -> dict[str, Any]:
    memory = Memory()
    memory.update({"x": Scan(list(findings), [])}, NOW, "web1", 60)
    return {"host": "web1", "started": "2026-01-01T00:00:00Z", "duration": 0.0523, "findings": memory.active(), **more}


def test_clean_host_is_three_lines() -> None:
    state = {
        "baseline": {"state": "compared", "written": "2025-12-01T10:00:00Z", "items": 412},
        "log_store": "ready",
        "delivery": {"sent": 0, "waiting": 0, "rejected": 0, "dropped": 0},
    }
    assert text(report(**state)) == (
        "web1: nothing found. Scanned 2026-01-01 00:00 UTC in 0.05 s.\n"
        "\n"
        "Baseline of 2025-12-01 10:00 UTC, 412 items: compared.\n"
        "Log store: ready.\n"
        "Webhooks, in that run: nothing sent, nothing waiting.\n"
    )


def test_the_worst_is_first_with_what_to_do_and_what_was_not_seen() -> None:
    low = found("listener.unexpected_loopback", "127.0.0.1:81", "Somebody listens.", {}, ["a"])
    miner = found("process.miner_name", "xmrig", "It is named like a miner.", {}, ["b"])
    told = report(low, miner, blind=["/x: Permission denied"], delivery={"sent": 0, "waiting": 2})
    told["findings"][0]["state"] = "ongoing"
    assert text(told) == (
        "web1: 1 critical, 1 low, could not look at 1 place. Scanned 2026-01-01 00:00 UTC in 0.05 s.\n"
        "\n"
        "CRITICAL process.miner_name (T1496)\n"
        "  xmrig  [since 2026-01-01 00:00 UTC]\n"
        "    It is named like a miner.\n"
        f"  To do: {RULES['process.miner_name'].advice}\n"
        "\n"
        "LOW listener.unexpected_loopback (T1571)\n"
        "  127.0.0.1:81  [new]\n"
        "    Somebody listens.\n"
        f"  To do: {RULES['listener.unexpected_loopback'].advice}\n"
        "\n"
        "COULD NOT LOOK, so something may hide there:\n"
        "  /x: Permission denied\n"
        "\n"
        "Webhooks, in that run: 2 waiting.\n"
    )


def test_run_that_failed_says_so_at_the_top() -> None:
    lines = text({"host": "web1", "problem": "Cannot write /x: No space left on device."}).splitlines()
    assert lines[1] == "THE RUN FAILED: Cannot write /x: No space left on device."


def test_many_findings_fit_and_all_are_counted() -> None:
    findings = [found(rule, f"s{number}", "y" * 999, {}, [str(number)]) for rule in RULES for number in range(30)]
    lines = text(report(*findings, blind=["x"] * 100)).splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) < 200
    assert "and 25 more: custodes detect --json" in lines[13]
    shown = sum(line.startswith(("CRITICAL", "HIGH")) for line in lines)
    assert f"{30 * (len(RULES) - shown)} more findings: custodes detect --json" in lines


@given(st.text(st.characters(categories=None)))
def test_nothing_on_a_host_reaches_the_terminal_as_it_is(name: str) -> None:
    told = report(blind=[name], problem=name)
    told["findings"] = [{"severity": "low", "rule": "x", "subject": name, "summary": name, "advice": name}]
    assert all(line.isprintable() for line in text(told).split("\n"))


def test_a_webhook_that_takes_nothing_is_named_with_its_reason() -> None:
    destinations = {"pager": {"problem": "It answers 500.", "retry_in": 40}, "chat": {"problem": None, "retry_in": 0}}
    delivery = {"sent": 0, "waiting": 2, "rejected": 0, "dropped": 0, "destinations": destinations}
    lines = text({"host": "web-1", "delivery": delivery}).splitlines()
    assert lines[-2:] == ["Webhooks, in that run: 2 waiting.", "  pager: It answers 500. Tried again in 40 s."]
