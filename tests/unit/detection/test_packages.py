# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package explains what it has brought itself, and nothing that only looks like it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import packages
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.baseline import Change, changes
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.inventory import Item, Reader
from unit.detection.tree import Tree

UNIT = "/usr/lib/systemd/system/cron.service"
CRON = "/etc/cron.d/e2scrub_all"
WANTS = "/etc/systemd/system/multi-user.target.wants/cron.service"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A host where two packages have brought a unit, a cron job and the link that enables the unit."""
    tree = Tree(tmp_path)
    tree.file(UNIT, "unit")
    tree.file(CRON, "job")
    tree.link(WANTS, "/lib/systemd/system/cron.service")
    tree.link("/lib", "usr/lib")
    sums(tree, "cron", {UNIT: "unit"})
    sums(tree, "other:amd64", {"/usr/bin/other": "x"})
    tree.file(
        packages.STATUS,
        f"Package: adduser\nStatus: install ok installed\n\nPackage: e2fsprogs\nStatus: install ok installed\n"
        f"Conffiles:\n /etc/e2scrub.conf {md5('x')}\n {CRON} {md5('job')}\nDescription: x\n\nPackage: zlib\n",
    )
    return tree


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def sums(tree: Tree, package: str, files: dict[str, str]) -> None:
    lines = "".join(f"{md5(text)}  {path[1:]}\n" for path, text in files.items())
    tree.file(f"{packages.INFO}/{package}.md5sums", lines)
    tree.file(f"{packages.INFO}/{package}.list", "/.\n" + "".join(f"{path}\n" for path in files))


def seen(tree: Tree, *paths: str) -> dict[str, Item]:
    """Those items as root would own them, whoever runs the test."""
    items = tree.everything().items
    return {path: items[path]._replace(uid=0, gid=0) for path in paths}


def added(tree: Tree, *paths: str) -> list[Change]:
    return changes({}, seen(tree, *paths))


def explained(tree: Tree, told: Iterable[Change]) -> dict[str, str]:
    return packages.explain(tree.reader(), list(told))


def test_what_a_package_has_brought_is_explained(tree: Tree) -> None:
    told = added(tree, UNIT, CRON, WANTS)
    assert explained(tree, told) == {UNIT: "cron", CRON: "e2fsprogs"}
    tree.file(f"{packages.ENABLED['/etc/systemd/system/']}multi-user.target.wants/cron.service")
    assert explained(tree, told) == {UNIT: "cron", CRON: "e2fsprogs", WANTS: "cron"}


def test_a_link_that_a_package_holds_is_explained_if_it_leads_to_the_packages_file(tree: Tree) -> None:
    link = "/usr/lib/systemd/system/crond.service"
    tree.link(link, "cron.service")
    told = added(tree, link)
    assert explained(tree, told) == {}
    tree.file(f"{packages.INFO}/cron.list", "/lib/systemd/system/crond.service\n")
    assert explained(tree, told) == {link: "cron"}
    tree.at(link).unlink()
    tree.link(link, "/opt/evil.service")
    tree.file("/opt/evil.service", "evil")
    assert explained(tree, added(tree, link)) == {}


def test_lists_from_before_the_merge_of_lib_into_usr_count(tree: Tree) -> None:
    sums(tree, "cron", {UNIT[len("/usr") :]: "unit"})
    assert explained(tree, added(tree, UNIT)) == {UNIT: "cron"}


def test_a_changed_content_is_explained_and_with_a_changed_owner_or_mode_it_is_not(tree: Tree) -> None:
    now = seen(tree, UNIT)
    before = {UNIT: now[UNIT]._replace(sha256="0" * 64)}
    assert explained(tree, changes(before, now)) == {UNIT: "cron"}
    was = before[UNIT]
    for other in (was._replace(mode=0o600), was._replace(uid=5), was._replace(kind="link")):
        assert explained(tree, changes({UNIT: other}, now)) == {}


def test_a_packages_program_that_becomes_setuid_is_not_explained(tree: Tree) -> None:
    tree.file("/usr/bin/bash", "shell", 0o4755)
    sums(tree, "bash", {"/usr/bin/bash": "shell"})
    now = seen(tree, "/usr/bin/bash")
    assert explained(tree, changes({}, now)) == {}
    assert explained(tree, changes({"/usr/bin/bash": now["/usr/bin/bash"]._replace(sha256="0" * 64)}, now)) != {}


@pytest.mark.parametrize("wrong", [{"mode": 0o666}, {"mode": 0o4644}, {"uid": 1000}, {"gid": 5}])
def test_what_is_added_with_an_owner_or_mode_of_its_own_is_not_explained(tree: Tree, wrong: dict[str, Any]) -> None:
    (change,) = added(tree, UNIT)
    assert change.after is not None
    assert explained(tree, [change._replace(after=change.after._replace(**wrong))]) == {}


@pytest.mark.parametrize("path", [UNIT, CRON])
def test_another_content_is_not_explained(tree: Tree, path: str) -> None:
    told = added(tree, path)
    tree.file(path, "evil")
    assert explained(tree, told) == {}, "what is there is no longer what the scan has seen"
    assert explained(tree, added(tree, path)) == {}


def test_what_the_scan_has_seen_is_explained_and_not_what_came_after(tree: Tree) -> None:
    tree.file(UNIT, "evil")
    told = added(tree, UNIT)
    tree.file(UNIT, "unit")
    assert explained(tree, told) == {}


def test_a_deletion_is_not_explained(tree: Tree) -> None:
    assert explained(tree, changes(seen(tree, UNIT, CRON), {})) == {}


def test_ld_so_preload_is_never_explained(tree: Tree) -> None:
    tree.file("/etc/ld.so.preload", "job")
    tree.file(packages.STATUS, f"\nPackage: x\nConffiles:\n /etc/ld.so.preload {md5('job')}\n")
    assert explained(tree, added(tree, "/etc/ld.so.preload")) == {}


def test_ucf_has_checksums_too(tree: Tree) -> None:
    tree.file("/etc/ssh/sshd_config", "config")
    told = added(tree, "/etc/ssh/sshd_config")
    assert explained(tree, told) == {}
    tree.file(packages.UCF, f"{md5('config')}  /etc/ssh/sshd_config\n")
    assert explained(tree, told) == {"/etc/ssh/sshd_config": "ucf"}


def test_a_path_that_only_begins_alike_is_not_explained(tree: Tree) -> None:
    tree.file("/etc/cron.d/e2scrub", "job")
    tree.file("/etc/cron.d/all\n x", "job")
    assert explained(tree, added(tree, "/etc/cron.d/e2scrub", "/etc/cron.d/all\n x")) == {}


def test_places_that_no_package_fills_are_not_looked_up(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.file("/root/.bashrc", "x")
    tree.file("/var/spool/cron/crontabs/ada", "x")
    told = added(tree, "/root/.bashrc", "/var/spool/cron/crontabs/ada")
    monkeypatch.setattr(packages, "_read", lambda *_arguments: pytest.fail("reads dpkg's files"))
    assert explained(tree, told) == {}


def test_the_package_that_was_installed_last_is_asked_first(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("cron", "other:amd64")):
        os.utime(tree.at(f"{packages.INFO}/{name}.md5sums"), (10**9 - age, 10**9 - age))
    asked: list[str] = []
    real = packages._read

    def read(reader: Reader, path: str) -> bytes:
        asked.append(path)
        return real(reader, path)

    monkeypatch.setattr(packages, "_read", read)
    assert explained(tree, added(tree, UNIT)) == {UNIT: "cron"}
    assert asked == [f"{packages.INFO}/cron.md5sums"]


def test_where_there_is_no_dpkg_nothing_is_explained(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.file(UNIT, "unit")
    tree.file(CRON, "job")
    assert explained(tree, added(tree, UNIT, CRON)) == {}
