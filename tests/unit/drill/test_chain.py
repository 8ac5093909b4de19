# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is done to the records of drills is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from hypothesis import given
from hypothesis import strategies as st

Records = list[tuple[str, dict[str, Any]]]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def records(*contents: dict[str, Any]) -> Records:
    made: Records = []
    for number, content in enumerate(contents):
        made.append((f"drill-{number:03}.json", chain.sealed(content, made[-1] if made else None)))
    return made


FIVE = records(*({"verdict": "passed", "seconds": number} for number in range(5)))


def test_nothing_was_done() -> None:
    assert chain.problems(FIVE) == []
    assert chain.problems(FIVE, FIVE[-1][1]["sha256"]) == []
    assert chain.problems([]) == []


@pytest.mark.parametrize("which", range(5))
def test_one_is_changed(which: int) -> None:
    changed = [
        (name, {**record, "verdict": "failed"} if n == which else record) for n, (name, record) in enumerate(FIVE)
    ]
    assert f"drill-00{which}.json was changed" in chain.problems(changed)[0]


@pytest.mark.parametrize("which", range(4))
def test_one_is_changed_with_its_hash(which: int) -> None:
    name, record = FIVE[which]
    anew = {**record, "verdict": "failed"}
    anew["sha256"] = chain.digest(anew)
    changed = [*FIVE[:which], (name, anew), *FIVE[which + 1 :]]
    assert chain.problems(changed) == [f"drill-00{which + 1}.json follows another content of {name} than there is."]


@pytest.mark.parametrize("which", range(4))
def test_one_is_removed(which: int) -> None:
    (problem,) = chain.problems([*FIVE[:which], *FIVE[which + 1 :]])
    assert f"follows drill-00{which}.json" in problem


def test_the_newest_are_removed() -> None:
    assert chain.problems(FIVE[:3]) == [], "nobody could know"
    assert "was removed" in chain.problems(FIVE[:3], FIVE[-1][1]["sha256"])[0]


def test_two_change_places() -> None:
    swapped = [FIVE[0], (FIVE[1][0], FIVE[2][1]), (FIVE[2][0], FIVE[1][1]), *FIVE[3:]]
    assert len(chain.problems(swapped)) == 3


def test_one_is_added() -> None:
    added = ("drill-0015.json", chain.sealed({"verdict": "passed"}, FIVE[1]))
    assert any("drill-002.json follows drill-001.json" in one for one in chain.problems([*FIVE[:2], added, *FIVE[2:]]))


def test_a_signature_is_put_on_later() -> None:
    assert chain.problems([(name, {**record, "signature": {"value": "x"}}) for name, record in FIVE]) == []


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=4), max_size=4))
def test_any_content_survives_being_written(contents: list[dict[str, Any]]) -> None:
    made = records(*contents)
    assert chain.problems([(name, json.loads(json.dumps(record))) for name, record in made]) == []


@given(st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=4), st.text(min_size=1, max_size=5), VALUES)
def test_any_change_is_found(content: dict[str, Any], key: str, value: Any) -> None:
    ((name, record),) = records(content)
    changed = {**record, key: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(record, sort_keys=True)
    assert (chain.problems([(name, changed)]) == []) is (same or key == "signature")


def test_what_json_does_not_take() -> None:
    with pytest.raises(DrillError, match="JSON does not take"):
        chain.digest({"seconds": float("nan")})


def test_a_folder(tmp_path: Path) -> None:
    for name, record in FIVE:
        (tmp_path / name).write_text(json.dumps(record))
    (tmp_path / "drill-004.json.open").write_text("{")
    assert chain.read(tmp_path) == FIVE
    (tmp_path / "drill-002.json").write_text("{")
    with pytest.raises(DrillError, match=r"drill-002\.json"):
        chain.read(tmp_path)
