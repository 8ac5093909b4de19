# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ca_issuer and its kin with SPIRE, a program that keeps its state in a file; and what is refused at once."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import subject_key_id
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lab.pki import Authority
from unit.modules.runner import Runner

Capture = pytest.CaptureFixture[str]

PROGRAM = """#!{python}
import json, pathlib, sys
state = pathlib.Path({state!r})
slots, roots, spare = json.loads(state.read_text())
words = [word for word in sys.argv[1:] if word not in ("-output", "json")]
if words == ["bundle", "show"]:
    print(json.dumps({{"x509_authorities": list(roots.values())}}))
    sys.exit()
verb, key = words[2], words[-1]
if verb == "prepare":
    roots.update(spare)
    slots["prepared"] = {{"authority_id": next(iter(spare))}}
elif verb == "activate":
    slots["old"], slots["active"] = slots["active"], slots.pop("prepared")
elif verb == "taint":
    roots[key]["tainted"] = True
elif verb == "revoke":
    del roots[key]
state.write_text(json.dumps([slots, roots, spare]))
print(json.dumps(slots))
"""


@pytest.fixture
def spire(tmp_path: Path) -> tuple[str, str, str]:
    """The program, and the ids of the authority that signs and of the one that it will prepare."""
    roots = []
    for name in ("first", "second"):
        pem = Authority(tmp_path / name, name).ca_file.read_text()
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        roots.append({subject_key_id(pem, name): {"asn1": base64.b64encode(der).decode()}})
    first, second = (next(iter(one)) for one in roots)
    state, program = tmp_path / "state.json", tmp_path / "spire-server"
    state.write_text(json.dumps([{"active": {"authority_id": first}}, *roots]))
    program.write_text(PROGRAM.format(python=sys.executable, state=str(state)))
    program.chmod(0o700)
    return str(program), first, second


def test_a_rotation_of_spire(spire: tuple[str, str, str], capsys: Capture) -> None:
    program, first, second = spire
    run = Runner(capsys, "ca_issuer", provider="spire", spire_server=program)
    info = Runner(capsys, "ca_issuer_info", provider="spire", spire_server=program)
    foretold, made, _again, after = run.four_runs(state="prepared")
    assert foretold["issuer"] is None
    assert (made["issuer"]["id"], made["issuer"]["state"], after["issuer"]) == (second, "standby", made["issuer"])
    *_rest, active = run.four_runs(state="active", name=second)
    assert (active["issuer"]["state"], active["issuer"]["subject"]) == ("active", "CN=second")
    assert "confirm: true" in run.fails(state="retired", name=first)["msg"]
    assert "the active one" in run.fails(state="retired", name=second, confirm=True)["msg"]
    assert [one["state"] for one in info()["issuers"]] == ["active", "old"]
    run.four_runs(state="retired", name=first, confirm=True)
    assert [(one["id"], one["certificate"] is None) for one in info()["issuers"]] == [(second, False), (first, True)]


def test_without_a_name(capsys: Capture) -> None:
    run = Runner(capsys, "ca_issuer", provider="spire", spire_server="/nowhere/spire-server")
    assert "Which issuer" in run.fails(state="active")["msg"]


def test_without_a_program(capsys: Capture) -> None:
    run = Runner(capsys, "ca_issuer_info", provider="spire", spire_server="/nowhere/spire-server")
    assert run.fails()["msg"]


@pytest.mark.parametrize("name", ["ca_issuer_info", "ca_issue_probe"])
def test_a_step_ca_is_verified(name: str, capsys: Capture) -> None:
    probe = {"name": "a.example.com", "provisioner": "drill", "provisioner_password": "open-sesame"}
    options = probe if name == "ca_issue_probe" else {}
    run = Runner(capsys, name, provider="step_ca", url="https://127.0.0.1:1")
    run.options.update(options)
    assert "is not asked" in run.fails(validate_certs=False)["msg"]
    assert "Does it run" in run.fails()["msg"]
    assert "https://HOST:PORT" in run.fails(url="http://127.0.0.1:1")["msg"]
    assert "open-sesame" not in run.output
