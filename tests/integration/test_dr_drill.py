# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/dr-drill.yml on a site of real servers: all six parts, and what happens when one goes wrong."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from lab import Lab
from lab.drill import BUCKET, DrillLab
from lab.playbook import ROOT, Playbook
from lab.processes import wait_for

SCHEMA = json.loads((ROOT / "docs/schemas/drill-record.schema.json").read_text())
INJECTED = "Stop when it was not injected"
"""The task after the one that injects."""


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[DrillLab]:
    site = DrillLab(lab)
    yield site
    site.stop()


def newest(folder: Path) -> dict[str, Any]:
    records = chain.read(folder)
    assert chain.problems(records) == []
    record = records[-1][1]
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record


def phase(record: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in record["phases"] if one["name"] == name)


def texts(record: dict[str, Any]) -> str:
    return " ".join(one["text"] for one in record["findings"])


def test_a_rehearsal_stops_nothing_and_passes(site: DrillLab, tmp_path: Path) -> None:
    run = site.playbook(dr_drill_records=str(tmp_path)).run()
    assert run.rc == 0, run.output
    record = newest(tmp_path)
    assert (record["mode"], record["outcome"], record["verdict"]) == ("rehearsal", "completed", "passed")
    assert [one["name"] for one in record["phases"]] == site.parts
    assert {one["fault"] for one in record["phases"]} == {None}
    assert [node.health() for node in site.dr.nodes] == [501, 501, 501]
    assert site.lab.receiver.arrived("emergency") == []


@pytest.mark.parametrize("part", ["logs", "certificates", "host_detection", "watchers"])
def test_killed_with_a_fault_in_force_it_is_undone_and_told(site: DrillLab, tmp_path: Path, part: str) -> None:
    if part not in site.parts:
        pytest.skip(" ".join(site.left_out))
    run = site.for_real(dr_drill_records=str(tmp_path), dr_drill_dead_man_seconds=20).start("--tags", part)
    run.wait_for_task(INJECTED)
    run.kill_all()
    url = site.variables[f"dr_drill_{part}_fault"]["commands"]["check"][-1]
    wait_for("the dead man's switch has undone it", lambda: _answers(site, url), 120)
    # Else a drill would stop for it, as for any real alert.
    wait_for("no alert of it is left", lambda: not _alerts(site, "PrometheusDown"), 300)
    again = site.playbook(dr_drill_records=str(tmp_path)).run("--tags", "alerting")
    assert again.rc == 0, again.output
    killed = chain.read(tmp_path)[0][1]
    assert (killed["outcome"], killed["verdict"]) == ("aborted", "failed")
    assert [(one["name"], one["verdict"]) for one in killed["phases"]] == [(part, "aborted")]


def _alerts(site: DrillLab, name: str) -> list[dict[str, Any]]:
    asked = requests.get(f"{site.alertmanager.url}/api/v2/alerts", {"filter": f"alertname={name}"}, timeout=30)
    asked.raise_for_status()
    found: list[dict[str, Any]] = asked.json()
    return found


def _answers(site: DrillLab, url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=2, verify=str(site.lab.authority.ca_file)).ok
        except requests.RequestException:
            return False


def test_killed_while_it_restores_the_next_one_begins_with_nothing(site: DrillLab, tmp_path: Path) -> None:
    run = site.for_real(dr_drill_records=str(tmp_path)).start("--tags", "vault")
    run.wait_for_task("Restore the snapshot on the leader, once every node that can is a Raft peer")
    run.kill_all()
    assert list(tmp_path.glob("recovery-*/*.snap"))
    # A rehearsal sees it, and leaves it to a drill; and another cluster is not emptied for it.
    assert site.playbook(dr_drill_records=str(tmp_path)).run("--tags", "vault").rc == 2
    noted, mark = (tmp_path / "dr-cluster.restored").read_text(), tmp_path / "dr-cluster.restored"
    mark.write_text("another-1 another-2\n")
    other = site.for_real(dr_drill_records=str(tmp_path)).run("--tags", "vault")
    assert "has left production's secrets on another-1 another-2, and the DR cluster is" in other.words
    mark.write_text(noted)
    again = site.for_real(dr_drill_records=str(tmp_path)).run("--tags", "vault")
    assert again.rc == 0, again.output
    outcomes = [(record["mode"], record["outcome"], record["verdict"]) for _name, record in chain.read(tmp_path)]
    assert (outcomes[0], outcomes[-1]) == (("drill", "aborted", "failed"), ("drill", "completed", "passed"))
    assert not mark.exists()
    assert list(tmp_path.glob("recovery-*/*.snap")) == []


