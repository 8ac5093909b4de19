# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/recover-vault.yml brings real clusters back, as an on-call engineer runs it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from lab import Lab
from lab.binaries import server
from lab.playbook import FORKED_VAULT_MODULES, RESTART, RESTART_STANDBYS, Finished, Origin, accessors, make_origin

STEPS = [
    "Choose the snapshot",
    "Preflight",
    "Begin to initialize",
    "Initialise a temporary cluster",
    "Begin the restore",
    "Wait for the Raft peers, restore",
    "Canaries readable at every node",
    "Dynamic canaries issued",
    "Survives the loss of a node",
]
QUICK = {"vault_recovery_redundant_timeout": 0}
"""For the tests that do not check whether the cluster is fault-tolerant again."""

SECRET_KEY = "store-secret-key"
BUCKET = "recovery"


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    """A cluster of one node, of Vault of three. OpenBao's three are recovered in test_recover_vault_faults.py."""
    origin = make_origin(lab, nodes=3 if server().product == "Vault" else 1)
    yield origin
    origin.cluster.stop()


def assert_recovered(origin: Origin) -> None:
    """Every node gives the values that the origin had, and the database engine issues credentials that work."""
    for node in origin.cluster.nodes:
        client = origin.cluster.client(node, origin.root_token)
        assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value, node.name
        assert client.read(origin.seed.canary_v1)["data"] == origin.seed.value, node.name
    client = origin.cluster.client(token=origin.root_token)
    for path in origin.seed.dynamic_canaries:
        assert client.read(path)["data"]["username"].startswith("v-")


def assert_no_token_left(origin: Origin) -> None:
    """The origin's tokens are all that there are: what the recovery logged in with or generated is revoked."""
    assert accessors(origin.cluster, origin.root_token) == list(origin.accessors)


# ---- a cluster is lost with everything that was on it, and the newest snapshot in the store is damaged


@pytest.fixture(scope="module")
def store(lab: Lab, origin: Origin) -> dict[str, Any]:
    """Options of a bucket with the origin's snapshot, and one a minute younger that is damaged."""
    bucket, s3 = lab.moto.create_bucket(BUCKET), lab.moto.s3()
    content = origin.snapshot.read_bytes()
    manifest = json.loads(origin.snapshot.with_name(f"{origin.snapshot.name}.json").read_text())
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0xFF
    for name, body in ((origin.snapshot.name, content), (newest(origin), bytes(damaged))):
        s3.put_object(Bucket=bucket, Key=f"prod/{name}", Body=body)
        s3.put_object(Bucket=bucket, Key=f"prod/{name}.json", Body=json.dumps({**manifest, "name": name}).encode())
    return {
        "type": "s3",
        "bucket": bucket,
        "prefix": "prod",
        "region": lab.moto.region,
        "endpoint_url": lab.moto.endpoint,
        "addressing_style": "path",
        "access_key": lab.moto.access_key,
        "secret_key": SECRET_KEY,
    }


def newest(origin: Origin) -> str:
    """Return the name of the damaged snapshot."""
    taken = datetime.strptime(origin.snapshot.stem.rpartition("-")[2] + "+0000", "%Y%m%dT%H%M%SZ%z")
    return f"prod-{taken + timedelta(minutes=1):%Y%m%dT%H%M%SZ}.snap"


