# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is allowed, until when, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import allowlist
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding, found

TODAY = "2026-07-01"


def finding(rule: str = "process.miner_name", subject: str = "/opt/xmrig") -> Finding:
    return found(rule, subject, "It is.", {}, [subject])


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"rule": "process.miner_name", "subject": "/opt/xmrig"}, False),
        ({"rule": "process.*", "subject": "/opt/x*"}, False),
        ({"rule": "process.*"}, False),
        ({"rule": "*", "subject": "/opt/*"}, False),
        ({"rule": "process.*", "subject": "/OPT/*"}, True),
        ({"rule": "listener.*", "subject": "/opt/x*"}, True),
        ({"rule": "process", "subject": "*"}, True),
        ({"rule": "process.*", "subject": "opt"}, True),
    ],
)
def test_the_general_list(entry: dict[str, str], left: bool) -> None:
    live, expired = allowlist.general([{**entry, "reason": "We mine."}], TODAY)
    assert expired == []
    assert allowlist.apply([finding()], live) == ([finding()] if left else [])


def test_what_is_of_a_container_is_not_the_hosts() -> None:
    live, _expired = allowlist.general([{"rule": "*", "subject": "/opt/*", "reason": "Ours."}], TODAY)
    assert allowlist.apply([finding(subject="container: /opt/xmrig")], live)


def test_an_entry_allows_up_to_its_last_day() -> None:
    entry = {"rule": "process.*", "subject": "/opt/x*", "reason": "Until the move.", "expires": TODAY}
    assert allowlist.general([entry], TODAY)[1] == []
    live, expired = allowlist.general([entry], "2026-07-02")
    assert live == []
    assert (expired[0].rule, expired[0].severity) == ("allowlist.expired", "low")
    assert expired[0].subject == "allow: rule process.*, subject /opt/x*"
    assert "Until the move." in expired[0].summary
    later = allowlist.general([{**entry, "reason": "Still.", "expires": "2026-06-01"}], TODAY)[1]
    assert later[0].fingerprint == expired[0].fingerprint


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "has to be a list"),
        (["x"], "entry 1 has to be an object"),
        ([{"rule": "x"}], "entry 1 lacks reason"),
        ([{"rule": "x", "reason": " "}], "needs a reason"),
        ([{"reason": "x"}], "lacks rule"),
        ([{"rule": "x", "reason": "x"}, {"rule": "x", "reason": "x", "why": 1}], "entry 2 has no option why"),
        ([{"rule": "x", "reason": "x", "expires": "tomorrow"}], "takes a date"),
        ([{"rule": "x", "reason": "x", "expires": "2026-13-01"}], "takes a date"),
        ([{"rule": "x", "reason": "x", "expires": "2026-1-1"}], "takes a date"),
        ([{"rule": "x", "reason": "x", "expires": "2026-01-01\n"}], "takes a date"),
        ([{"rule": "x", "reason": "x", "expires": 20260101}], "has to be a text"),
        ([{"rule": "*", "reason": "x"}], "every finding"),
        ([{"rule": "**", "subject": "*", "reason": "x"}], "every finding"),
    ],
)
def test_a_wrong_entry_is_named(entries: Any, message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        allowlist.general(entries, TODAY)


def test_no_list_is_an_empty_one() -> None:
    assert allowlist.general(None, TODAY) == ([], [])
    assert allowlist.apply([finding()], []) == [finding()]
