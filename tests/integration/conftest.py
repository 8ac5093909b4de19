# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab, and in it one cluster that is only read, for all the tests of this folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.run_ansible import Ansible
from lab import Lab
from lab.binaries import server
from lab.seed import Seed, seed
from lab.vault import VaultCluster

LONGEST = (
    "test_monitoring.py",
    "test_recover_vault_faults.py",
    "test_ca_rotation.py",
    "test_quorum.py",
    "test_snapshot_role.py",
    "test_monitoring_rules.py",
    "test_recover_vault.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes minutes first: one worker would have it for itself at the end, while the other has nothing.

    Tests marked `vault` are skipped, by name, on another server than HashiCorp Vault.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    needed = [item for item in items if item.get_closest_marker("vault")]
    if needed and (product := server().product) != "Vault":
        for item in needed:
            item.add_marker(pytest.mark.skip(reason=f"needs HashiCorp Vault, not {product}: set LAB_SERVER=vault"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as running:
        yield running


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> VaultCluster:
    """Three nodes, unsealed by KMS, three voters. Nothing in it is changed or killed: others read it too."""
    cluster = lab.cluster("shared")
    cluster.initialize()
    return cluster


@pytest.fixture(scope="session")
def seeded(lab: Lab, cluster: VaultCluster) -> Seed:
    """What the shared cluster holds."""
    return seed(cluster, lab)


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    """Runs tasks through ansible-playbook, with a home folder of the test's own."""
    home = tmp_path / "ansible-home"
    home.mkdir(mode=0o700)
    return Ansible(home)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
