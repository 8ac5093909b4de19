# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboard: of the form that Grafana reads, with no panel over another and no metric that nobody gives."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

ROLES = Path(__file__).resolve().parents[3] / "roles"
DASHBOARD = json.loads((ROLES / "monitoring_rules" / "files" / "security-infrastructure.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWING = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in SHOWING for target in panel["targets"]]
RULES = "".join(path.read_text() for path in sorted(ROLES.glob("*/files/*.rules.yml")))

DATA_SOURCE = {"const": {"type": "prometheus", "uid": "${datasource}"}}
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
# Source: Grafana's documentation, "JSON model"; unknown keys, which Grafana passes over, are refused.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["uid", "title", "schemaVersion", "version", "panels", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,40}$"},
        "title": TEXT,
        "description": TEXT,
        "tags": {"type": "array", "items": TEXT, "uniqueItems": True},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "version": COUNT,
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "refresh": {"type": "string", "pattern": "^[0-9]+[smh]$"},
        "timezone": {"enum": ["browser", "utc", ""]},
        "time": {"type": "object", "required": ["from", "to"]},
        "annotations": {"type": "object", "required": ["list"]},
        "links": {"type": "array"},
        "templating": {
            "type": "object",
            "required": ["list"],
            "properties": {
                "list": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "type", "query"],
                        "properties": {"name": TEXT, "type": {"enum": ["datasource", "query"]}},
                    },
                }
            },
        },
        "panels": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/panel"}},
    },
    "$defs": {
        "panel": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "type", "title", "gridPos"],
            "properties": {
                "id": {"type": "integer", "minimum": 1},
                "type": {"enum": ["row", "stat", "timeseries"]},
                "title": TEXT,
                "description": {"type": "string"},
                "collapsed": {"type": "boolean"},
                "panels": {"type": "array", "maxItems": 0},
                "gridPos": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["h", "w", "x", "y"],
                    "properties": {
                        "h": COUNT,
                        "w": {"type": "integer", "minimum": 1, "maximum": 24},
                        "x": COUNT,
                        "y": COUNT,
                    },
                },
                "datasource": DATA_SOURCE,
                "options": {"type": "object"},
                "fieldConfig": {
                    "type": "object",
                    "required": ["defaults", "overrides"],
                    "properties": {
                        "defaults": {"type": "object", "required": ["unit"]},
                        "overrides": {"type": "array"},
                    },
                },
                "targets": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["refId", "expr", "datasource"],
                        "properties": {
                            "refId": {"type": "string", "pattern": "^[A-Z]$"},
                            "expr": TEXT,
                            "legendFormat": {"type": "string"},
                            "datasource": DATA_SOURCE,
                            "instant": {"type": "boolean"},
                            "range": {"type": "boolean"},
                        },
                    },
                },
            },
            "if": {"properties": {"type": {"const": "row"}}},
            "else": {"required": ["datasource", "fieldConfig", "options", "targets"]},
        }
    },
}


def problems(dashboard: Any) -> list[str]:
    Draft202012Validator.check_schema(SCHEMA)
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(dashboard)]


def test_grafana_can_read_it() -> None:
    assert problems(DASHBOARD) == []


@pytest.mark.parametrize("key", ["title", "gridPos", "targets", "datasource"])
def test_the_schema_refuses_a_panel_that_lacks_something(key: str) -> None:
    broken = {name: value for name, value in SHOWING[0].items() if name != key}
    assert problems({**DASHBOARD, "panels": [broken]})


def test_ids_are_unique() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert sorted(ids) == sorted(set(ids))
    for panel in SHOWING:
        names = [target["refId"] for target in panel["targets"]]
        assert sorted(names) == sorted(set(names)), panel["title"]


def test_no_panel_lies_over_another_or_outside() -> None:
    for panel in PANELS:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one["title"], other["title"])


def test_each_variable_exists_and_is_used() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) == names


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_metric_is_one_that_an_alert_stands_on(expression: str) -> None:
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)", "", expression)
    metrics = set(re.findall(r"\b[a-z]\w*_\w+|\bup\b|\bALERTS\b", bare)) - {"ALERTS"}
    assert all(re.search(rf"\b{metric}\b", RULES) for metric in metrics), metrics
    assert metrics or "ALERTS" in bare
