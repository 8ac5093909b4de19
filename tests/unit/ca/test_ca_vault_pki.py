# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's PKI issuers: the order of a rotation, run again after each step, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.authority import of_vault, prepare, seconds
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.vault_pki import VaultPki
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultApiError
from lab.pki import Authority


class Mount:
    """A PKI mount in memory: answers as Vault's API documentation says."""

    def __init__(self):
        self.issuers = {"id-old": self.row("id-old", "old")}
        self.default = "id-old"
        self.follows = False
        self.keeps = True
        self.posts = []
        self.signs = {}
        self.roles = {}
        self.hidden = ()

    @staticmethod
    def row(key, name, key_id="key"):
        return {"issuer_id": key, "issuer_name": name, "certificate": "PEM", "key_id": key_id, "revoked": False}

    def __call__(self, method, path, json=None):
        path = path.removeprefix("pki/")
        if method == "POST":
            self.posts.append((path, json))
        if path in self.hidden:
            raise VaultApiError("Permission denied", 403)
        if path == "roles" and not self.roles:
            raise VaultApiError("Not found", 404)
        if path.startswith("roles"):
            return {"data": {"keys": list(self.roles)} if path == "roles" else {"issuer_ref": self.roles[path[6:]]}}
        if method == "LIST":
            return {"data": {"keys": list(self.issuers)}}
        if path == "config/issuers":
            if method == "POST" and self.keeps:
                self.default = json["default"]
                self.follows = json["default_follows_latest_issuer"]
            return {"data": {"default": self.default, "default_follows_latest_issuer": self.follows}}
        if path.startswith("issue/"):
            return {"data": {"certificate": f"for {json['common_name']}", "issuing_ca": "root", **self.signs}}
        if path == "root/rotate/internal":
            self.key = json["key_type"], json["key_bits"]
            self.issuers["id-new"] = self.row("id-new", json["issuer_name"])
            if self.follows:
                self.default = "id-new"
            return {"data": {"issuer_id": "id-new"}}
        key = path.split("/")[1]
        row = next(row for row in self.issuers.values() if key in (row["issuer_id"], row["issuer_name"]))
        if path.endswith("/revoke"):
            row["revoked"] = True
        return {"data": dict(row)}


def test_a_rotation_and_each_step_again():
    mount = Mount()
    pki = VaultPki(mount)
    made, changed = pki.prepare("new", "Root 2", "87600h")
    assert (made.id, changed) == ("id-new", True)
    assert pki.prepare("new", "Root 2", "87600h") == (made, False)
    assert mount.default == "id-old"
    assert [pki.activate("new"), pki.activate("new")] == [True, False]
    assert mount.default == "id-new"
    assert [pki.retire("old"), pki.retire("old")] == [True, False]
    assert [path for path, body in mount.posts] == ["root/rotate/internal", "config/issuers", "issuer/id-old/revoke"]
    assert mount.posts[1][1]["default_follows_latest_issuer"] is False


def test_a_new_root_does_not_sign_before_it_is_told_to():
    mount = Mount()
    mount.follows = True
    VaultPki(mount).prepare("new", "Root 2", "87600h")
    assert (mount.default, mount.follows) == ("id-old", False)


def test_a_mount_without_any_issuer_takes_the_first():
    mount = Mount()
    mount.issuers, mount.default, mount.follows = {}, "", True
    VaultPki(mount).prepare("new", "Root 1", "87600h")
    assert mount.default == "id-new"


def test_the_key_is_a_roots():
    mount = Mount()
    VaultPki(mount).prepare("new", "Root 2", "87600h", "ec")
    assert mount.key == ("ec", 384)
    mount = Mount()
    VaultPki(mount).prepare("new", "Root 2", "87600h")
    assert mount.key == ("rsa", 4096)


@pytest.mark.parametrize(("ttl", "refused"), [("719h", False), ("30d", False), ("61d", True), ("87600h", True)])
def test_a_root_that_vault_cut_short_is_refused(ttl, refused, tmp_path):
    mount = Mount()
    # It is good for 60 days in all.
    mount.issuers["id-old"]["certificate"] = Authority(tmp_path).ca_file.read_text()
    if not refused:
        assert prepare(VaultPki(mount), "old", "Root 1", ttl, "rsa", False) == ("id-old", False)
        return
    with pytest.raises(CaError, match=f"good for 60 days, not for {ttl}"):
        prepare(VaultPki(mount), "old", "Root 1", ttl, "rsa", False)


