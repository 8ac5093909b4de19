# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""step-ca for real: what it tells, a certificate by a one-time token, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import parsed, request_for, told
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.step_ca import StepCa
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.chain import Bundle, judge
from integration.run_ansible import Ansible, task
from lab.step_ca import PROVISIONER, StepCaServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepCaServer]:
    server = StepCaServer(tmp_path_factory.mktemp("step-ca"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def ours(server: StepCaServer) -> StepCa:
    return StepCa(server.url, str(server.root_file))


def test_what_it_tells(server: StepCaServer, ours: StepCa) -> None:
    ours.health()
    assert ours.roots() == [server.root_file.read_text()]
    assert len(ours.intermediates()) == 1
    assert [(one["type"], one["name"]) for one in ours.provisioners()] == [("JWK", PROVISIONER)]


def test_it_issues_and_each_time_another_serial(server: StepCaServer, ours: StepCa) -> None:
    bundle = Bundle(server.root_file.read_bytes(), str(server.root_file))
    serials = set()
    for _number in range(2):
        name = "drill.example.com"
        chain = ours.sign(name, request_for(name), PROVISIONER, server.password, "5m")
        verdict = judge([parsed(one, "step-ca") for one in chain], bundle, name)
        assert (verdict.why, verdict.host_matches) == ("", True)
        assert verdict.days_left < 0.01
        serials.add(told(chain[0], "step-ca")["serial"])
    assert len(serials) == 2


def test_what_it_refuses(server: StepCaServer, ours: StepCa, tmp_path: Path) -> None:
    name = "drill.example.com"
    with pytest.raises(CaError, match="does not open"):
        ours.sign(name, request_for(name), PROVISIONER, "wrong")
    with pytest.raises(CaError, match=rf"no JWK provisioner 'other'. It has: {PROVISIONER} \(JWK\)"):
        ours.sign(name, request_for(name), "other", server.password)
    with pytest.raises(CaError, match="answered with 40"):
        ours.sign(name, request_for("somebody-else.example.com"), PROVISIONER, server.password)
    other = StepCaServer(tmp_path / "other")
    with pytest.raises(CaError, match="Is ca_cert its root"):
        StepCa(server.url, str(other.root_file)).health()
    with pytest.raises(CaError, match="Does it run"):
        StepCa("https://127.0.0.1:1").health()


def test_the_modules(server: StepCaServer, ansible: Ansible) -> None:
    ansible.secrets.append(server.password)
    reach = {"provider": "step_ca", "url": server.url, "ca_cert": str(server.root_file)}
    issue = {"name": "drill.example.com", "provisioner": PROVISIONER, "provisioner_password": server.password}
    info, first, second, bad = ansible.run(
        [
            task("ca_issuer_info", **reach),
            task("ca_issue_probe", **reach, **issue, ttl="5m"),
            task("ca_issue_probe", **reach, **issue),
            task("ca_issue_probe", **reach, **{**issue, "provisioner_password": "wrong-one"}),
        ]
    )
    assert [one["state"] for one in info["issuers"]] == ["trusted", "active"]
    assert first["changed"]
    assert first["serial"] != second["serial"]
    assert first["issuer_fingerprints"] == [info["issuers"][1]["fingerprint_sha256"]]
    assert "does not open" in bad["msg"]
