# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run: is this host isolated, make the escrow snapshot, prove it, keep it, and leave nothing else behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..files import StoreError
from ..snapshot.backup import prove
from ..snapshot.description import describe
from ..snapshot.download import file_name
from ..snapshot.errors import SnapshotError
from ..snapshot.manifest import Origin, known_seal_type
from ..snapshot.stores.base import Store, Stored
from . import isolation
from .errors import EscrowError
from .node import ScratchNode, scratch_folder
from .snapshot import Seal, Steps, migrate, prove_escrow

CHUNK = 1024 * 1024
"""Bytes at once, into the store."""


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        source: a snapshot whose seal is the KMS's.
        shares: recovery key shares of its origin.
        seal: the origin's seal stanza, credentials included where the environment has none.
        stores: keep the escrow snapshot, each of them.
        canaries: KV paths that must be readable in it.
        must_not_reach: ``host:port`` of the systems whose leases a restored copy would revoke.
        binary: the vault program.
        work_directory: where the throwaway nodes keep their data meanwhile.
        timeout: longest wait for any single thing, in seconds.
    """

    source: Path
    shares: Sequence[str] = field(repr=False)
    seal: Seal = field(repr=False)
    stores: Sequence[Store]
    canaries: Sequence[str]
    must_not_reach: Sequence[str]
    binary: str
    work_directory: Path
    timeout: float


def node_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a node with the KMS gets: all but Vault's own variables, which would change its configuration."""
    return {name: value for name, value in environ.items() if not name.startswith("VAULT_") or "LICENSE" in name}


def bare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a node without the KMS gets: no credentials."""
    return {name: value for name, value in environ.items() if name == "PATH" or name.startswith("VAULT_LICENSE")}


def run(request: Request, environ: Mapping[str, str], only_looks: bool = False) -> dict[str, Any]:
    """Makes and keeps the escrow snapshot, unless every store has one of this very snapshot that reads back whole.

    Args:
        only_looks: says what would be done, as check mode does.

    Raises:
        EscrowError, VaultError, SnapshotError, StoreError: nothing new is kept.
    """
    source = describe(request.source)
    if not source["verified"]:
        raise SnapshotError(source["problem"])
    seal_type = known_seal_type(source["manifest"] or {})
    if seal_type == "shamir":
        raise EscrowError(
            f"{request.source} is of a Vault with a Shamir seal: its unseal keys do without a KMS, there is nothing to "
            "be made."
        )
    if seal_type not in (None, *request.seal):
        raise EscrowError(
            f"{request.source} was sealed with '{seal_type}', seal_type is '{next(iter(request.seal))}': give the seal "
            "of the snapshot's origin."
        )
    isolation.refuse_when_reachable(request.must_not_reach, 3.0)
    result: dict[str, Any] = {"not_checked": isolation.not_checked(request.must_not_reach, source["key_counts"])}
    kept = {store.label: _existing(store, source["sha256"]) for store in request.stores}
    lacking = [store for store in request.stores if kept[store.label] is None]
    result["stores"] = list(kept)
    for manifest in filter(None, kept.values()):
        result.update(name=manifest["name"], manifest=manifest)
    if lacking and not only_looks:
        result.update(_make(request, environ, source, lacking))
    return {**result, "changed": bool(lacking)}


def _make(
    request: Request, environ: Mapping[str, str], source: Mapping[str, Any], stores: Sequence[Store]
) -> dict[str, Any]:
    steps = Steps()
    with scratch_folder(request.work_directory) as folder:
        made = folder / "escrow.snap"
        with ScratchNode(folder / "kms", request.binary, node_environment(environ), request.timeout) as node:
            _unused, manifest = migrate(
                node, request.seal, request.source, request.shares, made, request.timeout, steps
            )
        with ScratchNode(folder / "shamir", request.binary, bare_environment(environ), request.timeout) as node:
            secrets = prove_escrow(node, made, request.shares, request.canaries, request.timeout, steps)
        with steps.step("Keep it, and read it back"):
            # The data is that of the source's time: so is the name, and what a recovery loses is reckoned from it.
            taken_at = datetime.fromisoformat(source["taken_at"])
            manifest = {
                **manifest,
                # Not the name of its source: `_keep` deletes what lies unproven under this one.
                "name": file_name(Origin(f"{manifest['cluster_name'] or 'vault'}-escrow"), taken_at),
                "taken_at": source["taken_at"],
                "node": None,
                "escrow_of": {name: source[name] for name in ("sha256", "index")},
            }
            for store in stores:
                _keep(made, store, manifest)
    return {"name": manifest["name"], "manifest": manifest, "canaries": secrets, "steps": steps.done}


def _keep(made: Path, store: Store, manifest: Mapping[str, Any]) -> None:
    """Writes it, reads it back, and only then writes the manifest."""
    name = str(manifest["name"])
    if any(one.name == name and not one.has_manifest for one in store.listing()):
        # Of a run that was killed before it had read it back.
        store.delete(name)
    with made.open("rb") as file, store.writer(name) as writer:
        while chunk := file.read(CHUNK):
            writer.write(chunk)
    prove(store, name, manifest["sha256"], read_back=True)
    store.write_manifest(name, manifest)


def _existing(store: Store, sha256: str) -> Optional[dict[str, Any]]:
    """The manifest of the escrow snapshot of the snapshot with this SHA-256, if it is there and reads back whole."""

    def of_it(one: Stored) -> Optional[dict[str, Any]]:
        manifest = store.read_manifest(one.name) if one.has_manifest else None
        return manifest if ((manifest or {}).get("escrow_of") or {}).get("sha256") == sha256 else None

    for manifest in filter(None, map(of_it, store.listing())):
        try:
            prove(store, manifest["name"], manifest["sha256"], read_back=True)
        except StoreError as error:
            raise StoreError(
                f"{manifest['name']} in {store.label} is the escrow snapshot of this snapshot, and is damaged: remove "
                f"it with its manifest, and run this again. {error}"
            ) from error
        return manifest
    return None
