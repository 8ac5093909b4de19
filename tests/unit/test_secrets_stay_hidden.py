# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that hold secrets are hidden by Ansible, and results that hold one are only given to a task with no_log."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.custodes.security_dr.plugins.module_utils import module as glue
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import client as vault_client
from unit.vault.fake import URL, FakeVault

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
# A module with an action plugin is its documentation only.
MODULES = sorted(
    path
    for kind in ("vault_*.py", "ca_*.py")
    for path in (PLUGINS / "modules").glob(kind)
    if not (PLUGINS / "action" / path.name).exists()
)
SECRET = {
    "token",
    "secret_id",
    "password",
    "provisioner_password",
    "jwt",
    "aws_secret_key",
    "aws_security_token",
    "key_shares",
}


def run(name: str, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    module = importlib.import_module(f"ansible_collections.custodes.security_dr.plugins.modules.{name}")
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def client(vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> FakeVault:
    """Every client that a module makes speaks to the scripted Vault."""
    monkeypatch.setattr(vault_client, "VaultClient", lambda connection, token=None: vault.client(connection.url, token))
    for name in ("vault_operator_init", "vault_generate_root", "vault_unseal"):
        module = importlib.import_module(f"ansible_collections.custodes.security_dr.plugins.modules.{name}")
        monkeypatch.setattr(module, "VaultClient", lambda connection, token=None: vault.client(connection.url, token))
    return vault


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_secret_option_is_hidden(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[dict[str, Any]] = []

    def keep(_self: Any, argument_spec: dict[str, Any], **_kwargs: Any) -> None:
        specs.append(argument_spec)
        raise SystemExit

    monkeypatch.setattr(glue.AnsibleModule, "__init__", keep)
    module = importlib.import_module(f"ansible_collections.custodes.security_dr.plugins.modules.{path.stem}")
    with pytest.raises(SystemExit):
        module.main()
    for name in SECRET & set(specs[0]):
        if specs[0][name]["type"] != "int":  # vault_operator_init's number of shares
            assert specs[0][name].get("no_log") is True, name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vault_operator_init", {}),
        ("vault_generate_root", {"key_shares": ["c2hhcmU="]}),
        ("vault_secret_info", {"path": ["secret/x"], "values": True, "token": "hvs.t"}),
    ],
)
def test_a_result_with_secrets_needs_no_log(
    client: FakeVault, capsys: pytest.CaptureFixture[str], name: str, options: dict[str, Any]
) -> None:
    client.on("GET", "sys/init", {"initialized": False})
    result = run(name, capsys, url=URL, **options)
    assert result["failed"] is True
    assert "no_log: true" in result["msg"]
    assert [seen for seen in client.seen if seen.method != "GET"] == []


def test_what_an_operator_can_mend_fails_and_says_its_kind(
    client: FakeVault, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("vault_unseal", capsys, url="vault-1:8200", key_shares=["x"])
    assert (result["failed"], result["error_type"]) == (True, "VaultConfigError")


def test_a_bug_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> dict[str, Any]:
        raise KeyError("a bug")

    with patch_module_args({"url": URL}), pytest.raises(KeyError):
        glue.SecurityDrModule({}).run(bug)
