# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault.yml brings real clusters back, as an on-call engineer runs it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import hvac
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from lab import Lab
from lab.playbook import RESTART, Finished, Origin, accessors, make_origin

STEPS = [
    "Choose the snapshot",
    "Preflight",
    "Initialise a temporary cluster",
    "Begin the restore",
    "Wait for the Raft peers, restore",
    "Canaries readable at every node",
    "Dynamic canaries issued",
    "Survives the loss of a node",
]
QUICK = {"vault_recovery_redundant_timeout": 0}
"""For the tests that do not ask whether the loss of a node is borne again."""


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    origin = make_origin(lab)
    yield origin
    origin.cluster.stop()


@pytest.fixture
def lost(origin: Origin) -> Origin:
    """The cluster after the disaster: fresh, empty nodes at the same addresses."""
    origin.cluster.wipe_and_start()
    return origin


def assert_recovered(origin: Origin) -> None:
    """Every node gives the values that the origin had, and the database engine issues credentials that work."""
    for node in origin.cluster.nodes:
        client = origin.cluster.client(node, origin.root_token)
        assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value, node.name
        assert client.read(origin.seed.canary_v1)["data"] == origin.seed.value, node.name
    client = origin.cluster.client(token=origin.root_token)
    assert client.read("database/creds/readonly")["data"]["username"].startswith("v-")


def assert_no_token_left(origin: Origin) -> None:
    """The origin's tokens are all that there are: what the recovery logged in with or generated is revoked."""
    assert accessors(origin.cluster, origin.root_token) == list(origin.accessors)


# ---- a cluster is lost with everything that was on it


@dataclass
class Total:
    """A recovery from total loss, with login, as verbose as it gets, and what could be seen while it ran."""

    origin: Origin
    finished: Finished
    temporary: dict[str, Any]
    database_passwords: list[str]
    left_open: str
    journal: str
    log: str
    others: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def total(lab: Lab, origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Total:
    folder = tmp_path_factory.mktemp("total")
    lab.postgres.query("ALTER SYSTEM SET log_statement = 'ddl'")
    lab.postgres.query("SELECT pg_reload_conf()")
    origin.cluster.wipe_and_start()
    playbook = origin.playbook(folder, login=origin.seed.recovery)
    playbook.env = {"ANSIBLE_LOG_PATH": str(folder / "ansible.log")}
    run = playbook.start("-vvv")
    run.wait_for_task("Restore the snapshot on the leader, once every node that can is a Raft peer")
    init_file, journal_file = playbook.directory / "init.json", playbook.directory / "journal.json"
    temporary = json.loads(init_file.read_text())
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in (init_file, journal_file)}
    assert set(modes.values()) == {"0o600"}, modes
    run.wait_for_task("Wait until the loss of a node is borne again")
    journal = journal_file.read_text()
    finished = run.finish()
    home = playbook.directory.with_name("recovery-home")
    return Total(
        origin=origin,
        finished=finished,
        temporary=temporary,
        database_passwords=re.findall(r"CREATE ROLE .*? PASSWORD '([^']+)'", lab.postgres.log_file.read_text()),
        left_open="".join(
            file.read_text(errors="replace")
            for file in home.rglob("*")
            if file.is_file() and file.name != "variables.json"
        ),
        journal=journal,
        log=(folder / "ansible.log").read_text(),
        others={file.name: file.read_text() for file in playbook.directory.iterdir()},
    )


def test_a_lost_cluster_comes_back_with_its_secrets(total: Total) -> None:
    assert total.finished.rc == 0, total.finished.output
    assert_recovered(total.origin)


def test_the_record_tells_what_was_done_and_how_long_it_took(total: Total) -> None:
    record = total.finished.record
    assert (record["status"], record["problem"], record["runs"]) == ("recovered", None, 1)
    assert record["snapshot"]["path"] == str(total.origin.snapshot)
    assert record["rejected_snapshots"] == []
    # By a race of Vault's own a node can miss the restore's change of keys.
    assert [step["name"] for step in record["steps"] if step["name"] != RESTART] == STEPS
    assert all(step["seconds"] >= 0 for step in record["steps"])
    assert record["redundant"] is True
    assert {check["name"]: check["result"] for check in record["checks"]} == {
        "every node answers": "passed",
        "every node runs the snapshot's version of Vault, or a newer one": "passed",
        "the seal is of the snapshot's type": "passed",
        "free space on every node": "passed",
        "the target may be overwritten": "passed",
    }


