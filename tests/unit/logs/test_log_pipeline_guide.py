# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/log-pipeline.md tells people to write is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import fluent_bit, pipeline, preflight

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/log-pipeline.md").read_text()
EXAMPLES: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
SPECS = yaml.safe_load((ROOT / "roles/fluent_bit/meta/argument_specs.yml").read_text())["argument_specs"]["main"]
DEFAULTS = yaml.safe_load((ROOT / "roles/fluent_bit/defaults/main.yml").read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=",".join)
def test_an_example_is_taken(example: dict[str, Any]) -> None:
    assert set(example) <= set(SPECS["options"])
    given = {name.removeprefix("fluent_bit_"): value for name, value in {**DEFAULTS, **EXAMPLES[0], **example}.items()}
    options = {
        "inputs": given["inputs"],
        "outputs": {name: given[name] for name in (fluent_bit.PRIMARY, fluent_bit.SECONDARY)},
        "buffer": {"path": given["buffer_directory"]},
        "bound_bytes": given["bound_bytes"],
        "outage_seconds": given["outage_hours"] * 3600,
        "bytes_per_second": given["bytes_per_second"],
    }
    secrets = dict.fromkeys(re.findall(r"token_env: (\w+)", GUIDE), "x")
    assert preflight.problems(options, secrets, resolve=lambda _host: []) == []
    assert fluent_bit.render(options, given["format"])


@pytest.mark.parametrize("kind", ["input", "output"])
def test_every_option_is_told_of(kind: str) -> None:
    assert {name for name in pipeline._OPTIONS[kind] if f"`{name}`" not in GUIDE} == set()


@pytest.mark.parametrize("names", [fluent_bit.TYPES, fluent_bit.INPUTS, tuple(fluent_bit.PRESETS)])
def test_every_type_is_told_of(names: tuple[str, ...]) -> None:
    assert {name for name in names if f"`{name}`" not in GUIDE} == set()
