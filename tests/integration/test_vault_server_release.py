# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of the role vault_server: root runs only a program that root has put there, with the checksum it had."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.playbook import FORKED_MODULES, Finished, Playbook

PROGRAM = "#!/bin/sh\necho Vault v9.9.9\n"
PLANTED = "#!/bin/sh\ntouch {marker}\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="installs as root, below folders of root")


@pytest.fixture
def root_only() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vault-releases-", dir="/var/lib"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "vault"
    file.write_text(PROGRAM)
    return file


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "vault.tar.gz"
    with tarfile.open(file, "w:gz") as made:
        entry = tarfile.TarInfo("vault")
        entry.size, entry.mode = len(PROGRAM), 0o755
        made.addfile(entry, io.BytesIO(PROGRAM.encode()))
    return file


def install(tmp_path: Path, releases: Path, file: Path, *arguments: str) -> Finished:
    method = "archive" if file.suffix == ".gz" else "binary"
    tasks = {"name": "custodes.security_dr.vault_server", "tasks_from": f"install_{method}"}
    play: dict[str, Any] = {"hosts": "localhost", "gather_facts": False}
    play["tasks"] = [{"name": "Install", "ansible.builtin.include_role": tasks}]
    playbook = tmp_path / "install.yml"
    playbook.write_text(yaml.safe_dump([play]))
    variables = {
        "vault_server_install_method": method,
        f"vault_server_{method}": str(file),
        "vault_server_checksum": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
        "vault_server_releases_directory": str(releases),
        "__vault_server_program": str(tmp_path / "link"),
    }
    return Playbook(variables, tmp_path / "run", None, str(playbook), FORKED_MODULES).run(*arguments)


def installed(releases: Path, file: Path) -> Path:
    return releases / hashlib.sha256(file.read_bytes()).hexdigest()[:12] / "vault"


@as_root
@pytest.mark.parametrize("kind", ["binary", "archive"])
def test_a_release_is_installed_once_and_a_planted_program_is_replaced_before_it_runs(
    tmp_path: Path, root_only: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    file: Path = request.getfixturevalue(kind)
    releases, link, marker = root_only / "releases", tmp_path / "link", tmp_path / "planted-program-ran"
    release = installed(releases, file)
    assert install(tmp_path, releases, file, "--check").rc == 0
    assert not releases.exists()
    # As a host of an earlier version has it: the link leads to a release in another folder.
    link.symlink_to(tmp_path / "earlier")
    first = install(tmp_path, releases, file)
    assert (first.rc, link.readlink(), release.read_text()) == (0, release, PROGRAM), first.output
    second = install(tmp_path, releases, file)
    assert (second.rc, "changed=0 " in second.output) == (0, True), second.output
    release.write_text(PLANTED.format(marker=marker))
    link.unlink()
    link.symlink_to(tmp_path / "another-release")
    third = install(tmp_path, releases, file)
    assert (third.rc, link.readlink(), release.read_text()) == (0, release, PROGRAM), third.output
    assert not marker.exists()


@as_root
def test_a_release_of_another_user_is_refused(tmp_path: Path, root_only: Path, binary: Path) -> None:
    release = installed(root_only, binary)
    release.parent.mkdir()
    release.write_text(PROGRAM)
    os.chown(release.parent, 12345, 12345)
    refused = install(tmp_path, root_only, binary)
    assert refused.rc == 2
    assert f"{release.parent.name}), and root runs the program" in refused.words


@pytest.mark.parametrize("kind", ["binary", "archive"])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for arguments in (["--check"], []):
        refused = install(tmp_path, shared / "releases", request.getfixturevalue(kind), *arguments)
        assert refused.rc == 2
        assert f"Cannot install Vault in {shared}/releases: users other than root may write there (" in refused.words
        assert " shared), and root runs the program. " in refused.words
    assert list(shared.iterdir()) == []
