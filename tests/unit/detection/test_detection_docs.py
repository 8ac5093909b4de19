# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page tells of the rules is what the rules are."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.detection.listeners import DEFAULTS
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.rules import RULES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "host-detection.md"
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (\w+) \| ([T0-9.]*) ?\| (.+) \|$", re.MULTILINE)


def test_the_table_has_every_rule_as_it_is() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert [(rule, severity, technique) for rule, severity, technique, _what in rows] == [
        (name, rule.severity, rule.technique) for name, rule in RULES.items()
    ]


def test_the_ports_that_are_open_without_an_entry() -> None:
    words = " ".join(PAGE.read_text().split())
    told = re.search(r"open without an entry: TCP ([0-9, ]+); UDP ([0-9, ]+)\.", words)
    assert told
    for protocol, ports in zip(("tcp", "udp"), told.groups()):
        assert [int(port) for port in ports.split(",")] == [port for one, port, _why in DEFAULTS if one == protocol]


def test_every_link_within_leads_somewhere() -> None:
    text = PAGE.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", text)) <= headings
