# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the bytecode of what Python imports from zip files, as it keeps that of other files.

Ansible sends each module as a zip file of sources, and Python compiles all of them at every run of the module: a third
of a run's CPU time. tests/tools/setup.sh installs this file in .venv, where every interpreter imports it at its start.
The key of an entry is the hash of the source that Python's own hash-based bytecode files have (PEP 552), so an entry is
never out of date. File names in tracebacks are those of the run that compiled the source.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from contextlib import suppress
from types import CodeType

_folder = os.path.join(sys.prefix, "zip-bytecode", sys.implementation.cache_tag or "none")  # noqa: PTH118
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _cached(path: str, source: bytes) -> CodeType:
    file = f"{_folder}/{_imp.source_hash(0, source).hex()}-{len(source)}"
    code: CodeType | None = None
    with suppress(OSError, EOFError, ValueError, TypeError), open(file, "rb") as entry:  # noqa: PTH123
        code = marshal.loads(entry.read())  # noqa: S302
    if code is not None:
        return code
    code = _compile(path, source)
    unfinished = f"{file}.{os.getpid()}"
    try:
        os.makedirs(_folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        with open(unfinished, "wb") as entry:  # noqa: PTH123
            entry.write(marshal.dumps(code))
        os.replace(unfinished, file)  # noqa: PTH105
    except OSError:
        pass  # A module that runs as another user, or a full disk: compiled, and not kept.
    return code


zipimport._compile_source = _cached  # type: ignore[attr-defined]
