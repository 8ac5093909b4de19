# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's PKI issuers on a real Vault: a root is rotated, and each step run again changes nothing."""

from __future__ import annotations

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
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
    assert [pki.retire("old"), pki.retire("old")] == [True, False]
    assert pki.issuer("old").revoked
    assert not pki.issuer("new").revoked
