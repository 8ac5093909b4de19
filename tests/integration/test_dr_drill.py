# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/dr-drill.yml on a site of real servers: all six parts, and what happens when one goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from lab import Lab
from lab.drill import DrillLab
from lab.playbook import ROOT

SCHEMA = json.loads((ROOT / "docs/schemas/drill-record.schema.json").read_text())


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[DrillLab]:
    site = DrillLab(lab)
    yield site
    site.stop()


def newest(folder: Path) -> dict[str, Any]:
    records = chain.read(folder)
    assert chain.problems(records) == []
    record = records[-1][1]
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record


def test_a_rehearsal_stops_nothing_and_passes(site: DrillLab) -> None:
    run = site.playbook().run()
    assert run.rc == 0, run.output
    record = newest(site.records)
    assert (record["mode"], record["outcome"], record["verdict"]) == ("rehearsal", "completed", "passed")
    assert [phase["name"] for phase in record["phases"]] == site.parts
    assert {phase["fault"] is None for phase in record["phases"]} == {True}
    assert [node.health() for node in site.dr.nodes] == [501, 501, 501]


def test_a_drill_of_everything(site: DrillLab) -> None:
    run = site.for_real().run(timeout=600)
    assert run.rc == 0, run.output
    record = newest(site.records)
    assert (record["mode"], record["outcome"], record["verdict"]) == ("drill", "completed", "passed")
