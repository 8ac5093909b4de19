# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as one file: the same bytes each time, all that it needs, nothing of Ansible, and it runs."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from unit.modules.runner import Runner


@pytest.fixture(scope="module")
def content() -> bytes:
    return zipapp.build(sys.executable)


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.namelist()


def test_the_same_code_gives_the_same_bytes(content: bytes) -> None:
    assert zipapp.build(sys.executable) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        told = {(entry.date_time, entry.compress_type, entry.external_attr) for entry in archive.infolist()}
    assert told == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 0o644 << 16)}, "no clock, no zlib, no umask"


def test_it_holds_what_the_command_line_imports_and_the_packages_above(content: bytes) -> None:
    held = names(content)
    assert held == sorted(held)
    assert {
        "__main__.py",
        "custodes/__init__.py",
        "custodes/agent/cli.py",
        "custodes/agent/config.py",
        "custodes/files.py",
        "custodes/snapshot/__init__.py",
        "custodes/snapshot/archive.py",
        "custodes/snapshot/job.py",
        "custodes/snapshot/stores/__init__.py",
        "custodes/snapshot/stores/filesystem.py",
        "custodes/vault/client.py",
    } <= set(held)


def test_the_byte_code_is_what_starts_and_another_python_takes_the_source(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    compiled = "custodes/agent/cli.pyc"
    assert set(files) == {name for path in files if path.endswith(".py") for name in (path, f"{path}c")}
    told = {}
    for name, magic in (("same", files[compiled][:4]), ("other", b"\x00\x00\x0d\x0a")):
        agent = tmp_path / name
        with zipfile.ZipFile(agent, "w") as archive:
            for path, data in files.items():
                # Were the source looked at, this one would stop it.
                is_source = path == "custodes/agent/cli.py" and name == "same"
                archive.writestr(path, b"1 / 0" if is_source else magic + data[4:] if path == compiled else data)
        told[name] = subprocess.run(
            [sys.executable, str(agent), "--help"], capture_output=True, text=True, check=True
        ).stdout
    assert told["same"] == told["other"] != ""


def test_without_that_python_it_holds_the_sources_alone() -> None:
    held = names(zipapp.build("/nonexistent/python3"))
    assert "custodes/agent/cli.py" in held
    assert not [name for name in held if name.endswith("c")]
    assert held == names(zipapp.build(sys.executable, compiled=False))


def test_it_holds_nothing_of_ansible(content: bytes) -> None:
    held = names(content)
    assert not [
        name for name in held if name in ("custodes/module.py", "custodes/agent/zipapp.py") or "recovery" in name
    ]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert not [name for name in held if b"import ansible" in archive.read(name)]


def test_what_a_function_imports_counts_and_what_is_no_module_does_not() -> None:
    files = {
        "agent/cli.py": b"from . import config\ndef run():\n    from ..deep.er.code import thing\n",
        "agent/config.py": b"import os\nfrom ..files import StoreError\n",
        "files.py": b"",
        "deep/er/code.py": b"from .. import other\nfrom ...unknown import nothing\n",
        "deep/er/__init__.py": b"# real\n",
        "deep/other.py": b"",
        "unused.py": b"",
    }

    def read(path: str) -> bytes:
        try:
            return files[path]
        except KeyError:
            raise OSError(path) from None

    found = zipapp.sources(read)
    assert set(found) == (set(files) - {"unused.py"}) | {"__init__.py", "agent/__init__.py", "deep/__init__.py"}
    assert found["deep/er/__init__.py"] == b"# real\n"


def test_it_runs_isolated_from_an_empty_folder(content: bytes, tmp_path: Path) -> None:
    agent = tmp_path / "bin" / "custodes"
    agent.parent.mkdir()
    zipapp.write(agent, content)
    assert agent.stat().st_mode & 0o7777 == 0o755
    (tmp_path / "empty").mkdir()

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(agent), *args], cwd=tmp_path / "empty", env={}, capture_output=True, text=True, check=False
        )

    helped = run("--help")
    assert helped.returncode == 0, helped.stderr
    assert "snapshot" in helped.stdout
    nothing = run("snapshot", "--once", "--config", "missing.json")
    assert nothing.returncode == 2
    assert nothing.stderr == "custodes snapshot: There is no missing.json. Name the configuration with --config.\n"
    assert run("snapshot").returncode == 2
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("interpreter", ["python3", "", "/usr/bin/env python3", "/opt/a\n/b"])
def test_an_interpreter_that_the_kernel_would_not_start_is_refused(interpreter: str) -> None:
    with pytest.raises(StoreError, match="give the whole path of a Python"):
        zipapp.build(interpreter)


class TestModule:
    @pytest.fixture
    def install(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Runner:
        return Runner(capsys, "agent_install", path=str(tmp_path / "custodes"), interpreter=sys.executable)

    def test_four_runs(self, install: Runner, tmp_path: Path) -> None:
        results = install.four_runs()
        assert (tmp_path / "custodes").read_bytes() == zipapp.build(sys.executable)
        assert results[0]["diff"]["before"] == ""
        assert "custodes/agent/cli.py" in results[0]["diff"]["after"]
        assert results[3]["diff"]["before"] == results[3]["diff"]["after"]
        assert len({result["sha256"] for result in results}) == 1

    @pytest.mark.parametrize("spoilt", ["content", "mode"])
    def test_what_was_tampered_with_is_put_right(self, install: Runner, tmp_path: Path, spoilt: str) -> None:
        agent = tmp_path / "custodes"
        install()
        if spoilt == "content":
            agent.write_bytes(b"#!/bin/sh\nexit 0\n")
        else:
            agent.chmod(0o777)
        install.four_runs()
        assert agent.stat().st_mode & 0o7777 == 0o755

    def test_a_folder_that_is_not_there(self, install: Runner, tmp_path: Path) -> None:
        failed: dict[str, Any] = install.fails(path=str(tmp_path / "missing" / "custodes"))
        assert "Create the folder" in failed["msg"]