@pytest.mark.parametrize("ttl", ["", "10y", "-1h", "1.5h", "1h30m", "h"])
def test_a_ttl_that_is_none_is_said_before_anything_is_made(ttl):
    mount = Mount()
    with pytest.raises(CaError, match="is no duration"):
        prepare(VaultPki(mount), "new", "Root 2", ttl, "rsa", False)
    assert mount.posts == []


def test_the_states_of_a_mounts_issuers(tmp_path):
    mount = Mount()
    pem = Authority(tmp_path).ca_file.read_text()
    for key, change in (("a", {}), ("b", {"key_id": ""}), ("c", {"revoked": True}), ("id-old", {})):
        mount.issuers[key] = {**mount.row(key, key), "certificate": pem, **change}
    states = {one["name"]: one["state"] for one in of_vault(VaultPki(mount))}
    assert states == {"id-old": "active", "a": "standby", "b": "trusted", "c": "retired"}


def test_seconds():
    assert [seconds(one) for one in ("90", "90s", "2m", "1h", "1d")] == [90, 90, 120, 3600, 86400]


def test_only_looked():
    mount = Mount()
    mount.issuers["id-new"] = mount.row("id-new", "new")
    pki = VaultPki(mount)
    assert pki.prepare("third", "Root 3", "1h", dry=True) == (None, True)
    assert pki.activate("new", dry=True)
    mount.default = "id-new"
    assert pki.retire("old", dry=True)
    assert mount.posts == []


def test_a_certificate_is_issued():
    mount = Mount()
    assert VaultPki(mount).issue("a.example.com", "servers", "5m") == ["for a.example.com", "root"]
    assert mount.posts == [("issue/servers", {"common_name": "a.example.com", "ttl": "5m"})]
    mount.signs = {"ca_chain": ["middle", "root"], "private_key": "secret"}
    assert VaultPki(mount).issue("b.example.com", "servers") == ["for b.example.com", "middle", "root"]
    assert "ttl" not in mount.posts[-1][1]


def test_the_default_is_not_retired():
    mount = Mount()
    with pytest.raises(CaError, match="still the default"):
        VaultPki(mount).retire("old")
    assert mount.posts == []


@pytest.mark.parametrize("reference", ["old", "id-old"])
def test_what_a_role_issues_from_is_not_retired(reference):
    mount = Mount()
    mount.issuers["id-new"] = mount.row("id-new", "new")
    mount.default = "id-new"
    mount.roles = {"web": "default", "mail": reference, "new": "new", "ldap": reference}
    for dry in (True, False):
        with pytest.raises(
            CaError, match=r"from old, so .*: mail, ldap\. .* vault patch pki/roles/mail issuer_ref=default"
        ):
            VaultPki(mount).retire("old", dry)
    assert mount.posts == []
    # What this login may not see is not asked for.
    mount.hidden = ("roles/mail", "roles/ldap")
    assert VaultPki(mount).retire("old", dry=True)
    mount.hidden = ("roles",)
    assert VaultPki(mount).retire("old")


@pytest.mark.parametrize(("change", "words"), [({"key_id": ""}, "no key"), ({"revoked": True}, "is revoked")])
def test_what_cannot_sign_is_not_activated(change, words):
    mount = Mount()
    mount.issuers["id-new"] = {**mount.row("id-new", "new"), **change}
    with pytest.raises(CaError, match=words):
        VaultPki(mount).activate("new")
    assert mount.posts == []


def test_a_choice_that_is_not_kept_is_said():
    mount = Mount()
    mount.issuers["id-new"] = mount.row("id-new", "new")
    mount.keeps = False
    with pytest.raises(CaError, match="does not give it back"):
        VaultPki(mount).activate("new")


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": []}, {"data": {"issuer_id": "x"}}, "text"])
def test_an_answer_of_another_shape_is_said(answer):
    with pytest.raises(CaError, match=r"1\.11"):
        VaultPki(lambda *_args, **_kwargs: answer).issuer("default")
