# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role trust_store and a ConfigMap. In place of Kubernetes two modules of kubernetes.core's names keep a file.

What it does on a host is in molecule/trust_store.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ansible_collections.custodes.security_dr as collection
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.roots import certificates
from lab.cases import refusals
from lab.pki import Authority
from lab.playbook import FORKED_MODULES, Finished, Playbook

# The documented shapes: k8s_info gives `resources`; k8s takes `definition` and `state`, and tells `changed`.
_MODULES = {
    "k8s_info": """
spec = {name: {"type": "str"} for name in ("api_version", "kind", "name", "namespace")}
module = AnsibleModule(spec, supports_check_mode=True)
now = json.loads(FILE.read_text())
same = [one for one in now if [one["metadata"][key] for key in ("name", "namespace")] == [
    module.params[key] for key in ("name", "namespace")]]
module.exit_json(changed=False, resources=same)
""",
    "k8s": """
spec = {"definition": {"type": "dict"}, "state": {"type": "str"}}
module = AnsibleModule(spec, supports_check_mode=True)
wanted = [module.params["definition"]] if module.params["state"] == "present" else []
changed = json.loads(FILE.read_text()) != wanted
if changed and not module.check_mode:
    FILE.write_text(json.dumps(wanted))
module.exit_json(changed=changed)
""",
}
_PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["custodes.security_dr.trust_store"]}]


@dataclass
class Site:
    cluster: Path
    bundle: Path
    playbook: Playbook

    def converge(self, *arguments: str, **variables: Any) -> Finished:
        return self.playbook.run(*arguments, timeout=120, **variables)

    @property
    def map(self) -> dict[str, str]:
        """What the ConfigMap holds; nothing where there is none."""
        found: list[dict[str, Any]] = json.loads(self.cluster.read_text())
        data: dict[str, str] = found[0]["data"] if found else {}
        return data


@pytest.fixture
def site(tmp_path: Path) -> Site:
    cluster, bundle = tmp_path / "cluster.json", tmp_path / "app.pem"
    cluster.write_text("[]")
    folder = tmp_path / "collections/ansible_collections/kubernetes/core/plugins/modules"
    folder.mkdir(parents=True)
    for name, text in _MODULES.items():
        head = "import json\nfrom pathlib import Path\nfrom ansible.module_utils.basic import AnsibleModule\n"
        (folder / f"{name}.py").write_text(f"#!/usr/bin/python\n{head}FILE = Path({str(cluster)!r})\n{text}")
    (tmp_path / "play.json").write_text(json.dumps(_PLAY))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "inventory.json").write_text(json.dumps({"apps": {"hosts": {"app-1": host, "app-2": host}}}))
    variables = {
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "trust_store_system": False,
        "trust_store_bundles": [{"path": f"{bundle}-{{{{ inventory_hostname }}}}"}],
        "trust_store_configmap": {"name": "internal-ca", "namespace": "app"},
    }
    ours = Path(next(iter(collection.__path__))).parents[2]
    env = {**FORKED_MODULES, "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path / 'collections'}:{ours}"}
    playbook = Playbook(variables, tmp_path / "run", tmp_path / "inventory.json", str(tmp_path / "play.json"), env)
    return Site(cluster, bundle, playbook)


def one(name: str, authority: Authority, state: str = "present") -> dict[str, str]:
    return {"name": name, "content": authority.ca_file.read_text(), "state": state}


def census(authority: Authority) -> list[Mapping[str, Any]]:
    """One certificate, which leads to this root."""
    fingerprint = next(iter(certificates(authority.ca_file.read_bytes(), "it")))
    now = datetime.now(timezone.utc).isoformat()
    return [{"name": "www:443", "anchor": {"fingerprint_sha256": fingerprint}, "looked_at": now}]


def test_a_configmap_is_held_to_the_same_rules(site: Site, tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old", "Old"), Authority(tmp_path / "new", "New")
    checked = site.converge("--check", trust_store_roots=[one("old", old)])
    assert (checked.rc, site.map) == (0, {}), checked.output

    both = [one("old", old), one("new", new)]
    done = site.converge(trust_store_roots=both)
    assert done.rc == 0, done.output
    assert site.map == {"ca.crt": f"# old\n{old.ca_file.read_text()}# new\n{new.ca_file.read_text()}"}
    again = site.converge(trust_store_roots=both)
    assert (again.rc, again.output.count("changed=0")) == (0, 2), again.output

    # The file is gone, and so it is the ConfigMap alone that trusts it.
    for host in ("app-1", "app-2"):
        Path(f"{site.bundle}-{host}").unlink()
    without = [one("old", old, "absent"), one("new", new)]
    cases = {
        "none": {"trust_store_roots": without, "trust_store_census": []},
        "old": {"trust_store_roots": without, "trust_store_census": census(old)},
        "unnamed": {"trust_store_roots": [one("new", new)]},
    }
    said = refusals(site.playbook, "trust_store", cases, "--limit", "app-1")
    assert "with no census" in said["none"]
    assert "still leads to old" in said["old"]
    assert "What is trusted elsewhere has a certificate that would be dropped" in said["unnamed"]
    assert old.ca_file.read_text() in site.map["ca.crt"]

    done = site.converge(trust_store_roots=without, trust_store_census=census(new))
    assert done.rc == 0, done.output
    assert site.map == {"ca.crt": f"# new\n{new.ca_file.read_text()}"}
    again = site.converge(trust_store_roots=without)
    assert (again.rc, again.output.count("changed=0")) == (0, 2), again.output
