# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: what it says, that it is drawn to scale, and that nothing of a record is taken for HTML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.report import html, markdown, timeline
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.times import seconds
from ansible_collections.custodes.security_dr.plugins.module_utils.report import charts
from hypothesis import given
from hypothesis import strategies as st
from lab.drill_records import made_up

TODAY = "2026-12-01"
FOUR = made_up(4)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/drill-record.schema.json").read_text())


class Page(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def changed(record: dict[str, Any], **more: Any) -> list[tuple[str, dict[str, Any]]]:
    sealed = chain.sealed({**record, **more}, None)
    return [("drill-1.json", {**sealed, "signature": None})]


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_is_made_up_is_as_the_schema_has_it() -> None:
    assert chain.problems(FOUR) == []
    for _name, record in FOUR:
        jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_the_newest_drill_comes_first() -> None:
    page = words(Page(html(FOUR, [], TODAY)).text)
    assert "2026-11-27 20:00 UTC by alice, Q4 2026" in page
    assert "PASSED Completed: 6 of 6 parts met their objective." in page
    assert page.index("Scorecard") < page.index("Timeline") < page.index("Over all drills")
    assert f"SHA-256 {FOUR[-1][1]['sha256']}" in page
    assert page.count("UTC") == 1 + 4


def test_an_aborted_one_says_why() -> None:
    told = {"outcome": "aborted", "verdict": "failed", "abort_reason": "a real alert fires: VaultDown"}
    page = words(Page(html(changed(FOUR[-1][1], **told), [], TODAY)).text)
    assert "FAILED Aborted:" in page
    assert "It was stopped: a real alert fires: VaultDown" in page


@pytest.mark.parametrize(("today", "late"), [("2026-12-27", False), ("2026-12-28", True)])
def test_a_finding_is_overdue_the_day_after_it_was_due(today: str, late: bool) -> None:
    assert ("2026-12-27, overdue" in html(FOUR, [], today)) is late
    assert ("OVERDUE" in markdown(FOUR, [], today)) is late


def test_rehearsals_stand_apart() -> None:
    page = words(Page(html(changed(FOUR[-1][1], mode="rehearsal"), [], TODAY)).text)
    assert "There has been none." in page
    assert "Rehearsals" in page
    assert "polyline" not in html(changed(FOUR[-1][1], mode="rehearsal"), [], TODAY)


def test_no_records() -> None:
    assert "There has been none." in html([], [], TODAY)
    assert markdown([], [], TODAY).startswith("# Disaster recovery drills")


def test_tampering_is_told_first() -> None:
    page = Page(html(FOUR, ["drill-1.json was changed."], TODAY)).text
    assert words(page).index("drill-1.json was changed.") < words(page).index("Scorecard")
    assert "broken, see above" in words(page)
    assert "not what they were" in markdown(FOUR, ["x"], TODAY)


def test_it_needs_nothing_else() -> None:
    page = Page(html(FOUR, [], TODAY))
    assert {tag for tag, _attrs in page.tags} & {"script", "link", "img", "iframe", "object"} == set()
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html(FOUR, [], TODAY))


@given(st.text(min_size=1))
def test_nothing_of_a_record_is_taken_for_html(text: str) -> None:
    hostile = f"</td><script>alert(1)</script>{text}<img src=x onerror=y>\" onload='z'"
    record = FOUR[-1][1]
    phases = [
        {
            **record["phases"][0],
            "title": hostile,
            "evidence": [hostile],
            "deviations": [hostile],
            "fault": {**record["phases"][1]["fault"], "what": hostile},
        }
    ]
    finding = {**record["findings"][0], "text": hostile, "owner": hostile}
    told = {"operator": hostile, "reason": hostile, "abort_reason": hostile, "phases": phases, "findings": [finding]}
    given_records = [("drill-1.json", {**record, **told, "versions": {hostile: hostile}})]
    page = Page(html(given_records, [hostile], TODAY))
    assert {tag for tag, _attrs in page.tags} & {"script", "img"} == set()
    assert not any(name.startswith("on") for _tag, attrs in page.tags for name in attrs)
    assert "<script" not in markdown(given_records, [hostile], TODAY).replace("\\<", "")


def test_the_timeline_is_to_scale() -> None:
    record = FOUR[-1][1]
    root = ElementTree.fromstring(timeline(record))  # noqa: S314
    bars = [one for one in root if one.get("class") in ("passed", "failed")]
    whole = seconds(record["ended"]) - seconds(record["started"])
    for phase, drawn in zip(record["phases"], bars, strict=True):
        took = seconds(phase["ended"]) - seconds(phase["started"])
        assert float(drawn.get("width", "0")) == pytest.approx(took / whole * 730, abs=0.2)
    assert len([one for one in root if one.get("class") == "fault"]) == 4


def test_the_trend_is_to_scale() -> None:
    points: list[tuple[str, float | None, bool]] = [("a", 10.0, True), ("b", None, False), ("c", 20.0, False)]
    root = ElementTree.fromstring(charts.trend(points, 40.0, "x"))  # noqa: S314
    circles = [one for one in root if (one.tag or "").endswith("circle")]
    assert [one.get("class") for one in circles] == ["passed", "failed"]
    (objective,) = [one for one in root if one.get("class") == "objective"]
    zero = 180.0
    heights = [zero - float(one.get("cy", "0")) for one in circles] + [zero - float(objective.get("y1", "0"))]
    assert heights == pytest.approx([heights[2] / 4, heights[2] / 2, heights[2]], abs=0.2)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.04, "0.0 s"),
        (41.2, "41 s"),
        (300, "5 min"),
        (301, "5 min 1 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(value: float | None, said: str) -> None:
    assert charts.duration(value) == said


def test_markdown_has_the_scorecard() -> None:
    told = markdown(FOUR, [], TODAY)
    assert "| A page arrives |" in told
    assert "| 2026-11-27 20:00 UTC | drill | completed | passed | none |" in told