def test_signed_by_a_key_of_vault_and_verified(site: DrillLab, tmp_path: Path) -> None:
    client, records = site.ca.client(), tmp_path / "records"
    client.sys.enable_secrets_engine("transit")
    client.secrets.transit.create_key("dr-drill", key_type="ed25519")
    signer = {
        "method": "vault_transit",
        "key": "dr-drill",
        "url": site.ca.nodes[0].address,
        "ca_cert": str(site.ca.ca_file),
        "token": site.ca.root_token,
    }
    run = site.playbook(dr_drill_records=str(records), dr_drill_signature=signer).run("--tags", "alerting", "-vvv")
    assert run.rc == 0, run.output
    assert newest(records)["signature"]["value"].startswith("vault:v1:")
    assert site.ca.root_token not in run.output
    verify = Playbook(
        {**site.variables, "dr_drill_records": str(records), "dr_drill_verify_signature": signer},
        tmp_path / "verify",
        name="playbooks/verify-drill-records.yml",
    )
    good = verify.run()
    assert good.rc == 0, good.output
    assert "1 records, all as they were" in good.words
    # Whoever has no key writes it all anew.
    (file,) = records.glob("drill-*.json")
    record = json.loads(file.read_text())
    anew = {**chain.sealed({**record, "operator": "mallory"}, None), "signature": record["signature"]}
    file.write_text(json.dumps(anew))
    bad = verify.run()
    assert bad.rc == 2
    assert f"{file.name}: its signature is not good" in bad.words
    assert verify.run(dr_drill_head="0" * 64, dr_drill_verify_signature={}).rc == 2
    # Nor does a later drill sign it for them.
    file.write_text(json.dumps({**anew, "signature": None}))
    run = site.playbook(dr_drill_records=str(records), dr_drill_signature=signer).run("--tags", "alerting")
    assert run.rc == 0, run.output
    assert f"{file.name} is not signed" in verify.run().words
    assert "There is no record of a drill" in verify.run(dr_drill_records=str(tmp_path / "another")).words


def test_a_part_that_fails_does_not_stop_the_others(site: DrillLab, tmp_path: Path) -> None:
    nowhere = {**site.variables["dr_drill_logs_secondary"], "query": '{job="another"}'}
    changed = {"dr_drill_logs_secondary": nowhere, "dr_drill_logs_objective": 2, "dr_drill_finding_owner": "bob"}
    run = site.for_real(dr_drill_records=str(tmp_path), **changed).run("--tags", "logs,alerting")
    assert run.rc == 2
    record = newest(tmp_path)
    assert (record["outcome"], record["verdict"]) == ("completed", "failed")
    assert [one["verdict"] for one in record["phases"]] == ["failed", "passed"]
    assert "is not in secondary after 2 seconds" in texts(record)
    assert record["findings"][0]["owner"] == "bob"
    assert phase(record, "logs")["fault"]["undone_by"] == "drill"
    assert "is not in secondary after 2 seconds" in run.words

    stopped = site.for_real(dr_drill_records=str(tmp_path), dr_drill_stop_on_failure=True, **changed).run(
        "--tags", "logs,alerting"
    )
    assert stopped.rc == 2
    record = newest(tmp_path)
    assert record["outcome"] == "aborted"
    assert [one["name"] for one in record["phases"]] == ["logs"]
    assert len(record["findings"]) == 1, "it is that of the drill before, for another line"


def test_a_receiver_that_never_confirms(site: DrillLab, tmp_path: Path) -> None:
    elsewhere = {"type": "webhook", "url": f"{site.lab.receiver.http}/control/nothing"}
    changed = {"dr_drill_receiver": elsewhere, "dr_drill_alerting_objective": 2}
    run = site.for_real(dr_drill_records=str(tmp_path), **changed).run("--tags", "alerting")
    assert run.rc == 2
    assert "DR_DRILL_TEST did not arrive at the webhook within 2 s" in texts(newest(tmp_path))


def test_a_fault_that_does_not_take_is_no_drill(site: DrillLab, tmp_path: Path) -> None:
    fault = site.variables["dr_drill_logs_fault"]
    tame = {**fault, "commands": {**fault["commands"], "inject": ["true"]}}
    run = site.for_real(dr_drill_records=str(tmp_path), dr_drill_logs_fault=tame, dr_drill_fault_wait=1).run(
        "--tags", "logs"
    )
    assert run.rc == 2
    assert "The fault did not take, and was undone" in texts(newest(tmp_path))


