# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Vault whose KMS is gone for good comes back from its escrow snapshot, with the recovery keys alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.binaries import vault_binary
from lab.playbook import Origin, Playbook, make_origin, take_snapshot
from lab.processes import free_port, wait_for

# OpenBao takes no audit device by its API, and makes no root token of key shares.
pytestmark = pytest.mark.vault

SECRET_KEY = "lab-secret-key"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of this file's own: its KMS dies."""
    with Lab() as running:
        yield running


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    origin = make_origin(lab, nodes=1)
    # It comes up in every restored copy, too.
    client = origin.cluster.client(token=origin.root_token)
    client.sys.enable_audit_device("file", options={"file_path": str(lab.folder / "audit.log")})
    snapshot = take_snapshot(origin.cluster, lab.folder / "audited")
    yield replace(origin, snapshot=snapshot)
    origin.cluster.stop()


@pytest.fixture
def options(lab: Lab, origin: Origin, tmp_path: Path) -> dict[str, Any]:
    """Of the module, for this origin."""
    for name in ("escrow", "work"):
        (tmp_path / name).mkdir()
    return {
        "snapshot": str(origin.snapshot),
        "key_shares": list(origin.keys[: origin.threshold]),
        "seal_options": seal(lab),
        "seal_credentials": {"access_key": lab.moto.access_key, "secret_key": SECRET_KEY},
        "stores": [{"type": "filesystem", "path": str(tmp_path / "escrow")}],
        "work_directory": str(tmp_path / "work"),
        "canaries": [origin.seed.canary, origin.seed.canary_v1],
        "vault_binary": str(vault_binary()),
    }


def seal(lab: Lab) -> dict[str, str]:
    """The parameters of the origin's seal stanza."""
    return {"region": lab.moto.region, "endpoint": lab.moto.endpoint, "kms_key_id": lab.moto.key_id}


