# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An option that is given and empty is an error in every module, and never means another token, address or file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import ansible_collections.custodes.security_dr as collection
import pytest
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
