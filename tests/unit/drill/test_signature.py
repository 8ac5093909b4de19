# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of records: by a real ssh-keygen, and by Vault's transit engine as documented."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain, signature
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.signature import Ssh, Transit
from ansible_collections.custodes.security_dr.plugins.module_utils.files import write_json

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen (openssh-client)")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "drill-20261127T090000Z.json"
    write_json(file, {**chain.sealed({"verdict": "passed"}, None), "signature": None})
    return file


def key(folder: Path, name: str) -> Path:
    file = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
    return file


@pytest.fixture
def signers(tmp_path: Path) -> Path:
    public = key(tmp_path, "drill").with_suffix(".pub").read_text()
    file = tmp_path / "allowed_signers"
    file.write_text(f"drill@example.com {public}")
    return file


@needs_ssh
class TestSsh:
    def test_signed_and_good(self, record: Path, signers: Path, tmp_path: Path) -> None:
        assert signature.sign(record, Ssh(str(tmp_path / "drill"))) is True
        signed = json.loads(record.read_text())
        assert signed["signature"]["method"] == "ssh"
        assert chain.problems([(record.name, signed)]) == [], "the signature is outside of the hash"
        assert signature.sign(record, Ssh(str(tmp_path / "drill"))) is False
        verifier = Ssh("drill@example.com", str(signers))
        assert signature.check([(record.name, signed)], verifier) == ([], [])

    def test_by_another_key(self, record: Path, signers: Path, tmp_path: Path) -> None:
        signature.sign(record, Ssh(str(key(tmp_path, "other"))))
        signed = json.loads(record.read_text())
        assert signature.check([("r", signed)], Ssh("drill@example.com", str(signers))) == (["r"], [])

    def test_of_another_record(self, record: Path, signers: Path, tmp_path: Path) -> None:
        signature.sign(record, Ssh(str(tmp_path / "drill")))
        signed = json.loads(record.read_text())
        anew = {**chain.sealed({"verdict": "failed"}, None), "signature": signed["signature"]}
        assert signature.check([("r", anew)], Ssh("drill@example.com", str(signers))) == (["r"], [])

    def test_of_a_content_that_was_changed(self, record: Path, signers: Path, tmp_path: Path) -> None:
        signature.sign(record, Ssh(str(tmp_path / "drill")))
        changed = {**json.loads(record.read_text()), "verdict": "failed"}
        assert signature.check([("r", changed)], Ssh("drill@example.com", str(signers))) == (["r"], [])

    def test_a_key_that_is_not_there(self, record: Path, tmp_path: Path) -> None:
        before = record.read_bytes()
        with pytest.raises(DrillError, match=r"ssh-keygen did not sign with .*none"):
            signature.sign(record, Ssh(str(tmp_path / "none")))
        assert record.read_bytes() == before


def test_no_allowed_signers(tmp_path: Path) -> None:
    with pytest.raises(DrillError, match="allowed_signers is needed"):
        Ssh("drill").good("a", "b")
    with pytest.raises(DrillError, match="the file of allowed signers"):
        Ssh("drill", str(tmp_path / "none")).good("a", "b")


def test_no_ssh_keygen(record: Path) -> None:
    def run(_argv: Any, _given: bytes) -> tuple[int, str, str]:
        return 127, "", "No such file or directory"

    with pytest.raises(DrillError, match="No such file or directory"):
        signature.sign(record, Ssh("drill", run=run))


class Vault:
    """The transit engine: signs by writing the input into the signature."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def __call__(self, method: str, path: str, json: dict[str, str]) -> Any:
        self.asked.append((method, path))
        if self.answer is not None:
            return self.answer
        if "/verify/" in path:
            return {"data": {"valid": json["signature"] == f"vault:v1:{json['input']}"}}
        return {"data": {"signature": f"vault:v1:{json['input']}"}}


class TestTransit:
    def test_signed_and_good(self, record: Path) -> None:
        vault = Vault()
        assert signature.sign(record, Transit(vault, "dr-drill", "/transit/")) is True
        signed = json.loads(record.read_text())
        assert signature.check([("r", signed)], Transit(vault, "dr-drill")) == ([], [])
        assert vault.asked == [("POST", "transit/sign/dr-drill"), ("POST", "transit/verify/dr-drill")]
        anew = {**chain.sealed({"verdict": "failed"}, None), "signature": signed["signature"]}
        assert signature.check([("r", anew)], Transit(vault, "dr-drill")) == (["r"], [])

    @pytest.mark.parametrize(
        ("answer", "said"),
        [({}, "gave no data"), ({"data": {}}, "gave no signature"), ({"data": None}, "gave no data")],
    )
    def test_what_is_no_transit_engine(self, record: Path, answer: Any, said: str) -> None:
        with pytest.raises(DrillError, match=said):
            signature.sign(record, Transit(Vault(answer), "dr-drill"))


def test_unsigned_ones_are_told_apart(record: Path) -> None:
    told = json.loads(record.read_text())
    assert signature.check([("r", told)], Transit(Vault(), "k")) == ([], ["r"])
    by_ssh = {**told, "signature": {"method": "ssh", "key": "x", "value": "y"}}
    assert signature.check([("r", by_ssh)], Transit(Vault(), "k")) == ([], ["r"])


def test_a_changed_record_is_not_signed(record: Path) -> None:
    record.write_text(record.read_text().replace("passed", "failed"))
    with pytest.raises(DrillError, match="was changed after it was written and is not signed"):
        signature.sign(record, Transit(Vault(), "k"))


def test_check_mode_signs_nothing(record: Path) -> None:
    before, vault = record.read_bytes(), Vault()
    assert signature.sign(record, Transit(vault, "k"), writes=False) is True
    assert (record.read_bytes(), vault.asked) == (before, [])
