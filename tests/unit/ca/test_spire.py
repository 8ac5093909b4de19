# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPIRE's authorities through a program that answers as its documentation says."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca import authority
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import subject_key_id
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.spire import Spire
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lab.pki import Authority


class Server:
    """A spire-server in memory: slots, and a bundle of roots by their subject key id."""

    def __init__(self, folder: Path) -> None:
        self.roots: dict[str, dict[str, Any]] = {}
        self.commands: list[str] = []
        self.slots: dict[str, dict[str, str]] = {}
        self.deaf = False
        self._folder = folder
        self.slots["active"] = self.authority("first")

    def authority(self, name: str) -> dict[str, str]:
        pem = Authority(self._folder / name, name).ca_file.read_text()
        key = subject_key_id(pem, name)
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        self.roots[key] = {"asn1": base64.b64encode(der).decode(), "tainted": False}
        return {"authority_id": key, "expires_at": "1001"}

    def __call__(self, command: Sequence[str]) -> tuple[int, str, str]:
        assert command[0] == "spire-server"
        words = [one for one in command[1:] if one not in ("-output", "json", "-socketPath", "/s")]
        said = " ".join(words)
        self.commands.append(said)
        if said == "bundle show":
            return self.answer({"trust_domain": "spiffe://x", "x509_authorities": list(self.roots.values())})
        if said != "localauthority x509 show" and not self.deaf:
            self.change(words[2], words[-1])
        return self.answer(self.slots)

    def change(self, verb: str, key: str) -> None:
        if verb == "prepare":
            self.slots["prepared"] = self.authority("second")
        elif verb == "activate":
            self.slots["old"], self.slots["active"] = self.slots["active"], self.slots.pop("prepared")
        elif verb == "taint":
            self.roots[key]["tainted"] = True
        else:
            assert self.roots.pop(key)["tainted"]

    @staticmethod
    def answer(told: Any) -> tuple[int, str, str]:
        return 0, json.dumps(told), ""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def changes(server: Server) -> list[str]:
    return [one.split()[2] for one in server.commands if not one.endswith("show")]


def test_a_rotation_and_each_step_again(server: Server) -> None:
    spire = Spire(server, socket="/s")
    first = server.slots["active"]["authority_id"]
    assert spire.prepare(dry=True) == (None, True)
    second, new = spire.prepare()
    assert second is not None
    assert new
    assert spire.prepare() == (second, False)
    assert [one["state"] for one in authority.issuers(spire)] == ["active", "standby"]
    assert [spire.activate(second, dry=True), spire.activate(second), spire.activate(second)] == [True, True, False]
    assert [one["state"] for one in authority.issuers(spire)] == ["active", "old"]
    assert [spire.retire(first, dry=True), spire.retire(first), spire.retire(first)] == [True, True, False]
    assert changes(server) == ["prepare", "activate", "taint", "revoke"]
    told = authority.issuers(spire)
    assert [(one["id"], one["subject"]) for one in told] == [(second, "CN=second"), (first, None)]


def test_killed_between_taint_and_revoke(server: Server) -> None:
    spire = Spire(server)
    first = server.slots["active"]["authority_id"]
    second, _new = spire.prepare()
    spire.activate(str(second))
    server.roots[first]["tainted"] = True
    assert spire.retire(first)
    assert changes(server)[2:] == ["revoke"]


def test_what_is_refused(server: Server) -> None:
    spire = Spire(server)
    first = server.slots["active"]["authority_id"]
    with pytest.raises(CaError, match="is the active one, so it was not revoked"):
        spire.retire(first)
    with pytest.raises(CaError, match="is not the prepared one"):
        spire.activate("other")
    second, _new = spire.prepare()
    with pytest.raises(CaError, match="is the prepared one, so it was not revoked"):
        spire.retire(str(second))
    spire.activate(str(second))
    server.slots["old"]["upstream_authority_subject_key_id"] = "up"
    with pytest.raises(CaError, match="spire-server upstreamauthority"):
        spire.retire(first)
    assert changes(server) == ["prepare", "activate"]


def test_a_change_that_does_not_show_is_said(server: Server) -> None:
    spire = Spire(server)
    first = server.slots["active"]["authority_id"]
    server.deaf = True
    with pytest.raises(CaError, match="does not show it"):
        spire.prepare()
    server.deaf = False
    second = str(spire.prepare()[0])
    server.deaf = True
    with pytest.raises(CaError, match="shows another one as active"):
        spire.activate(second)
    server.deaf = False
    spire.activate(second)
    server.deaf = True
    with pytest.raises(CaError, match="still in the bundle"):
        spire.retire(first)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (1, "", "Error: rpc error: code = Unavailable\n"),
            "ended with 1: Error: rpc.*on the SPIRE server's host",
        ),
        ((127, "", ""), "nothing was said"),
        ((0, "pretty text", ""), "gave no JSON object"),
        ((0, "[]", ""), "gave no JSON object"),
    ],
)
def test_an_answer_of_another_shape_is_said(answer: tuple[int, str, str], words: str) -> None:
    with pytest.raises(CaError, match=words):
        Spire(lambda _command: answer).authorities()


@pytest.mark.parametrize("roots", [None, [{}], [{"asn1": "%"}], [{"asn1": "AAAA"}], ["x"]])
def test_a_bundle_of_another_shape_is_said(roots: Any) -> None:
    with pytest.raises(CaError, match="bundle show"):
        Spire(lambda _command: (0, json.dumps({"x509_authorities": roots}), "")).bundle()
