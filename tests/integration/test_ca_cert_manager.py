# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert-manager's Certificates are issued anew, one after the other; Kubernetes is a file here, by a stand-in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ansible_collections.custodes.security_dr as collection
from lab.playbook import Finished, Playbook

STAND_IN = Path(__file__).with_name("ca") / "collections"


def certificate(name: str, *, never: bool = False) -> list[dict[str, Any]]:
    """A Certificate with its Secret, which comes back when it is removed, unless never."""
    where = {"namespace": "web", "never": never}
    spec = {"secretName": f"{name}-tls"}
    return [
        {**where, "api_version": "cert-manager.io/v1", "kind": "Certificate", "name": name, "spec": spec},
        {**where, "api_version": "v1", "kind": "Secret", "name": f"{name}-tls", "data": {"tls.crt": name}},
    ]


def run(folder: Path, *wanted: str, rows: list[dict[str, Any]]) -> tuple[Finished, dict[str, str]]:
    file = folder / "kubernetes.json"
    file.write_text(json.dumps(rows))
    one = {"name": "custodes.security_dr.ca_rotation", "tasks_from": "cert_manager"}
    task = {"name": "One", "ansible.builtin.include_role": one, "loop": "{{ ca_rotation_cert_manager }}"}
    play = folder / "play.json"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    names = [{"namespace": "web", "name": name} for name in wanted]
    paths = [str(Path(next(iter(collection.__path__))).parents[2]), str(STAND_IN)]
    env = {"ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(paths), "LAB_KUBERNETES": str(file)}
    variables = {
        "ca_rotation_cert_manager": names,
        "ca_rotation_wait": 4,
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    finished = Playbook(variables, folder / "run", None, str(play), env).run("-vvv")
    left = json.loads(file.read_text())
    return finished, {row["name"]: row["data"]["tls.crt"] for row in left if row["kind"] == "Secret"}


def test_each_is_issued_anew(tmp_path: Path) -> None:
    rows = [*certificate("a"), *certificate("b"), *certificate("other")]
    finished, secrets = run(tmp_path, "a", "b", rows=rows)
    assert finished.rc == 0, finished.output
    assert secrets == {"a-tls": "a-again", "b-tls": "b-again", "other-tls": "other"}
    assert "a-again" not in finished.output


def test_one_that_does_not_come_back_stops_it(tmp_path: Path) -> None:
    finished, secrets = run(tmp_path, "a", "b", rows=[*certificate("a", never=True), *certificate("b")])
    assert finished.rc != 0
    assert secrets["b-tls"] == "b"


def test_one_that_is_not_there(tmp_path: Path) -> None:
    finished, secrets = run(tmp_path, "none", rows=certificate("a"))
    assert "There is no Certificate web/none" in finished.words
    assert secrets == {"a-tls": "a"}
