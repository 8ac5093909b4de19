# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytecode of what is imported from archives: kept by its source, and never that of another source."""

from __future__ import annotations

import runpy
import sys
import types
import zipfile
import zipimport
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

import lab
import pytest

FILE = Path(lab.__file__).parent / "bytecode" / "sitecustomize.py"


class Site:
    """A Python that has started with the file; `compiled` are the sources that it compiled since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, archives: Path) -> None:
        self.compiled: list[bytes] = []
        self.archives = archives
        original = zipimport._compile_source  # type: ignore[attr-defined]

        def compile_source(path: str, source: bytes) -> object:
            self.compiled.append(source)
            return original(path, source)

        monkeypatch.setattr(zipimport, "_compile_source", compile_source)
        monkeypatch.setattr(sys, "prefix", str(folder.parent))
        runpy.run_path(str(FILE))

    def load(self, folder: str, source: str) -> ModuleType:
        """Import a module out of an archive, which is in a folder of its own, as Ansible's are."""
        archive = self.archives / folder / "payload.zip"
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("payload.py", source)
        spec = zipimport.zipimporter(str(archive)).find_spec("payload")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zip-bytecode").mkdir()
    return tmp_path / "zip-bytecode"


def test_the_same_source_is_compiled_once(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, folder, tmp_path)
    assert [site.load(name, "value = 1").value for name in ("first", "second")] == [1, 1]
    assert site.compiled == [b"value = 1"]
    assert [site.load(name, "value = 2").value for name in ("third", "fourth")] == [2, 2]
    assert site.compiled == [b"value = 1", b"value = 2"]


def test_what_was_compiled_without_assertions_is_not_used_with_them(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(monkeypatch, folder, tmp_path)
    site.load("first", "value = 1")
    flags = types.SimpleNamespace(**{name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"})
    flags.optimize = 1
    monkeypatch.setattr(sys, "flags", flags)
    site.load("second", "value = 1")
    assert site.compiled == [b"value = 1"] * 2


@pytest.mark.parametrize("damage", [b"", b"\x00", b"damaged", b"\xe3"])
def test_a_damaged_file_is_compiled_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    site = Site(monkeypatch, folder, tmp_path)
    site.load("first", "value = 1")
    (kept,) = folder.iterdir()
    kept.write_bytes(damage)
    assert site.load("second", "value = 1").value == 1
    assert site.load("third", "value = 1").value == 1
    assert site.compiled == [b"value = 1"] * 2


def test_without_the_folder_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, tmp_path / "none", tmp_path)
    site.load("first", "value = 1")
    once = list(site.compiled)
    assert set(once) == {b"value = 1"}
    site.load("second", "value = 1")
    assert site.compiled == once * 2


def test_where_nothing_can_be_kept_it_is_compiled(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(monkeypatch, folder, tmp_path)
    folder.rmdir()
    assert site.load("first", "value = 1").value == 1
    once = list(site.compiled)
    assert site.load("second", "value = 1").value == 1
    assert site.compiled == once * 2
