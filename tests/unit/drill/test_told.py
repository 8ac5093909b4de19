# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the results of a part come to."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.custodes.security_dr.plugins.filter.resolved import resolved
from ansible_collections.custodes.security_dr.plugins.filter.vault_ports import vault_ports
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import told

RECOVERY = {
    "rto_seconds": 14.2,
    "rpo_seconds": 3600.0,
    "snapshot": {"path": "/x/prod-b.snap", "taken_at": "2026-11-27T08:00:00+00:00", "sha256": "ab"},
    "secrets": [{"readable": True}, {"readable": False}],
    "rejected_snapshots": [{"path": "s3/prod-c.snap", "problem": "SHA256SUMS do not match."}],
}


def test_vault() -> None:
    shown = told.vault(RECOVERY, "/x/recovery-1.json", 6)
    assert shown["measured"] == 14.2
    assert shown["measurements"] == {"rto_seconds": 14.2, "rpo_seconds": 3600.0}
    assert shown["evidence"][:2] == [
        "snapshot prod-b.snap of 2026-11-27T08:00:00+00:00, SHA-256 ab",
        "1 of 2 reads of canaries succeeded",
    ]
    assert shown["findings"] == ["A snapshot could not be used: prod-c.snap: SHA256SUMS do not match."]


def test_vault_without_a_known_age() -> None:
    assert told.vault({**RECOVERY, "rpo_seconds": None}, "r", 1)["measurements"] == {"rto_seconds": 14.2}


def test_logs_take_as_long_as_the_last_line() -> None:
    markers = [{"item": "app-1", "marker": "m1"}, {"item": "app-2", "marker": "m2"}]
    seen = [{"backends": {"two": {"age": 1.5}}}, {"backends": {"two": {"age": 0.0}}}]
    shown = told.logs(markers, seen, "two")
    assert shown["measured"] == 1.5
    assert shown["evidence"] == ["app-1: m1 in two after 1.5 s", "app-2: m2 in two after 0 s"]


def test_certificates() -> None:
    shown = told.certificates(
        [{"serial": "1"}, {"serial": "2"}],
        {"rc": 1},
        [{"serial": "1"}, {"serial": "3"}],
        2.5,
    )
    assert shown["measured"] == 2.5
    assert shown["evidence"][2] == "new serial 3"


def test_alert() -> None:
    arrived = {"arrived_at": 45.25, "alert_id": "Q1"}
    assert told.alert(5.0, arrived, "PrometheusDown") == {"measured": 40.25, "evidence": ["PrometheusDown: Q1"]}


def test_vault_ports() -> None:
    found = vault_ports(["https://a:8200", "https://[::1]:9", "https://b"])
    assert [(one["host"], one["port"]) for one in found] == [
        ("a", 8200),
        ("a", 8201),
        ("::1", 9),
        ("::1", 10),
        ("b", 8200),
        ("b", 8201),
    ]
    with pytest.raises(AnsibleFilterError, match="is no address of Vault"):
        vault_ports(["a:8200"])


def test_names_are_tried_by_their_addresses_too() -> None:
    found = resolved([{"host": "localhost", "port": 1}, {"host": "192.0.2.7", "port": 2}])
    assert {"host": "localhost", "port": 1, "address": "localhost"} in found
    assert {"host": "localhost", "port": 1, "address": "127.0.0.1"} in found
    assert [one["address"] for one in found if one["port"] == 2] == ["192.0.2.7"]
    with pytest.raises(AnsibleFilterError, match=r"no-such-host\.invalid is not resolved here"):
        resolved([{"host": "no-such-host.invalid", "port": 1}])
