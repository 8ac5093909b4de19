# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder that stands for the "/" of a host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

from ansible_collections.custodes.security_dr.plugins.module_utils.detection import persistence, scheduled
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.inventory import (
    Inventory,
    Item,
    Reader,
    merge,
)

PASSWD = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada:/home/ada:/bin/bash\n"


class Tree:
    """A host's files: root and one user, both with a home, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file("/etc/passwd", PASSWD)
        for home in ("/root", "/home/ada"):
            self.folder(home)

    def at(self, path: str) -> Path:
        """Where a path of the host lies."""
        return Path(f"{self.root}{path}")

    def folder(self, path: str) -> Path:
        self.at(path).mkdir(parents=True, exist_ok=True)
        return self.at(path)

    def file(self, path: str, content: Union[str, bytes] = "", mode: int = 0o644) -> Path:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_bytes(content.encode() if isinstance(content, str) else content)
        self.at(path).chmod(mode)
        return self.at(path)

    def link(self, path: str, target: str) -> Path:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).symlink_to(target)
        return self.at(path)

    def reader(self, *skip: str) -> Reader:
        return Reader(str(self.root), skip)

    def scheduled(self) -> Inventory:
        return scheduled.scan(self.reader())

    def persistence(self, *setuid_folders: str, skip: tuple[str, ...] = ()) -> Inventory:
        options = persistence.Options(setuid_folders=setuid_folders)
        return persistence.scan(self.reader(*skip), options)

    def everything(self) -> Inventory:
        """What both scanners see in one run."""
        reader = self.reader()
        return merge(scheduled.scan(reader), persistence.scan(reader, persistence.Options()))

    def items(self, rule: str) -> dict[str, Item]:
        return {path: item for path, item in self.everything().items.items() if item.rule == rule}

    def paths(self, rule: str) -> set[str]:
        """Paths of what is under a rule, but for the folders themselves."""
        return {path for path, item in self.items(rule).items() if item.kind != "folder"}


def me() -> str:
    """How the owner of what the tests write is called in findings."""
    return {0: "root", 1000: "ada"}.get(os.getuid(), str(os.getuid()))
