# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery from its first step to its record: lock, journal and report together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import playbook_lock as lock
from ..files import StoreError, explain, new_file, write_json
from .errors import RecoveryError
from .journal import Journal
from .page import html
from .report import RECOVERED, Ending, build_record, markdown, summary_lines

PROOF = "Canaries readable at every node"
"""The step without which no run has recovered anything; roles/vault_recovery/tasks/verify.yml notes it."""


class Recovery:
    """One recovery's folder.

    Args:
        writes: False looks only, as check mode does.
    """

    def __init__(self, directory: Path, writes: bool) -> None:
        self.directory = directory
        self.writes = writes

    def start(self, nodes: Sequence[str], now: datetime) -> dict[str, Any]:
        """Take the lock, and begin or go on.

        A run may have fewer nodes than the previous one: a node that died meanwhile joins later. The journal of a run
        that changed nothing is set aside.

        Raises:
            RecoveryError: another recovery is running, or the folder is that of another cluster's unfinished one.
            StoreError: the folder cannot be used.
        """
        if self.writes:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"Cannot create {self.directory}: {explain(error)}. Choose another folder.") from error
            lock.acquire(self.directory, lock.current_holder(), "recovery")
        left = Journal.load(self.directory)
        if left is not None and left.is_abandoned(now):
            if self.writes:
                left.set_aside()
            left = None
        known = left.data.get("nodes", []) if left is not None else list(nodes)
        if left is not None and known != list(nodes) and not left.has_changed_something():
            if self.writes:
                left.set_aside()
            left = None
        elif left is not None and known != list(nodes):
            if not nodes or not set(nodes) < set(known) or left.data.get("quorum"):
                raise RecoveryError(
                    f"{self.directory} holds an unfinished recovery of {', '.join(known)}, and this one is of "
                    f"{', '.join(nodes)}. Nothing was changed. To finish that one, name its nodes in "
                    "vault_recovery_nodes; those that died meanwhile may be left out, and join later. For another "
                    "cluster, use another vault_recovery_directory."
                )
            if self.writes:
                left.note(nodes=list(nodes))
        journal = left or Journal.new(self.directory, nodes, now)
        if self.writes:
            journal.begin_run(now)
        result = {"changed": True, "resumed": left is not None, "journal": journal.data}
        if self.writes:
            held = asdict(lock.current_holder())
            result["lock"] = {"path": str(lock.lock_file(self.directory, "recovery")), "holder": held}
        return result

    def step(self, name: str, detail: Mapping[str, Any], facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Notes a step that ends now. Raises StoreError."""
        journal = self._journal(now)
        if self.writes:
            noted = dict(facts)
            if "secrets" in noted:
                secrets = noted["secrets"] or []
                readable = bool(secrets) and all(secret.get("readable") for secret in secrets)
                noted["readable_at"] = now.isoformat(timespec="milliseconds") if readable else None
            if noted:
                journal.note(**noted)
            journal.add(name, detail, now)
        return {"changed": True, "journal": journal.data}

    def end(self, ending: Ending, now: datetime) -> dict[str, Any]:
        """Write the record and its page, and release the lock. Unless all is done, the journal stays.

        A page that cannot be written is a warning in the result: the outcome of the recovery does not depend on it.

        Raises:
            StoreError: the record cannot be written.
        """
        journal = self._journal(now)
        if ending.status == RECOVERED and self.writes:
            self._check_proof(journal)
        record = build_record(journal, ending, now)
        result = {"changed": True, "journal": journal.data, "record": record, "summary": summary_lines(record)}
        if not self.writes:
            return result
        stem = self.directory / f"recovery-{now:%Y%m%dT%H%M%SZ}"
        files = [stem.with_suffix(".json"), stem.with_suffix(".md")]
        write_json(files[0], record)
        with new_file(files[1]) as file:
            file.write(markdown(record).encode(errors="backslashreplace"))
        if ending.status == RECOVERED:
            journal.close()
        lock.release(self.directory, lock.current_holder(), "recovery")
        page, problem = stem.with_suffix(".html"), self._write_page(stem.with_suffix(".html"), record)
        if problem is None:
            return {**result, "record_files": [str(file) for file in (*files, page)]}
        return {**result, "record_files": [str(file) for file in files], "warnings": [problem]}

    def _check_proof(self, journal: Journal) -> None:
        """Raise RecoveryError unless the secrets were read in this very run, which holds the lock.

        Tags and --start-at-task can leave out any step: what then ends well has recovered nothing.
        """
        this_run = [step["name"] for step in journal.data["steps"] if step["run"] == journal.data["runs"]]
        if PROOF in this_run and lock.is_held(self.directory, lock.current_holder(), "recovery"):
            return
        raise RecoveryError(
            "Cannot finish the recovery: in this run the canaries were not read back, as steps were left out (--tags, "
            "--skip-tags, --start-at-task). The record and the journal are unchanged. Run the playbook again without "
            "these: it goes on from where the journal is."
        )

    def _write_page(self, page: Path, record: Mapping[str, Any]) -> str | None:
        """Write the record as an HTML page. Returns the reason when it cannot, else None."""
        try:
            text = html(record, str(self.directory))
            with new_file(page) as file:
                file.write(text.encode())
        except Exception as error:  # noqa: BLE001  Neither a full disk nor a strange value undoes a recovery.
            return (
                f"Cannot write the HTML page of the recovery, {page}: {type(error).__name__}: {error} "
                "The recovery and its record, the JSON file with the same name, are not affected."
            )
        return None

    def _journal(self, now: datetime) -> Journal:
        journal = Journal.load(self.directory)
        if journal is None and not self.writes:
            return Journal.new(self.directory, [], now)
        if journal is None:
            raise RecoveryError(f"No recovery has been started in {self.directory}: state 'started' comes first.")
        return journal