@dataclass
class Total:
    """A recovery from total loss, with login, as verbose as it gets, and what could be seen while it ran."""

    origin: Origin
    checked: Finished
    checked_health: list[int | None]
    checked_left: bool
    finished: Finished
    temporary: dict[str, Any]
    database_passwords: list[str]
    left_open: str
    journal: str
    log: str
    others: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def total(lab: Lab, origin: Origin, store: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Total:
    """Check, be killed in the middle of the fetch and after it, recover."""
    folder = tmp_path_factory.mktemp("total")
    if origin.seed.dynamic_canaries:
        lab.postgres.query("ALTER SYSTEM SET log_statement = 'ddl'")
        lab.postgres.query("SELECT pg_reload_conf()")
    origin.cluster.wipe_and_start()
    playbook = origin.playbook(
        folder, login=origin.seed.recovery, vault_recovery_snapshot="latest", vault_recovery_store=store
    )
    playbook.env = FORKED_VAULT_MODULES
    checked = playbook.run("--check")
    checked_health, checked_left = [node.health() for node in origin.cluster.nodes], playbook.directory.exists()

    for task in ("Fetch the snapshot from its store, verified while it arrives", "Ask every node, and decide"):
        killed = playbook.start()
        killed.wait_for_task(task)
        killed.kill_all()
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
    logged = lab.postgres.log_file.read_text() if origin.seed.dynamic_canaries else ""
    return Total(
        origin=origin,
        checked=checked,
        checked_health=checked_health,
        checked_left=checked_left,
        finished=finished,
        temporary=temporary,
        database_passwords=re.findall(r"CREATE ROLE .*? PASSWORD '([^']+)'", logged),
        left_open="".join(
            file.read_text(errors="replace")
            for file in home.rglob("*")
            if file.is_file() and file.name != "variables.json"
        ),
        journal=journal,
        log=(folder / "ansible.log").read_text(),
        others={
            file.name: file.read_text(errors="replace")
            for file in playbook.directory.iterdir()
            if file.suffix != ".snap"
        },
    )


@pytest.mark.both
def test_check_says_what_would_happen_and_does_nothing(total: Total) -> None:
    assert total.checked.rc == 0, total.checked.output
    assert "initialise a temporary cluster on the fresh nodes" in total.checked.words
    assert "of cluster prod) on the leader" in total.checked.words
    assert set(total.checked_health) == {501}
    assert not total.checked_left


@pytest.mark.both
def test_a_lost_cluster_comes_back_with_its_secrets(total: Total) -> None:
    assert total.finished.rc == 0, total.finished.output
    assert_recovered(total.origin)


def steps(total: Total) -> list[str]:
    """Return the steps that its record has."""
    skipped = () if total.origin.seed.dynamic_canaries else ("Dynamic canaries issued",)
    return [step for step in STEPS if step not in skipped]


@pytest.mark.both
def test_the_damaged_snapshot_is_passed_over_and_named(total: Total) -> None:
    record, fetched = total.finished.record, total.finished.directory / total.origin.snapshot.name
    assert record["snapshot"]["path"] == str(fetched)
    assert fetched.stat().st_mode & 0o777 == 0o600
    [rejected] = record["rejected_snapshots"]
    assert rejected["path"] == f"s3://{BUCKET}/prod/{newest(total.origin)}"
    assert "state.bin" in rejected["problem"] or "gzip" in rejected["problem"], rejected
    assert f"Not used: {rejected['path']}" in total.finished.output


@pytest.mark.both
def test_the_record_tells_what_was_done_and_how_long_it_took(total: Total) -> None:
    record = total.finished.record
    assert (record["status"], record["problem"], record["runs"]) == ("recovered", None, 3)
    # By a race of Vault's own a node can miss the restore's change of keys.
    names = [step["name"] for step in record["steps"] if step["run"] == 3]
    names = [name for name in names if name not in (RESTART, RESTART_STANDBYS)]
    assert names == steps(total)
    assert all(step["seconds"] >= 0 for step in record["steps"])
    assert record["redundant"] is True
    assert {check["name"]: check["result"] for check in record["checks"]} == {
        "every node answers": "passed",
        "every node runs the snapshot's version of Vault, or a newer one": "passed",
        "the seal is of the snapshot's type": "passed",
        "free space on every node": "passed",
        "the snapshot's origin is not alive": "passed",
        "the target may be overwritten": "passed",
        "key shares make a root token": "passed",
    }


@pytest.mark.both
def test_the_record_gives_the_times_against_the_objectives(total: Total) -> None:
    record = total.finished.record
    started = datetime.fromisoformat(record["started_at"])
    taken = datetime.fromisoformat(record["snapshot"]["taken_at"])
    assert record["rpo_seconds"] == pytest.approx((started - taken).total_seconds(), abs=0.01)
    readable = next(step for step in record["steps"] if step["name"] == steps(total)[-2])
    ended = (datetime.fromisoformat(readable["started_at"]) - started).total_seconds() + readable["seconds"]
    assert record["rto_seconds"] == pytest.approx(ended, abs=0.01)
    assert (record["rto_objective_seconds"], record["rto_met"]) == (900, True)


@pytest.mark.both
def test_the_record_names_every_secret_read_back(total: Total) -> None:
    seed, nodes = total.origin.seed, total.origin.cluster.addresses
    secrets = total.finished.record["secrets"]
    assert {(secret["path"], secret["node"]) for secret in secrets} == {
        *((path, node) for path in (seed.canary, seed.canary_v1) for node in nodes),
        *((path, nodes[0]) for path in seed.dynamic_canaries),
    }
    assert all(secret["readable"] and secret["fields"] and secret["values"] is None for secret in secrets)
    dynamic = [secret["lease_revoked"] for secret in secrets if secret["kind"] == "dynamic"]
    assert dynamic == [True] * len(seed.dynamic_canaries)


@pytest.mark.both
def test_the_record_is_private_and_is_there_for_people_too(total: Total) -> None:
    record = total.finished.record_file
    page = record.with_suffix(".md")
    assert [file.stat().st_mode & 0o777 for file in (record, page)] == [0o600, 0o600]
    assert "| Status | recovered |" in page.read_text()
    assert all(step in page.read_text() for step in steps(total))
    assert str(page) in total.finished.words


@pytest.mark.both
def test_nothing_is_left_of_the_temporary_cluster(total: Total) -> None:
    left = {file.name for file in total.finished.directory.iterdir()}
    record, snapshot = total.finished.record_file, total.origin.snapshot.name
    records = {file.name for file in total.finished.directory.glob(f"{record.stem}.*")}
    assert left == {"recovery.lock", snapshot, f"{snapshot}.json"} | records
    with pytest.raises(hvac.exceptions.Forbidden):
        total.origin.cluster.client(token=total.temporary["root_token"]).read("auth/token/lookup-self")


@pytest.mark.both
def test_no_secret_is_shown_logged_or_kept_at_any_verbosity(total: Total) -> None:
    origin, temporary = total.origin, total.temporary
    assert bool(total.database_passwords) is bool(origin.seed.dynamic_canaries), "no credentials: nothing to look for"
    secrets = [
        SECRET_KEY,
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
    assert [place for place, text in places.items() if re.search(r"\b(hv)?[sb]\.\w{20,}", text)] == []


# ---- a target that holds data (the cluster that has just been recovered)


@pytest.fixture
def serving(total: Total) -> Origin:
    """A cluster that serves, with a secret that the snapshot does not have."""
    later = {"written": "after the snapshot"}
    client = total.origin.cluster.client(token=total.origin.root_token)
    client.secrets.kv.v1.create_or_update_secret("later", later, mount_point="kv1")
    return total.origin


@pytest.mark.parametrize(("confirm", "check"), [("", ("--check",)), ("staging", ())])
def test_data_is_not_replaced_unless_the_operator_names_the_cluster(
    serving: Origin, tmp_path: Path, confirm: str, check: tuple[str, ...]
) -> None:
    playbook = serving.playbook(tmp_path, login=serving.seed.recovery, vault_recovery_confirm=confirm)
    playbook.env = FORKED_VAULT_MODULES
    finished = playbook.run(*check)
    assert finished.rc == 2, finished.output
    assert "holds the data of the cluster 'prod'" in finished.words
    assert "with that name in vault_recovery_confirm" in finished.words
    assert "vault_recovery_confirm=" not in finished.words
    assert ("(vault_recovery_confirm is 'staging')" in finished.words) is (confirm == "staging")
    for node in serving.cluster.nodes:
        client = serving.cluster.client(node, serving.root_token)
        assert client.read("kv1/later")["data"] == {"written": "after the snapshot"}
    assert_no_token_left(serving)


def assert_replaced(origin: Origin, finished: Finished) -> None:
    """Check that what was written after the snapshot is only in the safety copy, and that no token is left."""
    assert finished.rc == 0, finished.output
    assert_recovered(origin)
    assert origin.cluster.client(token=origin.root_token).read("kv1/later") is None
    assert_no_token_left(origin)
    record = finished.record
    names = [step["name"] for step in record["steps"]]
    assert names.index("Safety snapshot") < names.index("Begin the restore")
    safety, restored = verify_file(record["safety_snapshot"]), verify_file(str(origin.snapshot))
    assert Path(record["safety_snapshot"]).parent == finished.directory
    assert safety.index > restored.index
    assert sum(safety.key_counts.values()) > sum(restored.key_counts.values())


def test_data_is_replaced_when_its_name_is_given_and_after_a_safety_copy(serving: Origin, tmp_path: Path) -> None:
    playbook = serving.playbook(
        tmp_path,
        login=serving.seed.recovery,
        vault_recovery_confirm="prod",
        vault_recovery_target_token=serving.root_token,
        **QUICK,
    )
    playbook.env = FORKED_VAULT_MODULES
    assert_replaced(serving, playbook.run())


@pytest.mark.vault
def test_without_a_login_key_shares_make_the_tokens_and_wrong_ones_are_refused(serving: Origin, tmp_path: Path) -> None:
    """Of the target for the safety copy, and of what was restored for the proof."""
    wrong = [base64.b64encode(letter * 33).decode() for letter in (b"v", b"w")]
    playbook = serving.playbook(
        tmp_path,
        vault_recovery_confirm="prod",
        vault_recovery_target_key_shares=list(serving.keys[: serving.threshold]),
        **QUICK,
    )
    playbook.env = FORKED_VAULT_MODULES
    failed = playbook.run("-vvv", vault_recovery_key_shares=wrong)
    assert failed.rc == 2, failed.output
    assert "refused key share" in failed.words
    assert [share for share in wrong if share in failed.output] == []
    finished = playbook.run()
    assert_replaced(serving, finished)
    secrets = finished.record["secrets"]
    assert [secret["readable"] for secret in secrets] == [True] * 2 * len(serving.cluster.nodes)
