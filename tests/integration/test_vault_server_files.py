# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role vault_server renders, read by those who read it: systemd the environment, Vault the configuration."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.logs.install import environment_file
from lab import Lab
from lab.hosts import Hosts
from lab.playbook import Playbook
from lab.vault import VaultCluster

ROLE = Path(__file__).resolve().parents[2] / "roles" / "vault_server"
JSON_KEY = {"private_key": "-----BEGIN-----\nMII\\n=\n", "list": ["$HOME", 'a"b', 1]}
TEXTS = {
    "PEM": "-----BEGIN CERTIFICATE-----\nMIIB+/=\n\n-----END CERTIFICATE-----\n",
    "JSON": json.dumps(JSON_KEY),
    "QUOTES": 'it\'s "quoted" and `ticked`',
    "BACKSLASHES": "a\\b\\\\c\\nd\\",
    "DOLLARS": "$HOME ${PATH} $$ \\$X",
    "PERCENT": "100% %n %% %h",
    "COMMENT": "#a ;b # c",
    "SPACES": " \t leads and trails \t ",
    "CONTROL": "a\tb\rc\x1b",
    "UNICODE": "pässwörd ☃ 日本",
    "ASSIGNMENT": "a=b=c",
    "EMPTY": "",
}


def rendered(folder: Path, template: str, **variables: Any) -> str:
    """Render a template of the role with the role's defaults, on a host of the group `vault`."""
    folder.mkdir(exist_ok=True)
    play = {
        "hosts": "vault",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults" / "main.yml"), str(ROLE / "vars" / "main.yml")],
        "tasks": [
            {
                "name": "Render the template",
                "ansible.builtin.copy": {
                    "content": f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{template}') }}}}",
                    "dest": str(folder / "rendered"),
                },
            }
        ],
    }
    (folder / "play.json").write_text(json.dumps([play]))
    inventory = folder / "inventory.json"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"vault": {"hosts": {"vault-1": host}}}))
    done = Playbook(variables, folder / "run", inventory, name=str(folder / "play.json")).run()
    assert done.rc == 0, done.output
    return (folder / "rendered").read_bytes().decode()


def test_systemd_reads_every_value_as_it_was_given(tmp_path: Path) -> None:
    given = {**TEXTS, "STRUCTURE": JSON_KEY, "NUMBER": 8}
    files = {
        "vault.env": rendered(
            tmp_path / "role", "vault.env.j2", vault_api_addr="https://v:8200", vault_server_environment=given
        ),
        "custodes.env": environment_file(TEXTS),
    }
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    found = {}
    folder = tmp_path / "files"
    folder.mkdir()
    with Hosts(tmp_path / "hosts", ["vault-1"], {folder: "/srv/files"}) as hosts:
        for name, content in files.items():
            (folder / name).write_bytes(content.encode())
            file = f"--property=EnvironmentFile=/srv/files/{name}"
            command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", file, "python3", "-c", program]
            found[name] = json.loads(hosts.run("vault-1", *command))
    for name, environment in found.items():
        assert {one: environment.get(one) for one in TEXTS} == TEXTS, name
    assert json.loads(found["vault.env"]["STRUCTURE"]) == JSON_KEY
    assert found["vault.env"]["NUMBER"] == "8"


def test_vault_starts_on_an_ipv6_address(lab: Lab, tmp_path: Path) -> None:
    cluster = VaultCluster(tmp_path / "vault", lab.authority, nodes=1, name="rendered")
    [node] = cluster.nodes
    cert_file, key_file = lab.authority.issue("rendered", ["::1"])
    config = rendered(
        tmp_path / "role",
        "vault.hcl.j2",
        vault_api_addr=f"https://[::1]:{node.port}",
        vault_server_listen_address=f"[::1]:{node.port}",
        vault_server_cluster_listen_address=f"[::1]:{node.cluster_port}",
        vault_server_data_path=str(node.data),
        vault_server_ca_cert="",
        vault_server_tls_cert_file=str(cert_file),
        vault_server_tls_key_file=str(key_file),
        vault_server_http_read_timeout="20m",
    )
    assert f'cluster_addr  = "https://[::1]:{node.cluster_port}"' in config
    assert 'http_read_timeout = "20m"' in config
    # Vault takes a file named .json for JSON.
    node.config_file = node.config_file.with_suffix(".hcl")
    node.config_file.write_text(config)
    node.command = [*node.command[:-1], str(node.config_file)]
    node.address = f"https://[::1]:{node.port}"
    node.data.mkdir(parents=True)
    try:
        node.start()
        assert node.health() == 501
    finally:
        node.stop()


def test_a_node_listens_where_its_address_is(tmp_path: Path) -> None:
    config = rendered(tmp_path / "role", "vault.hcl.j2", vault_api_addr="https://[2001:db8::1]:8200")
    assert re.findall(r'address +=\s+"(.+)"', config) == ["[::]:8200", "[::]:8201"]
    # Not Vault's 30s, which cuts off the restore of a large snapshot.
    assert 'http_read_timeout = "15m"' in config
    assert 'cluster_addr  = "https://[2001:db8::1]:8201"' in config