def test_the_record_gives_the_times_against_the_objectives(total: Total) -> None:
    record = total.finished.record
    started = datetime.fromisoformat(record["started_at"])
    taken = datetime.fromisoformat(record["snapshot"]["taken_at"])
    assert record["rpo_seconds"] == pytest.approx((started - taken).total_seconds(), abs=0.01)
    readable = next(step for step in record["steps"] if step["name"] == "Dynamic canaries issued")
    ended = (datetime.fromisoformat(readable["started_at"]) - started).total_seconds() + readable["seconds"]
    assert record["rto_seconds"] == pytest.approx(ended, abs=0.01)
    assert (record["rto_objective_seconds"], record["rto_met"]) == (900, True)


def test_the_record_names_every_secret_read_back(total: Total) -> None:
    seed, nodes = total.origin.seed, total.origin.cluster.addresses
    secrets = total.finished.record["secrets"]
    assert {(secret["path"], secret["node"]) for secret in secrets} == {
        *((path, node) for path in (seed.canary, seed.canary_v1) for node in nodes),
        ("database/creds/readonly", nodes[0]),
    }
    assert all(secret["readable"] and secret["fields"] and secret["values"] is None for secret in secrets)
    assert [secret["lease_revoked"] for secret in secrets if secret["kind"] == "dynamic"] == [True]


def test_the_record_is_private_and_is_there_for_people_too(total: Total) -> None:
    record = total.finished.record_file
    page = record.with_suffix(".md")
    assert [file.stat().st_mode & 0o777 for file in (record, page)] == [0o600, 0o600]
    assert "| Status | recovered |" in page.read_text()
    assert all(step in page.read_text() for step in STEPS)
    assert str(page) in total.finished.words


def test_nothing_is_left_of_the_temporary_cluster(total: Total) -> None:
    left = {file.name for file in total.finished.directory.iterdir()}
    record = total.finished.record_file
    assert left == {"recovery.lock", record.name, record.with_suffix(".md").name}
    with pytest.raises(hvac.exceptions.Forbidden):
        total.origin.cluster.client(token=total.temporary["root_token"]).read("auth/token/lookup-self")


def test_no_secret_is_shown_logged_or_kept_at_any_verbosity(total: Total) -> None:
    origin, temporary = total.origin, total.temporary
    assert total.database_passwords, "no credentials were issued: nothing to look for"
    secrets = [
        origin.root_token,
        *origin.keys,
        origin.seed.recovery.secret_id,
        *origin.seed.value.values(),
        temporary["root_token"],
        *temporary["recovery_keys_b64"],
        *total.database_passwords,
    ]
    places = {
        "output": total.finished.output,
        "ansible.log": total.log,
        "journal": total.journal,
        "files of Ansible": total.left_open,
        **total.others,
    }
    found = [(place, number) for place, text in places.items() for number, one in enumerate(secrets) if one in text]
    assert found == []
    # Nor a token that nobody here knows of.
    assert [place for place, text in places.items() if re.search(r"\bhv[sb]\.\w{8,}", text)] == []


# ---- a target that holds data (the cluster that has just been recovered)


def _write_later(origin: Origin) -> dict[str, str]:
    later = {"written": "after the snapshot"}
    origin.cluster.client(token=origin.root_token).secrets.kv.v1.create_or_update_secret(
        "later", later, mount_point="kv1"
    )
    return later


