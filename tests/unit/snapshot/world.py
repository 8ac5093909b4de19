# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot store in memory, which fails where it is told to, and a whole run against such stores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import Report, run_job
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.library import taken_at
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Stored
from unit.vault.fake import URL, FakeVault

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=timezone.utc)


class MemoryStore:
    """Snapshots in dictionaries.

    Attributes:
        fails: what to raise in a method of this name.
        checksum: what `checksum_matches` says; by default what is so.
        done: the names of the methods that changed something, with the snapshot's name, in order.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.data: dict[str, bytes] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        self.fails: dict[str, BaseException] = {}
        self.checksum: Callable[[], bool | None] = lambda: True
        self.on_write: Callable[[], object] = lambda: None
        self.done: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def _fail(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]

    @contextmanager
    def writer(self, name: str) -> Iterator[MemoryStore]:
        self._fail("writer")
        if name in self.data:
            raise StoreError(f"{name} is there already")
        self.buffer = bytearray()
        yield self
        self._fail("commit")
        self.data[name] = bytes(self.buffer)
        self.done.append(("write", name))

    def write(self, data: bytes) -> None:
        self.on_write()
        self._fail("write")
        self.buffer += data

    def listing(self) -> list[Stored]:
        self._fail("listing")
        found = [Stored(name, taken_at(name, 0), len(data), name in self.manifests) for name, data in self.data.items()]
        return sorted(found, key=lambda one: (one.taken_at, one.name), reverse=True)

    @contextmanager
    def reader(self, name: str) -> Iterator[Iterator[bytes]]:
        self._fail("reader")
        self.done.append(("read", name))
        yield iter([self.data[name][start : start + 1000] for start in range(0, len(self.data[name]), 1000)])

    def checksum_matches(self, name: str, sha256: str) -> bool | None:
        self._fail("checksum")
        return self.checksum()

    def write_manifest(self, name: str, manifest: Mapping[str, Any]) -> None:
        self._fail("write_manifest")
        self.manifests[name] = dict(manifest)
        self.done.append(("manifest", name))

    def read_manifest(self, name: str) -> dict[str, Any] | None:
        self._fail("read_manifest")
        return self.manifests.get(name)

    def delete(self, name: str) -> None:
        self._fail("delete")
        self.manifests.pop(name, None)
        del self.data[name]
        self.done.append(("delete", name))

    def clean(self, older_than: timedelta) -> list[str]:
        self._fail("clean")
        self.done.append(("clean", ""))
        return []

    def lacks(self) -> list[str]:
        return [f"{self.label} has no versioning."]

    def add(self, when: datetime, data: bytes = b"old", **manifest: Any) -> str:
        """Puts a snapshot there as a run would have, without a manifest if `manifest` has `none`."""
        name = f"prod-{when:%Y%m%dT%H%M%SZ}.snap"
        self.data[name] = data
        if "none" not in manifest:
            self.manifests[name] = {
                "name": name,
                "taken_at": when.isoformat(),
                "cluster_id": "45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc",
                "index": 4000,
                "key_counts": {"core": 3},
                "flagged": None,
                **manifest,
            }
        return name

    def changes(self) -> list[str]:
        """What was done, without names."""
        return [what for what, _name in self.done]


class World:
    """Vault, stores by label, and the run between them.

    Attributes:
        stores: by label, made when a config names them.
        now: the host's clock.
    """

    def __init__(self, vault: FakeVault, folder: Path) -> None:
        self.vault = vault
        self.folder = folder
        self.stores: dict[str, MemoryStore] = {}
        self.now = NOW
        self.metrics = folder / "vault_snapshot.prom"

    def open_store(self, options: Mapping[str, Any]) -> MemoryStore:
        """In the place of stores.open_store."""
        return self.store(options["path"])

    def store(self, label: str) -> MemoryStore:
        return self.stores.setdefault(label, MemoryStore(label))

    def config(self, **changed: Any) -> dict[str, Any]:
        return {
            "vault": {"url": URL, "retries": 0, "auth_method": "approle", "role_id": "r", "secret_id": "theSecretId"},
            "destinations": [{"type": "filesystem", "path": "a"}, {"type": "filesystem", "path": "b"}],
            "state_directory": str(self.folder / "state"),
            "metrics_file": str(self.metrics),
            **changed,
        }

    def run(self, check: bool = False, **changed: Any) -> Report:
        ticks = iter(range(100))
        return run_job(self.config(**changed), {}, check, now=lambda: self.now, monotonic=lambda: next(ticks) * 1.0)

    def metric(self, name: str, labels: str = "") -> float | None:
        """A value of the metrics file."""
        for line in self.metrics.read_text().splitlines():
            if line.startswith(f"vault_snapshot_{name}{labels} "):
                return float(line.rpartition(" ")[2])
        return None
