# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before a Vault is started, what its processes get, and that nothing of them stays."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.escrow import job, node
from ansible_collections.custodes.security_dr.plugins.module_utils.escrow.errors import EscrowError
from ansible_collections.custodes.security_dr.plugins.module_utils.escrow.isolation import (
    not_checked,
    refuse_when_reachable,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError, write_json
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import manifest_path
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from lab.archives import archive


class Reached:
    """What a connection gives."""

    def close(self) -> None:
        """Nothing."""


def network(*open_to: tuple[str, int]) -> Callable[..., Reached]:
    def connect(place: tuple[str, int], timeout: float) -> Reached:
        assert timeout == 3.0
        if place not in open_to:
            raise ConnectionRefusedError
        return Reached()

    return connect


class TestIsolation:
    def test_a_host_that_reaches_none_of_them(self) -> None:
        refuse_when_reachable(["db:5432", "[fd00::1]:5432"], 3.0, network())
        refuse_when_reachable([], 3.0, network())

    def test_a_host_that_reaches_some(self) -> None:
        with pytest.raises(EscrowError, match=r"^This host reaches db:5432, \[fd00::1\]:3306: "):
            refuse_when_reachable(["db:5432", "x:1", "[fd00::1]:3306"], 3.0, network(("db", 5432), ("fd00::1", 3306)))

    @pytest.mark.parametrize("target", ["db", "db:", ":5432", "db:0", "db:65536", "http://db:5432x"])
    def test_what_is_no_target(self, target: str) -> None:
        with pytest.raises(EscrowError, match="is not HOST:PORT"):
            refuse_when_reachable([target], 3.0, network())

    def test_what_cannot_be_checked_is_said(self) -> None:
        assert not_checked([], {}).startswith("Nothing was named in must_not_reach: whether this host reaches")
        assert "snapshot's 31 leases may be of, only db:1 was tried" in not_checked(["db:1"], {"sys/expire": 31})


ENVIRON = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s", "VAULT_SEAL_TYPE": "awskms", "VAULT_LICENSE_PATH": "/l"}


def test_what_the_nodes_get() -> None:
    assert job.node_environment(ENVIRON) == {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s", "VAULT_LICENSE_PATH": "/l"}
    assert job.bare_environment(ENVIRON) == {"PATH": "/bin", "VAULT_LICENSE_PATH": "/l"}


# ---- the folder


def test_a_folder_is_private_and_goes(tmp_path: Path) -> None:
    with node.scratch_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "data").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_it_goes(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit), node.scratch_folder(tmp_path):
        signal.raise_signal(number)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_what_a_killed_run_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left, used = tmp_path / f"{node.PREFIX}left", tmp_path / f"{node.PREFIX}used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "lock").touch()
    with (used / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with node.scratch_folder(tmp_path):
            assert (left.exists(), used.exists()) == (False, True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Cannot work in"), node.scratch_folder(tmp_path / "nowhere"):
        pass


# ---- a node


def scratch(tmp_path: Path, script: str, timeout: float = 30.0, **more: Any) -> node.ScratchNode:
    program = tmp_path / "vault"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return node.ScratchNode(tmp_path / "node", str(program), {"PATH": os.environ["PATH"]}, timeout, **more)


def test_vault_that_ends_is_told_with_its_errors(tmp_path: Path) -> None:
    wanted = r"node ended. Its log ends with: \[ERROR\] core: no seal$"
    one = scratch(tmp_path, "echo '[INFO] up'; echo '[ERROR] core: no seal'; exit 1")
    with pytest.raises(EscrowError, match=wanted), one:
        one.start({})
    assert not (tmp_path / "node").exists()


def test_vault_that_hangs_is_killed(tmp_path: Path) -> None:
    with scratch(tmp_path, "echo $$ > ../pid; exec sleep 60", 3.0) as one:
        with pytest.raises(EscrowError, match=r"did not answer within 3 s"):
            one.start({"awskms": {"secret_key": "s"}})
        assert (tmp_path / "node" / "vault.json").stat().st_mode & 0o777 == 0o600
        pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_vault_that_is_not_there(tmp_path: Path) -> None:
    one = node.ScratchNode(tmp_path / "node", "no-such-vault", {}, 1.0)
    with one, pytest.raises(EscrowError, match=r"Cannot run no-such-vault: .*vault_binary"):
        one.start({})


# ---- a run, up to the first Vault


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "prod-20261124T020000Z.snap"
    file.write_bytes(archive())
    return file


def request(source: Path, **changed: Any) -> job.Request:
    given: dict[str, Any] = {
        "source": source,
        "shares": ["share"],
        "seal": {"awskms": {}},
        "stores": [open_store({"type": "filesystem", "path": str(source.parent / "escrow")})],
        "canaries": [],
        "must_not_reach": [],
        "binary": "no-such-vault",
        "work_directory": source.parent,
        "timeout": 1.0,
    }
    return job.Request(**{**given, **changed})


def test_a_look_starts_nothing(source: Path) -> None:
    result = job.run(request(source), {}, only_looks=True)
    assert result["changed"] is True
    with pytest.raises(EscrowError, match="Restore the snapshot on a throwaway node: Cannot run no-such-vault"):
        job.run(request(source), {})
    assert [file.name for file in source.parent.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("seal_type", "why"), [("shamir", "unseal keys do without a KMS"), ("gcpckms", "was sealed with 'gcpckms'")]
)
def test_a_snapshot_of_another_seal(source: Path, seal_type: str, why: str) -> None:
    sha256 = job.describe(source)["sha256"]
    write_json(manifest_path(source), {"sha256": sha256, "seal_type": seal_type})
    with pytest.raises(EscrowError, match=why):
        job.run(request(source), {})


def test_a_seal_that_an_older_vault_has_not_told(source: Path) -> None:
    manifest = {"sha256": job.describe(source)["sha256"], "seal_type": "shamir", "vault_version": "1.14.10"}
    write_json(manifest_path(source), manifest)
    assert job.run(request(source), {}, only_looks=True)["changed"] is True


def test_a_damaged_snapshot(source: Path) -> None:
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(SnapshotError):
        job.run(request(source), {})


def test_one_that_is_there_is_kept_while_it_reads_back(source: Path) -> None:
    facts = job.describe(source)
    wanted, made = request(source), source.parent / "made"
    made.write_bytes(archive())
    manifest = {"name": source.name, "sha256": facts["sha256"], "escrow_of": {"sha256": facts["sha256"]}}
    job._keep(made, wanted.stores[0], manifest)
    kept = job.run(wanted, {})
    assert (kept["changed"], kept["name"], kept["stores"]) == (False, source.name, [str(source.parent / "escrow")])
    file = source.parent / "escrow" / source.name
    # One without a manifest was never read back, and is replaced; a damaged one is the operator's to remove.
    manifest_path(file).unlink()
    job._keep(made, wanted.stores[0], manifest)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StoreError, match="is damaged: remove it"):
        job.run(wanted, {})
