# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An option that is given and empty is an error in every module, and never means another token, address or file."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import ansible_collections.custodes.security_dr as collection
import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.custodes.security_dr.plugins.module_utils.module import STORES_SPEC, SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.options import empty_options

MODULES = sorted(path.stem for path in Path(next(iter(collection.__path__)), "plugins/modules").glob("*.py"))


class StoppedError(Exception):
    """The module has given its argument spec."""


def spec_of(name: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the argument spec that the module gives to SecurityDrModule; none for one that an action plugin runs."""
    module = importlib.import_module(f"{collection.__name__}.plugins.modules.{name}")
    if not hasattr(module, "main"):
        return {}
    with (
        patch_module_args({}),
        mock.patch.object(AnsibleModule, "__init__", autospec=True, side_effect=StoppedError) as init,
        pytest.raises(StoppedError),
    ):
        module.main()
    assert isinstance(init.call_args.args[0], SecurityDrModule), f"{name} does not refuse empty options"
    spec: Mapping[str, Mapping[str, Any]] = init.call_args.kwargs["argument_spec"]
    return spec


@pytest.mark.parametrize("name", MODULES)
def test_it_is_refused(name: str) -> None:
    spec = spec_of(name)
    for option, rules in spec.items():
        if rules.get("type", "str") in ("str", "path") and rules.get("default") != "" and option != "namespace":
            for value in ("", " ", None):
                assert f": {option} is given and empty" in str(empty_options(spec, {option: value}))


ROOT = Path(next(iter(collection.__path__)))
GUARDED = {
    # By a condition of the task, or by an assertion before it.
    ("vault_server", "file_path"),
    ("ca_rotation", "name"),
    ("ca_rotation", "common_name"),
    ("vault_recovery", "name"),
    ("vault_recovery", "token"),
    ("dr_drill", "path"),
    # There, by default(..., true).
    ("dr_drill", "name"),
}


def tasks_of(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from tasks_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from tasks_of(value)


def may_be_empty(value: object, empty: set[str]) -> bool:
    """Return whether a template is empty when one of these variables is."""
    if not isinstance(value, str) or "omit" in value or not value.startswith("{{") or not value.endswith("}}"):
        return False
    return bool(set(re.findall(r"[A-Za-z_]\w*", value)) & empty) and " length " not in value


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_a_role_omits_what_its_user_may_leave_empty(role: str) -> None:
    defaults = [yaml.safe_load(file.read_text()) or {} for file in ROOT.glob("roles/*/defaults/main.yml")]
    empty = {name for values in defaults for name, value in values.items() if value in ("", None)}
    for file in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        for task in tasks_of(yaml.safe_load(file.read_text())):
            for name in (key.rpartition(".")[2] for key in task if str(key).startswith("custodes.security_dr.")):
                options = task[f"custodes.security_dr.{name}"]
                spec = spec_of(name) if isinstance(options, dict) else {}
                given = {
                    option: ""
                    for option in spec
                    if (role, option) not in GUARDED and may_be_empty(options.get(option), empty)
                }
                assert empty_options(spec, given) is None, f"{file.name}: {name}"


def test_the_modules_were_found() -> None:
    assert "token" in spec_of("vault_raft_restore")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"stores": [{"type": "s3", "access_key": ""}]}, "stores[0].access_key"),
        ({"destinations": [{"type": "s3"}, {"type": "s3", "secret_key": None}]}, "destinations[1].secret_key"),
        ({"stores": [""]}, "stores[0]"),
        ({"stores": None}, "stores"),
    ],
)
def test_nested_options_and_aliases_are_searched(given: dict[str, Any], named: str) -> None:
    assert f": {named} is given and empty" in str(empty_options(STORES_SPEC, given))


def test_what_may_be_empty() -> None:
    spec = {"namespace": {"type": "str"}, "confirm": {"type": "str", "default": ""}, "force": {"type": "bool"}}
    assert empty_options(spec, {"namespace": "", "confirm": "", "force": False}) is None


def test_the_environment_is_not_asked_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "the-environments")
    monkeypatch.setenv("VAULT_ADDR", "https://another:8200")
    with patch_module_args({"url": "", "token": ""}), pytest.raises(SystemExit):
        SecurityDrModule({})
    assert "url, token are given and empty" in json.loads(capsys.readouterr().out)["msg"]
