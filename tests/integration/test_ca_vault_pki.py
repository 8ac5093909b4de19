# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's PKI issuers on a real Vault: a root is rotated, and each step run again changes nothing."""

from __future__ import annotations

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from integration.run_ansible import Ansible, four_runs, task
from lab import Lab


def test_a_root_is_rotated(lab: Lab) -> None:
    cluster = lab.cluster("pki", nodes=1)
    cluster.initialize()
    client = cluster.client()
    client.sys.enable_secrets_engine("pki")
    ours = VaultClient(Connection(cluster.addresses[0], ca_cert=str(cluster.ca_file)))
    ours.token = cluster.root_token
    pki = VaultPki(ours.request)
    assert pki.issuers() == []
    old, made = pki.prepare("old", "Root 1", "1000h")
    assert made
    pki.activate("old")
    new, made = pki.prepare("new", "Root 2", "1000h")
    assert made
    assert pki.prepare("new", "Root 2", "1000h") == (new, False)
    assert pki.default() == old.id
    with pytest.raises(CaError, match="still the default"):
        pki.retire("old")
    assert [pki.activate("new"), pki.activate("new")] == [True, False]
    assert pki.default() == new.id
    client.write_data("pki/roles/web", data={"allow_any_name": True, "issuer_ref": "old", "max_ttl": "48h"})
    client.write_data("pki/roles/mail", data={"allow_any_name": True})
    with pytest.raises(
        CaError, match=r"so it was not revoked: web\. Write .*: vault patch pki/roles/web issuer_ref=default"
    ):
        pki.retire("old")
    merge = {"X-Vault-Token": cluster.root_token, "Content-Type": "application/merge-patch+json"}
    where, told = f"{cluster.addresses[0]}/v1/pki/roles/web", b'{"issuer_ref": "default"}'
    requests.patch(where, told, headers=merge, verify=str(cluster.ca_file), timeout=30).raise_for_status()
    assert client.read("pki/roles/web")["data"]["max_ttl"] == 48 * 3600
    assert [pki.retire("old"), pki.retire("old")] == [True, False]
    assert pki.issuer("old").revoked
    assert not pki.issuer("new").revoked


def test_the_modules(lab: Lab, ansible: Ansible) -> None:
    cluster = lab.cluster("pki-modules", nodes=1)
    cluster.initialize()
    client = cluster.client()
    client.sys.enable_secrets_engine("pki", config={"max_lease_ttl": "87600h"})
    client.sys.enable_secrets_engine("pki", path="default")
    client.write_data("pki/roles/servers", data={"allow_any_name": True})
    one = {"provider": "vault_pki"}
    results = ansible.run(
        [
            *four_runs("ca_issuer", **one, name="old", state="prepared"),
            *four_runs("ca_issuer", **one, name="new", common_name="Root 2", state="prepared"),
            *four_runs("ca_issuer", **one, name="new", state="active"),
            task("ca_issuer", **one, name="old", state="retired"),
            *four_runs("ca_issuer", **one, name="old", state="retired", confirm=True),
            task("ca_issuer", **one, name="new", state="retired", confirm=True),
            task("ca_issuer", **one, name="none", state="active"),
            task("ca_issuer", **one, state="prepared"),
            task("ca_issuer_info", **one),
            task("ca_issue_probe", **one, role="servers", name="drill.example.com", ttl="5m"),
            task("ca_issue_probe", **one, role="none", name="drill.example.com"),
            task("ca_issuer_info", **one, pki_mount="elsewhere"),
            task("ca_issuer", **one, name="short", state="prepared", key_type="ec", pki_mount="default"),
        ],
        url=cluster.addresses[0],
        ca_cert=str(cluster.ca_file),
        token=cluster.root_token,
    )
    for first in (0, 4, 8, 13):
        assert [result["changed"] for result in results[first : first + 4]] == [True, True, False, False]
    assert results[0]["issuer"] is None
    states = [results[number]["issuer"]["state"] for number in (1, 5, 9, 14)]
    assert states == ["active", "standby", "active", "retired"]
    assert "Say confirm: true" in results[12]["msg"]
    assert "still the default" in results[17]["msg"]
    assert results[18]["error_type"].startswith("Vault")
    assert "Which issuer" in results[19]["msg"]
    told = results[20]["issuers"]
    assert sorted((row["name"], row["state"], row["subject"]) for row in told) == [
        ("new", "active", "CN=Root 2"),
        ("old", "retired", "CN=old"),
    ]
    (new,) = [row for row in told if row["name"] == "new"]
    assert results[21]["issuer_fingerprints"] == [new["fingerprint_sha256"]]
    assert results[21]["issuer"] == "CN=Root 2"
    assert [result["error_type"] for result in results[22:24]] == ["VaultApiError", "VaultApiError"]
    # The maximum of a mount is 32 days by default.
    assert "good for 32 days, not for 87600h" in results[24]["msg"]
