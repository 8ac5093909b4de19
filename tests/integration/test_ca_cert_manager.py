# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert-manager's Certificates are issued anew, one after the other; Kubernetes is a file here, by a stand-in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ansible_collections.custodes.security_dr as collection
from lab.playbook import FORKED_MODULES, Finished, Playbook

STAND_IN = Path(__file__).with_name("ca") / "collections"


def certificate(name: str, *, never: bool = False) -> list[dict[str, Any]]:
    """A Certificate with its Secret, which is issued anew when it is removed, unless never."""
    status = {"revision": 1, "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"secretName": f"{name}-tls"}
    key = {"api_version": "cert-manager.io/v1", "kind": "Certificate", "namespace": "web", "name": name}
    secret = {"api_version": "v1", "kind": "Secret", "namespace": "web", "name": f"{name}-tls"}
    return [{**key, "spec": spec, "status": status}, {**secret, "gone": False, "never": never}]


def run(
    folder: Path, *wanted: str, rows: list[dict[str, Any]], root: str = "root-1", problems: Sequence[str] = ()
) -> tuple[Finished, dict[str, int]]:
    file = folder / "kubernetes.json"
    file.write_text(json.dumps(rows))
    one = {"name": "custodes.security_dr.ca_rotation", "tasks_from": "cert_manager"}
    task = {"name": "One", "ansible.builtin.include_role": one, "loop": "{{ ca_rotation_cert_manager }}"}
    play = folder / "play.json"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    names = [{"namespace": "web", "name": name} for name in wanted]
    paths = [str(Path(next(iter(collection.__path__))).parents[2]), str(STAND_IN)]
    env = {**FORKED_MODULES, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(paths), "LAB_KUBERNETES": str(file)}
    variables = {
        "ca_rotation_cert_manager": names,
        # As -e gives it.
        "ca_rotation_wait": "4",
        "ca_rotation_directory": str(folder),
        "__ca_rotation_roots": {"new": root},
        "__ca_rotation_survey": {"problems": problems},
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    finished = Playbook(variables, folder / "run", None, str(play), env).run("-vvv")
    left = json.loads(file.read_text())
    return finished, {row["name"]: row["status"]["revision"] for row in left if row["kind"] == "Certificate"}


def test_each_is_issued_once_for_a_root_unless_a_server_says_that_it_was_not(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"rows": certificate("a")}
    # Killed before the second one.
    assert run(tmp_path, "a", **kept)[1] == {"a": 2}
    kept["rows"] = [*certificate("a"), *certificate("b"), *certificate("other")]
    finished, revisions = run(tmp_path, "a", "b", **kept)
    assert finished.rc == 0, finished.output
    assert revisions == {"a": 1, "b": 2, "other": 1}
    problems = ["a:443: It leads to the old root."]
    assert run(tmp_path, "a", "b", **kept, problems=problems)[1] == {"a": 2, "b": 2, "other": 1}
    assert run(tmp_path, "a", "b", **kept, root="root-2")[1] == {"a": 2, "b": 2, "other": 1}


def test_one_that_does_not_come_back_stops_it(tmp_path: Path) -> None:
    finished, revisions = run(tmp_path, "a", "b", rows=[*certificate("a", never=True), *certificate("b")])
    assert finished.rc != 0
    assert revisions == {"a": 1, "b": 1}


def test_one_that_is_not_there(tmp_path: Path) -> None:
    finished, revisions = run(tmp_path, "none", rows=certificate("a"))
    assert "There is no Certificate web/none" in finished.words
    assert revisions == {"a": 1}
