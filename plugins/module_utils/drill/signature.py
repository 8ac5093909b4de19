# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of the records of drills, of their SHA-256, so that nobody who has no key writes the chain anew.

Sources: ssh-keygen(1), "-Y sign" and "-Y verify"; Vault's API documentation, "Transit secrets engine".
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..files import explain, read_json, write_json
from . import chain
from .errors import DrillError

NAMESPACE = "custodes-drill"
"""Of SSH signatures, so that one of something else does not count."""

Run = Callable[[Sequence[str], bytes], tuple[int, str, str]]
"""Runs a command with this input; gives its status, what it wrote, and what it complained of."""


def run_command(argv: Sequence[str], given: bytes) -> tuple[int, str, str]:
    """Runs a command to its end, without a terminal, so that it asks nobody for a passphrase."""
    try:
        ended = subprocess.run(
            list(argv), input=given, capture_output=True, check=False, start_new_session=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, "", explain(error) if isinstance(error, OSError) else "it did not end within 60 s"
    return ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")


class Ssh:
    """Signs with a private key in a file, or one that ssh-agent holds, of which the file has the public half.

    Args:
        key: the file; to verify, the identity that `signers` has for the key.
        signers: to verify, the file of allowed signers.
    """

    method = "ssh"

    def __init__(self, key: str, signers: str = "", run: Run = run_command) -> None:
        self.key = key
        self._signers = signers
        self._run = run

    def sign(self, digest: str) -> str:
        """The signature of a text. Raises DrillError."""
        argv = ["ssh-keygen", "-Y", "sign", "-f", self.key, "-n", NAMESPACE]
        status, output, problem = self._run(argv, digest.encode())
        if status != 0 or "SIGNATURE" not in output:
            raise DrillError(
                f"ssh-keygen did not sign with {self.key}: {' '.join(problem.split())[:300]}. A key with a passphrase "
                "has to be in ssh-agent."
            )
        return output

    def good(self, digest: str, signature: str) -> bool:
        """Whether one of the allowed signers signed it. Raises DrillError when that cannot be told."""
        if not self._signers:
            raise DrillError("allowed_signers is needed to verify a signature by SSH.")
        if not os.path.exists(self._signers):
            raise DrillError(f"There is no {self._signers}, the file of allowed signers.")
        with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
            file.write(signature)
            file.flush()
            argv = ["ssh-keygen", "-Y", "verify", "-f", self._signers, "-I", self.key, "-n", NAMESPACE, "-s", file.name]
            status, _output, problem = self._run(argv, digest.encode())
        if status == 127:
            raise DrillError(f"ssh-keygen cannot be run: {problem.strip()}.")
        return status == 0


class Transit:
    """Signs with a key that never leaves Vault.

    Args:
        request: as VaultClient.request.
        key: its name in the engine.
        mount: of the engine.
    """

    method = "vault_transit"

    def __init__(self, request: Callable[..., Any], key: str, mount: str = "transit") -> None:
        self._request = request
        self.key = key
        self._mount = mount.strip("/")

    def sign(self, digest: str) -> str:
        """The signature of a text. Raises VaultError, DrillError."""
        data = self._call("sign", {"input": _input(digest)})
        signature = data.get("signature")
        if not isinstance(signature, str) or not signature.startswith("vault:"):
            raise DrillError(
                f"{self._mount}/sign/{self.key} gave no signature. Is it a key that signs, such as ed25519?"
            )
        return signature

    def good(self, digest: str, signature: str) -> bool:
        """Whether the key signed it, in whatever version. Raises VaultError, DrillError."""
        return self._call("verify", {"input": _input(digest), "signature": signature}).get("valid") is True

    def _call(self, verb: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = self._request("POST", f"{self._mount}/{verb}/{self.key}", json=body)
        data = answer.get("data") if isinstance(answer, Mapping) else None
        if not isinstance(data, Mapping):
            raise DrillError(f"{self._mount}/{verb}/{self.key} gave no data. Is {self._mount} a transit engine?")
        return data


def _input(digest: str) -> str:
    return base64.b64encode(digest.encode()).decode()


def sign(file: Path, signer: Any, writes: bool = True) -> bool:
    """Signs a record, unless it carries a good signature of this kind already. Whether it was, or would be.

    Raises DrillError, StoreError, VaultError.
    """
    try:
        record = read_json(file)
    except FileNotFoundError as error:
        raise DrillError(f"There is no record {file}.") from error
    if record.get("sha256") != chain.digest(record):
        raise DrillError(f"{file} was changed after it was written and is not signed.")
    if record.get("signature"):
        return False
    if writes:
        value = signer.sign(record["sha256"])
        write_json(file, {**record, "signature": {"method": signer.method, "key": signer.key, "value": value}})
    return True


def check(records: Sequence[tuple[str, Mapping[str, Any]]], signer: Any) -> tuple[list[str], list[str]]:
    """The names of the records whose signature is not of what they say, and of those that have none of this kind.

    Raises DrillError, VaultError.
    """
    bad, without = [], []
    for name, record in records:
        signature: Optional[Mapping[str, Any]] = record.get("signature")
        if not signature or signature.get("method") != signer.method:
            without.append(name)
        elif not signer.good(chain.digest(record), str(signature.get("value"))):
            bad.append(name)
    return bad, without
