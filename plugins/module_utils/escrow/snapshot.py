# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an escrow snapshot: one that key shares alone unseal, out of one that only the KMS could.

Recovery keys do not unseal a Vault whose seal is a KMS. While the KMS lives, though, Vault migrates a copy of its data
to a Shamir seal whose unseal keys are those recovery keys (Vault's documentation, "Seal migration").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..snapshot.archive import SnapshotInfo
from ..snapshot.download import take
from ..snapshot.restore import restore
from ..vault import operator
from ..vault.client import VaultClient
from ..vault.generate_root import generate_root
from ..vault.health import seal_type
from ..vault.secrets import prove
from .errors import EscrowError
from .node import ScratchNode

TOKEN_TTL = "1h"  # noqa: S105
"""Of the token that takes the snapshot, which is inevitably in it."""

Seal = Mapping[str, Mapping[str, Any]]


@dataclass
class Steps:
    """What was done, and the seconds of each."""

    done: list[dict[str, Any]] = field(default_factory=list)
    monotonic: Callable[[], float] = time.monotonic

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of this name; what it raises as EscrowError says which it was."""
        began = self.monotonic()
        try:
            yield
        except EscrowError as error:
            raise EscrowError(f"{name}: {error}") from error
        self.done.append({"name": name, "seconds": round(self.monotonic() - began, 1)})


def migrate(
    node: ScratchNode, seal: Seal, source: Path, shares: Sequence[str], dest: Path, wait: float, steps: Steps
) -> tuple[SnapshotInfo, dict[str, Any]]:
    """Restores `source` on the node, migrates its seal to Shamir's, and takes a snapshot of that to `dest`.

    Args:
        seal: the origin's seal stanza, as Vault's configuration has it.
        shares: recovery key shares of the origin.
        wait: longest time for a restore or a snapshot, in seconds.

    Returns:
        The snapshot's facts and its manifest.

    Raises:
        EscrowError, VaultError, SnapshotError, StoreError
    """
    with steps.step("Restore the snapshot on a throwaway node"):
        node.start(seal)
        token = str(operator.initialize(node.client(), 1, 1)["root_token"])
        node.wait_active()
        restore(node.client(token), source, True, wait, wait)
        node.wait_active()
        node.stop()
    with steps.step("Migrate its seal to Shamir's"):
        node.start({name: {**stanza, "disabled": "true"} for name, stanza in seal.items()})
        _unseal(node, shares, migrates=True)
        kind = seal_type(operator.seal_status(node.client()))
        if kind != "shamir":
            raise EscrowError(
                f"Vault took the recovery keys, and its seal is still of type '{kind or 'auto-unseal'}'. Read its log."
            )
    with steps.step("Take the escrow snapshot"):
        client = node.client(generate_root(node.client(), shares))
        client = node.client(_short_lived(client))
        taken = take(client, dest, wait)
    return taken.info, taken.manifest


def _short_lived(root: VaultClient) -> str:
    """A root token that dies by itself, in every copy of the snapshot too; the one that makes it is revoked."""
    answer = root.request("POST", "auth/token/create-orphan", json={"policies": ["root"], "ttl": TOKEN_TTL})
    operator.revoke(root)
    return str(answer["auth"]["client_token"])


def prove_escrow(
    node: ScratchNode, snapshot: Path, shares: Sequence[str], canaries: Sequence[str], wait: float, steps: Steps
) -> list[dict[str, Any]]:
    """Restores the escrow snapshot on a node that has no seal stanza, unseals it, and reads the canaries.

    Args:
        node: fresh; its environment holds no credentials of the KMS.

    Raises:
        EscrowError: it does not unseal, or a canary is not readable.
        VaultError, SnapshotError
    """
    with steps.step("Restore the escrow snapshot on a second node, without the KMS"):
        node.start({})
        init = operator.initialize(node.client(), 1, 1)
        operator.unseal(node.client(), init["unseal_keys_b64"])
        node.wait_active()
        restore(node.client(str(init["root_token"])), snapshot, True, wait, wait)
        # Started anew, as a node of a recovery may be: what it knows now comes from the snapshot.
        node.stop()
        node.start({})
        _unseal(node, shares, migrates=False)
    with steps.step("Read the canaries there"):
        client = node.client(generate_root(node.client(), shares))
        proofs = [prove(client, path) for path in canaries]
        operator.revoke(client)
    unreadable = [str(proof.problem) for proof in proofs if not proof.readable]
    if unreadable:
        raise EscrowError(f"The escrow snapshot unseals, but not every canary is in it: {' '.join(unreadable)}")
    return [{name: asdict(proof)[name] for name in ("path", "readable", "fields")} for proof in proofs]


def _unseal(node: ScratchNode, shares: Sequence[str], migrates: bool) -> None:
    status = operator.unseal(node.client(), shares, migrate=migrates)
    if status.get("sealed") and status.get("progress"):
        raise EscrowError(
            f"{len(shares)} key shares were given, {status.get('t')} are needed. Give the recovery key shares of the "
            "snapshot's origin, as many as its threshold."
        )
    node.wait_active()