def test_the_newest_snapshot_is_damaged(site: DrillLab, tmp_path: Path) -> None:
    content = bytearray(site.snapshot.read_bytes())
    content[len(content) // 2] ^= 0xFF
    manifest = json.loads(site.snapshot.with_name(f"{site.snapshot.name}.json").read_text())
    taken = datetime.strptime(site.snapshot.stem.rpartition("-")[2] + "+0000", "%Y%m%dT%H%M%SZ%z")
    name, s3 = f"drill-prod-{taken + timedelta(minutes=1):%Y%m%dT%H%M%SZ}.snap", site.lab.moto.s3()
    s3.put_object(Bucket=BUCKET, Key=name, Body=bytes(content))
    s3.put_object(Bucket=BUCKET, Key=f"{name}.json", Body=json.dumps({**manifest, "name": name}).encode())
    try:
        run = site.for_real(dr_drill_records=str(tmp_path)).run("--tags", "vault")
    finally:
        for key in (name, f"{name}.json"):
            s3.delete_object(Bucket=BUCKET, Key=key)
    assert run.rc == 0, run.output
    record = newest(tmp_path)
    assert record["verdict"] == "passed"
    assert f"A snapshot could not be used: {name}" in texts(record)


def test_a_dr_cluster_that_is_not_isolated_gets_nothing(site: DrillLab, tmp_path: Path) -> None:
    port = int(site.alertmanager.address.rpartition(":")[2])
    changed = {"dr_drill_vault_unreachable": [{"host": "127.0.0.1", "port": port}]}
    run = site.for_real(dr_drill_records=str(tmp_path), **changed).run("--tags", "vault")
    assert run.rc == 2
    assert f"vault-dr-1 reaches 127.0.0.1:{port}" in texts(newest(tmp_path)) or "vault-dr-1 reaches" in texts(
        newest(tmp_path)
    )
    assert [node.health() for node in site.dr.nodes] == [501, 501, 501]


def test_a_dr_cluster_that_is_not_empty_is_not_touched(site: DrillLab, tmp_path: Path) -> None:
    site.dr.initialize(shares=1, threshold=1, wait_voters=False)
    try:
        run = site.for_real(dr_drill_records=str(tmp_path)).run("--tags", "vault")
        assert run.rc == 2
        assert "is initialised and holds the data of the cluster" in texts(newest(tmp_path))
        assert site.dr.nodes[0].health() == 200
    finally:
        site.dr.wipe_and_start()


def test_a_host_that_is_away_fails_its_part_alone(site: DrillLab, tmp_path: Path) -> None:
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    site.hosts["away"] = away
    try:
        fault = {**site.variables["dr_drill_logs_fault"], "host": "away"}
        run = site.for_real(dr_drill_records=str(tmp_path), dr_drill_logs_fault=fault).run("--tags", "logs,alerting")
    finally:
        del site.hosts["away"]
    assert run.rc == 2
    record = newest(tmp_path)
    assert [one["verdict"] for one in record["phases"]] == ["failed", "passed"]
    assert record["outcome"] == "completed"


def test_a_real_alert_ends_it(site: DrillLab, tmp_path: Path) -> None:
    alert = {"labels": {"alertname": "VaultDown", "severity": "critical", "for": "this test"}}
    url = f"{site.alertmanager.url}/api/v2/alerts"
    assert requests.post(url, json=[alert], timeout=5).ok
    try:
        run = site.for_real(dr_drill_records=str(tmp_path)).run("--tags", "logs,alerting")
    finally:
        ended = {**alert, "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))}
        assert requests.post(url, json=[ended], timeout=5).ok
    assert run.rc == 2
    record = newest(tmp_path)
    assert (record["outcome"], record["abort_reason"]) == ("aborted", "a real alert fires: VaultDown")
    assert [(one["name"], one["verdict"], one["fault"]) for one in record["phases"]] == [("logs", "skipped", None)]


def test_a_window_that_ends_meanwhile_ends_it(site: DrillLab, tmp_path: Path) -> None:
    ends = time.time() + 120
    window = {"begin": "2026-01-01T00:00Z", "end": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(ends))}
    run = site.for_real(dr_drill_records=str(tmp_path), dr_drill_window=window).start("--tags", "logs,alerting")
    run.wait_for_task(INJECTED)
    run.pause()
    wait_for("the window is over", lambda: time.time() >= ends // 60 * 60, 240)
    run.resume()
    assert run.finish().rc == 2
    record = newest(tmp_path)
    assert record["abort_reason"] == f"the maintenance window is over since {window['end']}"
    # The first one may have been frozen in the midst of what it measures.
    assert [one["name"] for one in record["phases"]] == ["logs", "alerting"]
    assert record["phases"][1]["verdict"] == "skipped"


def test_an_alert_that_its_own_fault_has_caused_is_waited_for(site: DrillLab, tmp_path: Path) -> None:
    run = site.for_real(dr_drill_records=str(tmp_path)).start("--tags", "logs,alerting")
    run.wait_for_task(INJECTED)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 15))
    alert = {"labels": {"alertname": "LokiNotReady", "severity": "critical"}, "endsAt": ends}
    assert requests.post(f"{site.alertmanager.url}/api/v2/alerts", json=[alert], timeout=5).ok
    finished = run.finish()
    assert finished.rc == 0, finished.output
    logs, alerting = newest(tmp_path)["phases"]
    assert (logs["verdict"], alerting["verdict"]) == ("passed", "passed")
    assert alerting["started"][:19] >= ends[:19]


