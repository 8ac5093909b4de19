# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs out of Debian's packages, unpacked and not installed: an installed server would be started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .cache import cache_folder, locked
from .processes import LabError


def debian_program(package: str, program: str) -> Path:
    """The program: on PATH, or unpacked from this package into the cache.

    Raises LabError with the line that installs it where neither works.
    """
    on_path = shutil.which(program)
    if on_path:
        return Path(on_path)
    folder = cache_folder() / f"debian-{package}"
    found = folder / "usr" / "bin" / program
    with locked("apt"):
        if not found.exists():
            _unpack(package, folder)
    if not found.exists():
        raise LabError(f"Debian's package {package} has no {program} in usr/bin.")
    return found


def _unpack(package: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="custodes-debian-") as name:
        # Who downloads may be apt's own user.
        Path(name).chmod(0o755)
        problem = _run(["apt-get", "download", package], name)
        if problem and os.geteuid() == 0:
            problem = _run(["apt-get", "update", "-qq"], name) or _run(["apt-get", "download", package], name)
        files = [str(file) for file in Path(name).glob("*.deb")]
        unfinished = Path(name, "unpacked")
        problem = problem or _run(["dpkg-deb", "-x", *files, str(unfinished)], name)
        if problem:
            raise LabError(
                f"{package} could not be had from Debian: {problem}\nOn Debian or Ubuntu, this brings it: "
                f"sudo apt-get update && sudo apt-get install --yes --no-install-recommends {package}"
            )
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(unfinished, folder)


def _run(command: list[str], folder: str) -> str:
    """Run it; return what it complained of when it failed, else an empty text."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""
