# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the tests import the checkout by its collection name, and `lab` from this folder, wherever the checkout lies."""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent


def _collections_path() -> Path:
    """Give a folder where ansible_collections/custodes/security_dr is this checkout: .venv's, or one for this run."""
    in_venv = ROOT / ".venv" / "collections"
    if (in_venv / "ansible_collections" / "custodes" / "security_dr").resolve() == ROOT:
        return in_venv
    made = tempfile.TemporaryDirectory(prefix="custodes-collections-")
    atexit.register(made.cleanup)
    namespace = Path(made.name, "ansible_collections", "custodes")
    namespace.mkdir(parents=True)
    (namespace / "security_dr").symlink_to(ROOT)
    return Path(made.name)


def _importable(*folders: Path) -> None:
    """Put the folders first on the path of this process and of those that it starts."""
    names = [str(folder) for folder in folders]
    sys.path[:0] = names
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*names, inherited] if inherited else names)


_importable(_collections_path(), TESTS)

# An import from elsewhere (an installed copy of the collection) would test the wrong code without a word.
_found = {
    Path(entry).resolve() for entry in importlib.import_module("ansible_collections.custodes.security_dr").__path__
}
if _found != {ROOT}:
    raise pytest.UsageError(
        f"ansible_collections.custodes.security_dr is imported from {sorted(map(str, _found))}, not from {ROOT}"
    )


# No test is timed, and CI asks the same questions each time.
settings.register_profile("custodes", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("custodes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies under tests/integration."""
    for item in items:
        if (TESTS / "integration") in item.path.parents:
            item.add_marker(pytest.mark.integration)