def test_two_at_once_are_refused(site: DrillLab, tmp_path: Path) -> None:
    first = site.playbook(dr_drill_records=str(tmp_path)).start("--tags", "alerting")
    first.wait_for_task("Ask whether a real alert fires")
    first.pause()
    second = site.playbook(dr_drill_records=str(tmp_path)).run("--tags", "alerting")
    assert second.rc == 2
    assert f"Another drill is running: ansible-playbook with process id {first.pid}" in second.words
    first.resume()
    assert first.finish().rc == 0


@pytest.mark.parametrize(
    ("changed", "tags", "said"),
    [
        ({"dr_drill_confirm": "production"}, "logs", "This stops parts of 'lab'"),
        ({"dr_drill_window": {}}, "logs", "outside of the maintenance window"),
        ({"dr_drill_operator": ""}, "logs", "Set dr_drill_operator to the name of the operator"),
        ({"dr_drill_alertmanagers": []}, "logs", "a drill stops when a real alert fires"),
        ({"dr_drill_logs_hosts": []}, "logs", "The part logs lacks dr_drill_logs_hosts"),
        ({"dr_drill_logs_fault": {"systemd_unit": "loki"}}, "logs", "dr_drill_logs_fault needs a host, and one of"),
        ({}, "nothing", "Nothing to drill"),
    ],
)
def test_what_is_refused(site: DrillLab, tmp_path: Path, changed: dict[str, Any], tags: str, said: str) -> None:
    folder = tmp_path / "records"
    run = site.for_real(**{"dr_drill_records": str(folder), **changed}).run("--tags", tags)
    assert run.rc == 2
    assert said in run.words
    assert not folder.exists()


def test_a_changed_record_takes_no_new_drill(site: DrillLab, tmp_path: Path) -> None:
    assert site.playbook(dr_drill_records=str(tmp_path)).run("--tags", "alerting").rc == 0
    (file,) = tmp_path.glob("drill-*.json")
    file.write_text(file.read_text().replace('"alice"', '"mallory"'))
    run = site.playbook(dr_drill_records=str(tmp_path)).run("--tags", "alerting")
    assert run.rc == 2
    assert f"{file.name} was changed after it was written" in run.words


# Last: after it the alert on the primary Prometheus fires on for a while, and would end the others.
def test_a_drill_of_everything(site: DrillLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = tmp_path / "drill.prom"
    began = time.monotonic()
    hooks = {name: {"url": f"{site.lab.receiver.http}/hook-{name}"} for name in ("start", "end")}
    folder = tmp_path / "records"
    changed = {"dr_drill_metrics_file": str(metrics), "dr_drill_hooks": hooks, "dr_drill_records": str(folder)}
    run = site.for_real(**changed).run(timeout=600)
    took = time.monotonic() - began
    assert run.rc == 0, run.output
    record = newest(folder)
    assert (record["mode"], record["outcome"], record["verdict"]) == ("drill", "completed", "passed")
    assert [one["verdict"] for one in record["phases"]] == ["passed"] * len(site.parts)
    with capsys.disabled():
        measured = {one["name"]: round(one["measured"], 1) for one in record["phases"]}
        sys.stdout.write(f"\nseconds of the whole drill: {took:.0f}; measured: {measured}\n")
    faults = [one["fault"] for one in record["phases"] if one["fault"]]
    assert [fault["undone_by"] for fault in faults] == ["drill"] * len(faults)
    assert len(faults) == len(site.parts) - 2
    assert "2 of 2 reads" not in str(phase(record, "vault")["evidence"]), "every canary at every node"
    assert phase(record, "vault")["measurements"]["rpo_seconds"] > 0
    assert "renewal without the CA ended with status 1" in phase(record, "certificates")["evidence"]
    assert [node.health() for node in site.dr.nodes] == [501, 501, 501], "torn down"
    assert list(folder.glob("recovery-*/*.snap")) == [], "the copy of the snapshot is gone"
    passed = re.findall(r'^custodes_drill_last_passed_timestamp_seconds{part="(\w+)"} [1-9]', metrics.read_text(), re.M)
    assert passed == sorted(site.parts)
    assert [len(site.lab.receiver.arrived(f"hook-{name}")) for name in ("start", "end")] == [1, 1]
    secret = site.seed.recovery.secret_id
    assert secret not in run.output
    assert all(secret not in file.read_text() for file in folder.rglob("*.json"))
