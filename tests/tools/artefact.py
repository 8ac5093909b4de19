# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection as a release would and looks at what is in it: the code, and nothing that git does not know."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tools.checkout import ROOT, files

MADE_BY_THE_BUILD = {"MANIFEST.json", "FILES.json"}
SHIPPED = {"LICENSE", "README.md", "meta", "playbooks", "plugins", "roles"}
"""Top-level names all of whose files have to be in the artefact."""


def contents() -> set[str]:
    """Build into a temporary folder and name the files built in. Raises subprocess.CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory(prefix="custodes-artefact-") as folder:
        subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", folder], cwd=ROOT, check=True)
        (built,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(built) as archive:
            return {member.name for member in archive.getmembers() if not member.isdir()}


def main() -> int:
    """Report what is in the artefact and should not be, and the other way round. Returns the exit code."""
    shipped = contents()
    known = {str(path) for path in files()}
    strangers = sorted(shipped - known - MADE_BY_THE_BUILD)
    missing = sorted(name for name in known - shipped if name.split("/")[0] in SHIPPED)
    for name in strangers:
        print(f"in the artefact, but git ignores it: {name} (add it to build_ignore in galaxy.yml)")
    for name in missing:
        print(f"not in the artefact: {name} (build_ignore in galaxy.yml takes too much)")
    print(f"artefact: {len(shipped)} files")
    return 1 if strangers or missing else 0


if __name__ == "__main__":
    sys.exit(main())