@pytest.fixture(scope="module")
def serving(total: Total, lab: Lab) -> Origin:
    """A cluster that serves, with a secret that the snapshot does not have."""
    _write_later(total.origin)
    return total.origin


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "check"])
@pytest.mark.parametrize("confirm", ["", "staging"], ids=["not confirmed", "another confirmed"])
def test_data_is_not_replaced_unasked(serving: Origin, tmp_path: Path, confirm: str, check: tuple[str, ...]) -> None:
    playbook = serving.playbook(tmp_path, login=serving.seed.recovery, vault_recovery_confirm=confirm)
    finished = playbook.run(*check)
    assert finished.rc == 2, finished.output
    assert "holds the data of the cluster 'prod'" in finished.words
    assert "-e vault_recovery_confirm=prod" in finished.words
    assert ("(vault_recovery_confirm is 'staging')" in finished.words) is (confirm == "staging")
    for node in serving.cluster.nodes:
        client = serving.cluster.client(node, serving.root_token)
        assert client.read("kv1/later")["data"] == {"written": "after the snapshot"}
    assert_no_token_left(serving)


def test_data_is_replaced_when_its_name_is_given_and_after_a_safety_copy(serving: Origin, tmp_path: Path) -> None:
    playbook = serving.playbook(tmp_path, login=serving.seed.recovery, vault_recovery_confirm="prod", **QUICK)
    finished = playbook.run()
    assert finished.rc == 0, finished.output
    assert_recovered(serving)
    assert serving.cluster.client(token=serving.root_token).read("kv1/later") is None
    assert_no_token_left(serving)

    record = finished.record
    steps = [step["name"] for step in record["steps"]]
    assert steps.index("Safety snapshot") < steps.index("Begin the restore")
    safety, restored = verify_file(record["safety_snapshot"]), verify_file(str(serving.snapshot))
    assert Path(record["safety_snapshot"]).parent == playbook.directory
    assert safety.index > restored.index
    assert sum(safety.key_counts.values()) > sum(restored.key_counts.values())


# ---- without a login, and with a snapshot that cannot be used


def test_without_a_login_the_key_shares_make_a_token_that_is_revoked(lost: Origin, tmp_path: Path) -> None:
    finished = lost.playbook(tmp_path, **QUICK).run()
    assert finished.rc == 0, finished.output
    assert_recovered(lost)
    assert_no_token_left(lost)
    assert [secret["readable"] for secret in finished.record["secrets"]] == [True] * 7


@pytest.fixture
def corrupted(lost: Origin, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of two snapshots, the newer one damaged, and that one."""
    folder = tmp_path / "snapshots"
    folder.mkdir()
    shutil.copy2(lost.snapshot, folder)
    damaged = folder / "prod-29991231T235959Z.snap"
    data = bytearray(lost.snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    return folder, damaged


def test_a_damaged_snapshot_is_passed_over_and_named(
    lost: Origin, corrupted: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, damaged = corrupted
    playbook = lost.playbook(tmp_path, login=lost.seed.recovery, vault_recovery_snapshot=str(folder), **QUICK)

    refused = playbook.run(vault_recovery_snapshot_candidates=1)
    assert refused.rc == 2, refused.output
    assert str(damaged) in refused.words
    assert "raise candidates (vault_recovery_snapshot_candidates)" in refused.words
    assert [node.health() for node in lost.cluster.nodes] == [501, 501, 501]

    finished = playbook.run()
    assert finished.rc == 0, finished.output
    assert_recovered(lost)
    record = finished.record
    assert record["snapshot"]["path"] == str(folder / lost.snapshot.name)
    [rejected] = record["rejected_snapshots"]
    assert rejected["path"] == str(damaged)
    assert "state.bin" in rejected["problem"] or "gzip" in rejected["problem"], rejected


# ---- Shamir


@pytest.fixture(scope="module")
def shamir(lab: Lab) -> Iterator[Origin]:
    origin = make_origin(lab, "shamir", awskms=False)
    yield origin
    origin.cluster.stop()


@pytest.mark.parametrize("given", [2, 3])
def test_a_shamir_cluster_is_unsealed_by_the_shares_of_its_origin(shamir: Origin, tmp_path: Path, given: int) -> None:
    shamir.cluster.wipe_and_start()
    playbook = shamir.playbook(
        tmp_path, login=shamir.seed.recovery, vault_recovery_key_shares=list(shamir.keys[:given]), **QUICK
    )
    finished = playbook.run()
    assert finished.rc == 0, finished.output
    assert_recovered(shamir)
    assert_no_token_left(shamir)