def vaults_of(work: str) -> list[int]:
    """Vault processes whose configuration lies under this folder."""
    return [
        int(file.parent.name)
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if b"vault" in (line := _read(file)) and work.encode() in line and b"server" in line.split(b"\0")
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def assert_nothing_left(options: dict[str, Any], kept: int = 0) -> None:
    """No process, no data of the throwaway nodes; `kept` files of an escrow snapshot."""
    assert vaults_of(options["work_directory"]) == []
    assert list(Path(options["work_directory"]).iterdir()) == []
    assert len(list(Path(options["stores"][0]["path"]).iterdir())) == kept


def test_it_is_refused_where_a_database_is_reached(lab: Lab, options: dict[str, Any], ansible: Ansible) -> None:
    reached = lab.moto.endpoint.removeprefix("http://")
    results = ansible.run(
        [
            task("vault_escrow_snapshot", check=check, **options, must_not_reach=[f"127.0.0.1:{free_port()}", reached])
            for check in (True, False)
        ]
    )
    for result in results:
        assert f"This host reaches {reached}: " in result["msg"]
    assert_nothing_left(options)


def test_too_few_key_shares_make_none(origin: Origin, options: dict[str, Any], ansible: Ansible) -> None:
    result = ansible.one("vault_escrow_snapshot", **{**options, "key_shares": list(origin.keys[:1])})
    assert result["msg"].startswith("Migrate its seal to Shamir's: 1 key shares were given, 2 are needed.")
    assert_nothing_left(options)


def test_a_canary_that_is_not_there_makes_none(options: dict[str, Any], ansible: Ansible) -> None:
    result = ansible.one("vault_escrow_snapshot", **{**options, "canaries": ["secret/nowhere"]})
    assert "not every canary is in it: There is nothing at secret/nowhere" in result["msg"]
    assert_nothing_left(options)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_killed_run_leaves_no_vault_and_the_next_one_no_data(
    lab: Lab, origin: Origin, options: dict[str, Any], ansible: Ansible, tmp_path: Path, number: str
) -> None:
    run = playbook(lab, origin, options).start()
    wait_for("a throwaway node holds restored data", lambda: bool(vaults_of(options["work_directory"])))
    [vault] = vaults_of(options["work_directory"])
    module = int(Path(f"/proc/{vault}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(module, signal.Signals[number])
    assert run.finish().rc != 0
    assert vaults_of(options["work_directory"]) == []
    left = list(Path(options["work_directory"]).iterdir())
    assert len(left) == (number == "SIGKILL")
    result = ansible.one("vault_escrow_snapshot", **{**options, "key_shares": list(origin.keys[:1])})
    assert "2 are needed" in result["msg"]
    assert_nothing_left(options)


def playbook(lab: Lab, origin: Origin, options: dict[str, Any]) -> Playbook:
    """The runbook, as an operator starts it."""
    return Playbook(
        {
            "vault_escrow_snapshot": str(origin.snapshots),
            "vault_escrow_key_shares": options["key_shares"],
            "vault_escrow_seal": options["seal_options"],
            "vault_escrow_seal_credentials": options["seal_credentials"],
            "vault_escrow_canaries": options["canaries"],
            "vault_escrow_stores": options["stores"],
            "vault_escrow_work_directory": options["work_directory"],
            "vault_escrow_binary": options["vault_binary"],
        },
        Path(options["work_directory"]).with_name("run"),
        name="playbooks/escrow-vault-snapshot.yml",
    )


def test_a_cluster_comes_back_with_its_kms_gone(
    lab: Lab, origin: Origin, options: dict[str, Any], ansible: Ansible, tmp_path: Path
) -> None:
    escrow = Path(options["stores"][0]["path"])
    made = playbook(lab, origin, options).run("-vvv")
    assert made.rc == 0, made.output
    assert [word for word in (*options["key_shares"], SECRET_KEY) if word in made.output] == []
    assert_nothing_left(options, kept=2)
    assert "whether this host reaches other systems" in made.words

    # The time is that of the data, the name says what it is; nothing is made twice.
    [snapshot] = escrow.glob("*.snap")
    manifest = json.loads(snapshot.with_name(f"{snapshot.name}.json").read_text())
    source = json.loads(origin.snapshot.with_name(f"{origin.snapshot.name}.json").read_text())
    assert snapshot.name == origin.snapshot.name.replace(f"{origin.cluster.name}-", f"{origin.cluster.name}-escrow-")
    assert manifest["taken_at"] == source["taken_at"]
    assert (manifest["seal_type"], source["seal_type"]) == ("shamir", "awskms")
    assert manifest["escrow_of"] == {name: source[name] for name in ("sha256", "index")}
    checked, again = ansible.run([task("vault_escrow_snapshot", check=check, **options) for check in (True, False)])
    assert [checked["changed"], again["changed"], again["name"]] == [False, False, snapshot.name]

    # The disaster: every node, and the KMS.
    origin.cluster.stop()
    lab.moto.kill()
    shamir = lab.cluster("shamir", awskms=False)

    # A folder with both kinds; the other one is newer.
    shutil.copy2(origin.snapshot, escrow / "prod-29991231T235959Z.snap")
    (escrow / "prod-29991231T235959Z.snap.json").write_text(json.dumps(source))
    recovery = Playbook(
        {
            "vault_recovery_snapshot": str(escrow),
            "vault_recovery_seal": "shamir",
            "vault_recovery_directory": str(tmp_path / "recovery"),
            "vault_recovery_key_shares": options["key_shares"],
            "vault_recovery_canaries": options["canaries"],
            "vault_recovery_redundant_timeout": 0,
        },
        tmp_path / "recovery",
        lab.inventory(shamir),
    )
    refused = recovery.run(vault_recovery_seal="")
    assert refused.rc != 0
    assert "restore an escrow snapshot instead (vault_recovery_seal=shamir)" in refused.words
    done = recovery.run()
    assert done.rc == 0, done.output
    assert done.record["snapshot"]["path"] == str(snapshot)
    for node in shamir.nodes:
        client = shamir.client(node, origin.root_token)
        assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value
    # The token that took the escrow snapshot is in it, and dies by itself.
    client = shamir.client(token=origin.root_token)
    accessors = client.list("auth/token/accessors")["data"]["keys"]
    [extra] = set(accessors) - set(origin.accessors)
    told = client.write("auth/token/lookup-accessor", accessor=extra)["data"]
    assert 0 < told["ttl"] <= 3600
