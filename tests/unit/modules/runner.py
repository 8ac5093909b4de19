# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module in this process, as Ansible would, options in, JSON out; and compares specs with documentation."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from unit.vault.fake import URL

PACKAGE = "ansible_collections.custodes.security_dr.plugins.modules"

Result = dict[str, Any]


class Runner:
    """One module with options that all of its runs share.

    No request is repeated, so that nothing sleeps. `output` is all that the runs have printed, one after the other.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], name: str, **options: Any) -> None:
        self.module = importlib.import_module(f"{PACKAGE}.{name}")
        self.options = options
        self.output = ""
        self._capsys = capsys

    def __call__(self, *, check: bool = False, no_log: bool = False, **options: Any) -> Result:
        """Runs it to its end. SystemExit is the only way out that a module has; a bug comes through."""
        given = {**self.options, **options, "_ansible_check_mode": check, "_ansible_no_log": no_log}
        with patch_module_args(given), pytest.raises(SystemExit):
            self.module.main()
        printed = self._capsys.readouterr().out
        self.output += printed
        result: Result = json.loads(printed)
        return result

    def fails(self, *, check: bool = False, no_log: bool = False, **options: Any) -> Result:
        """Runs it to its failure; gives the result."""
        result = self(check=check, no_log=no_log, **options)
        assert result.get("failed") is True, result
        return result

    def four_runs(self, **options: Any) -> list[Result]:
        """Check, run, check again, run again: what check mode foretells is what happens, and happens once."""
        results = [self(check=check, **options) for check in (True, False, True, False)]
        assert [result.get("failed", False) for result in results] == [False] * 4, results
        assert [result["changed"] for result in results] == [True, True, False, False]
        return results


def for_vault(capsys: pytest.CaptureFixture[str], name: str, **options: Any) -> Runner:
    """A module that speaks to one node."""
    return Runner(capsys, name, **{"url": URL, "retries": 0, **options})


Spec = dict[str, dict[str, Any]]


def taken(spec: Spec) -> Spec:
    """An argument spec in the words of the documentation."""
    return {
        name: {
            "suboptions" if key == "options" else key: taken(value) if key == "options" else value
            for key, value in option.items()
            if key not in ("no_log", "fallback")
        }
        for name, option in spec.items()
    }


def told(text: str) -> Spec:
    """Documented options without their prose."""
    return _without_prose(yaml.safe_load(text).get("options") or {})


def _without_prose(options: Spec) -> Spec:
    return {
        name: {
            key: _without_prose(value) if key == "suboptions" else value
            for key, value in option.items()
            if key != "description"
        }
        for name, option in options.items()
    }
