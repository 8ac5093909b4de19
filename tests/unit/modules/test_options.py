# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options as documented are options as taken: for each module, its fragments included, and for each role."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.custodes.security_dr.plugins.doc_fragments import alerts, auth, ca, connection, store
from ansible_collections.custodes.security_dr.plugins.module_utils import module as glue
from unit.modules.runner import PACKAGE, Spec, taken, told

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
MODULES = sorted(
    path.stem
    for kind in ("vault_*.py", "ca_*.py", "alert*_alert*.py", "alert_*.py", "prometheus_*.py")
    for path in (ROOT / "plugins" / "modules").glob(kind)
    if not (ROOT / "plugins" / "action" / path.name).exists()
)
FRAGMENTS = {
    "custodes.security_dr.connection": connection.ModuleDocFragment.DOCUMENTATION,
    "custodes.security_dr.auth": auth.ModuleDocFragment.DOCUMENTATION,
    "custodes.security_dr.ca": ca.ModuleDocFragment.DOCUMENTATION,
    "custodes.security_dr.alerts": alerts.ModuleDocFragment.DOCUMENTATION,
    "custodes.security_dr.store": store.ModuleDocFragment.DOCUMENTATION,
}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (glue.CONNECTION_SPEC, connection.ModuleDocFragment.DOCUMENTATION),
        (glue.AUTH_SPEC, auth.ModuleDocFragment.DOCUMENTATION),
        (glue.CA_SPEC, ca.ModuleDocFragment.DOCUMENTATION),
        (glue.HTTP_SPEC, alerts.ModuleDocFragment.DOCUMENTATION),
        (glue.STORES_SPEC, store.ModuleDocFragment.DOCUMENTATION),
    ],
)
def test_a_fragment_documents_its_spec(spec: Spec, text: str) -> None:
    assert told(text) == taken(spec)
    for name, option in spec.items():
        for variable in option.get("fallback", (None, []))[1]:
            assert f"E({variable})" in str(yaml.safe_load(text)["options"][name]["description"])


@pytest.mark.parametrize("name", MODULES)
def test_a_module_documents_its_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[Spec] = []

    def keep(_self: object, argument_spec: Spec, **_more: object) -> None:
        specs.append(argument_spec)
        raise SystemExit

    monkeypatch.setattr(AnsibleModule, "__init__", keep)
    module = importlib.import_module(f"{PACKAGE}.{name}")
    with pytest.raises(SystemExit):
        module.main()
    used = yaml.safe_load(module.DOCUMENTATION)["extends_documentation_fragment"]
    documented = told(module.DOCUMENTATION)
    for fragment in used:
        documented = {**told(FRAGMENTS.get(fragment, "{}")), **documented}
    assert documented == taken(specs[0])


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return loaded


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
class TestRole:
    def options(self, role: Path) -> Spec:
        entries: dict[str, Any] = load(role / "meta" / "argument_specs.yml")["argument_specs"]
        # Of a role that a playbook runs, each entry point has the same options, but `main`, which fails.
        return next(entry["options"] for entry in entries.values() if entry["options"])

    def test_every_default_is_specified_and_every_option_has_a_default(self, role: Path) -> None:
        assert set(load(role / "defaults" / "main.yml")) == set(self.options(role))

    def test_they_carry_the_roles_name(self, role: Path) -> None:
        assert all(name.startswith(f"{role.name}_") for name in self.options(role))
        inner = role / "vars" / "main.yml"
        assert all(name.startswith(f"__{role.name}_") for name in (load(inner) if inner.exists() else {}))

    def test_a_default_that_is_told_is_the_one_in_force(self, role: Path) -> None:
        defaults = load(role / "defaults" / "main.yml")
        for name, option in self.options(role).items():
            if "default" in option:
                assert defaults[name] == option["default"], name

    def test_what_holds_a_secret_is_hidden(self, role: Path) -> None:
        for name, option in self.options(role).items():
            if name.endswith(("_token", "_key_shares", "_password", "_secret_id", "_auth")):
                assert option.get("no_log") is True, name


def test_there_are_roles_and_modules() -> None:
    assert len(ROLES) >= 1
    assert len(MODULES) >= 10


def test_a_module_that_does_not_speak_to_vault_does_not_import_its_client() -> None:
    code = f"import sys, {PACKAGE}.trust_store; print({{'hvac', 'requests'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_the_recovery_takes_every_option_of_a_login() -> None:
    names = load(ROOT / "roles" / "vault_recovery" / "vars" / "main.yml")["__vault_recovery_auth_options"]
    assert sorted(names) == sorted([*glue.AUTH_SPEC, "namespace"])
