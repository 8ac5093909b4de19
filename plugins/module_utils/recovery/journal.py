# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a recovery: what was done, when, and what a run that follows a killed one has to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..files import StoreError, explain, read_json, write_json

JOURNAL = "journal.json"
INIT = "init.json"
"""Keys and root token of the temporary cluster: worthless once the snapshot is restored, removed at the end."""

ABANDONED_AFTER = timedelta(hours=24)
"""A journal that is older belongs to another disaster: its snapshot and its restore are not gone on with."""


class Journal:
    """A recovery's steps so far, in ``journal.json`` in its folder; each change is on disk when the call returns.

    Attributes:
        directory: the recovery's folder.
        data: plain values, as they are written.
    """

    def __init__(self, directory: Path, data: dict[str, Any]) -> None:
        self.directory = directory
        self.data = data

    @classmethod
    def load(cls, directory: Path) -> Journal | None:
        """The journal that a run left behind, None when there is none. Raises StoreError when it is damaged."""
        try:
            return cls(directory, read_json(directory / JOURNAL))
        except FileNotFoundError:
            return None

    @classmethod
    def new(cls, directory: Path, nodes: Sequence[str], now: datetime) -> Journal:
        """A journal with nothing done yet; not written."""
        started = now.isoformat(timespec="milliseconds")
        return cls(
            directory,
            {"format": 1, "started_at": started, "last_at": started, "nodes": list(nodes), "runs": 0, "steps": []},
        )

    def is_abandoned(self, now: datetime) -> bool:
        """Whether nobody has gone on with it for so long that this is another disaster."""
        return now - datetime.fromisoformat(self.data["last_at"]) > ABANDONED_AFTER

    def has_changed_something(self) -> bool:
        """Return whether its runs have changed a node, or may have."""
        facts = ("initializing", "temporary_cluster_id", "restore", "safety_snapshot", "quorum")
        return any(self.data.get(fact) for fact in facts)

    def set_aside(self) -> None:
        """Renames it, for the file; its records stay where they are. Raises StoreError."""
        path = self.directory / JOURNAL
        began = datetime.fromisoformat(self.data["started_at"])
        try:
            path.rename(self.directory / f"journal-{began:%Y%m%dT%H%M%SZ}.json")
        except OSError as error:
            raise StoreError(f"Cannot rename {path}: {explain(error)}. Move it aside by hand.") from error

    @property
    def restore(self) -> str | None:
        """``begun`` or ``done``, None before."""
        value = self.data.get("restore")
        return str(value) if value else None

    def begin_run(self, now: datetime) -> None:
        """Notes that a run starts, or starts again. Raises StoreError."""
        self.data["runs"] += 1
        self.data["last_at"] = now.isoformat(timespec="milliseconds")
        self._write()

    def add(self, name: str, detail: Mapping[str, Any], now: datetime) -> None:
        """Adds a step that ends now; it began when the one before it ended. Raises StoreError."""
        began = datetime.fromisoformat(self.data["last_at"])
        step = {
            "name": name,
            "run": self.data["runs"],
            "started_at": self.data["last_at"],
            "seconds": round((now - began).total_seconds(), 3),
            "detail": dict(detail),
        }
        self.data["steps"] = [*self.data["steps"], step]
        self.data["last_at"] = now.isoformat(timespec="milliseconds")
        self._write()

    def note(self, **facts: Any) -> None:
        """Notes facts that a later run needs: snapshot, safety_snapshot, restore. Raises StoreError."""
        self.data.update(facts)
        self._write()

    def close(self) -> None:
        """Forgets the recovery, and the temporary cluster's keys. Raises StoreError."""
        try:
            # Keys that no run of this recovery made are not its to remove.
            for name in (JOURNAL, INIT) if self.data.get("initializing") else (JOURNAL,):
                (self.directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot remove {error.filename}: {explain(error)}. Remove it by hand.") from error

    def _write(self) -> None:
        write_json(self.directory / JOURNAL, self.data)
