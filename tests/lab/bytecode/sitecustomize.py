# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the bytecode of Python source that is imported from a zip archive, which Python itself compiles at each import.

Ansible sends each module as such an archive: without this, compilation is more than half of the CPU time of a module.
Python imports this file at its start where tests/tools/setup.sh installed it, in .venv, or where it is in Python's own
folder, as on the hosts. It does nothing where the folder of the bytecode does not exist, and nothing on a host in a
Python that is started with -I or -S, as the agent is.
"""

from __future__ import annotations

# ruff: noqa: PTH105, PTH112, PTH123, S302 - pathlib would cost each start of Python more than this saves; and the
# folder is writable only for whoever writes to Python's own folders as well.
import marshal
import os
import sys
import zipimport
from types import CodeType
from typing import Any

_FOLDER = "/var/cache/lab-bytecode" if sys.prefix == sys.base_prefix else f"{sys.prefix}/zip-bytecode"
_compile: Any = getattr(zipimport, "_compile_source", None)


def _kept(path: str, source: bytes) -> CodeType:
    """Return the bytecode of `source`, from the folder where that exact source was compiled before."""
    from _frozen_importlib_external import MAGIC_NUMBER
    from _imp import source_hash

    # Ansible unpacks each archive into a folder with a name of its own.
    inside = path.rpartition(".zip/")[2]
    level = str(sys.flags.optimize).encode()
    key = source_hash(0, b"\0".join((MAGIC_NUMBER, level, inside.encode(), source))).hex()
    file = f"{_FOLDER}/{key}-{len(source)}"
    try:
        with open(file, "rb") as kept:
            code: CodeType = marshal.loads(kept.read())
        return code
    except (OSError, EOFError, ValueError, TypeError):
        code = _compile(path, source)
    unfinished = f"{file}.{os.getpid()}"
    try:
        with open(unfinished, "wb") as keep:
            keep.write(marshal.dumps(code))
        os.replace(unfinished, file)
    except OSError:
        pass  # Another user's folder, or a full disk: it is compiled again next time.
    return code


if _compile is not None and os.path.isdir(_FOLDER):
    zipimport._compile_source = _kept  # type: ignore[attr-defined]
