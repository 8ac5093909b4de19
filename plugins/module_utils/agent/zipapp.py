# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as one executable file (PEP 441), made of the code that runs at this moment, wherever that came from.

Beside each source lies its byte code, as zipimport would have to compile every file at each start: a scan of a host
would take twice as long. Another Python, after an update of the host, passes over it and takes the source.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Optional

from ..files import StoreError, explain, new_file

# A module that imports this file carries the command line to the host too, and with it all that that imports.
from . import cli

PACKAGE = "custodes"
MODE = 0o755
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold: the same code gives the same bytes."""
MAIN = f"from {PACKAGE}.agent.cli import run\n\nrun()\n"

Read = Callable[[str], bytes]

# Hash-based and unchecked (PEP 552): what counts is the archive that it lies in, not the time of a file.
_COMPILE = """
import base64, importlib.util, json, marshal, sys
compiled = {}
for path, text in json.load(sys.stdin).items():
    source = text.encode()
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    compiled[path + "c"] = base64.b64encode(head + code).decode()
json.dump(compiled, sys.stdout)
"""
_COMPILE_SECONDS = 60


def read_running(path: str) -> bytes:
    """A file of the package that holds this one, by its path in it. Raises OSError when there is none.

    The loader is asked and not the disk: Ansible runs modules out of a zip.
    """
    root = os.path.dirname(os.path.dirname(__file__))
    data: bytes = __loader__.get_data(os.path.join(root, *path.split("/")))  # type: ignore[name-defined]
    return data


def sources(read: Read = read_running) -> dict[str, bytes]:
    """The command line's file and all that it imports of its own package, by path; packages end in ``__init__.py``."""
    found: dict[str, bytes] = {}
    waiting = {tuple(cli.__name__.split(".")[-2:])}
    while waiting:
        name = waiting.pop()
        for path in ("/".join(name) + ".py", "/".join((*name, "__init__.py"))):
            try:
                code = read(path)
            except OSError:
                continue
            if path not in found:
                found[path] = code
                package = name if path.endswith("/__init__.py") else name[:-1]
                waiting.update(_imported(code, package))
                waiting.update(name[:length] for length in range(1, len(name)))
            break
    # zipimport finds packages by this file; in a checkout most have none.
    for path in list(found):
        for folder in _parents(path):
            found.setdefault(f"{folder}__init__.py", b"")
    return found


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    return ("".join(f"{part}/" for part in parts[:length]) for length in range(len(parts) + 1))


def _imported(code: bytes, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """What a file imports relatively, functions included; names that are no modules are among it."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            found.add(base)
            found.update((*base, alias.name) for alias in node.names)
    return found - {()}


def build(interpreter: str, read: Read = read_running, *, compiled: bool = True) -> bytes:
    """The whole file.

    Args:
        interpreter: path of the Python that runs it, isolated from the environment and the user's own packages.
        read: gives a file of the package.
        compiled: with that Python's byte code; where it is not on this host, there is none.

    Raises StoreError for a path that the kernel would not take.
    """
    if not interpreter.startswith("/") or len(interpreter.split()) != 1:
        raise StoreError(f"'{interpreter}' cannot start the agent: give the whole path of a Python, without spaces.")
    buffer = io.BytesIO()
    buffer.write(f"#!{interpreter} -IS\n".encode())
    # Stored, not deflated: another zlib would give other bytes.
    files = {"__main__.py": MAIN.encode(), **_packaged(read)}
    if compiled:
        files.update(byte_code(interpreter, files))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for path, code in sorted(files.items()):
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, code)
    return buffer.getvalue()


def _packaged(read: Read) -> dict[str, bytes]:
    return {f"{PACKAGE}/{path}": code for path, code in sources(read).items()}


def byte_code(interpreter: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What this Python makes of the sources, by path, ``x.pyc`` of ``x.py``; nothing where it cannot be run.

    The same sources give the same bytes: each time a new process compiles them, whose hashes are not random.
    """
    sent = json.dumps({path: code.decode() for path, code in sorted(files.items())})
    try:
        told = subprocess.run(
            [interpreter, "-S", "-c", _COMPILE],
            input=sent,
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
            cwd="/",
            env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
        ).stdout
        return {path: base64.b64decode(code) for path, code in json.loads(told).items()}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


def interpreter_of(content: bytes) -> Optional[str]:
    """The Python that an installed agent is run by; None where it is no agent."""
    first = content.split(b"\n", 1)[0]
    words = first[2:].split() if first.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None


def describe(content: bytes) -> str:
    """What is in such a file, a line each, for a diff."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [f"{hashlib.sha256(archive.read(name)).hexdigest()[:16]}  {name}" for name in archive.namelist()]
    except zipfile.BadZipFile:
        return f"{len(content)} bytes, not an agent\n" if content else ""
    return "\n".join([content.split(b"\n", 1)[0].decode(errors="replace"), *files]) + "\n"


def installed(dest: Path) -> tuple[bytes, int]:
    """Content and mode of what is there now; empty and 0 when there is nothing. Raises StoreError."""
    try:
        return dest.read_bytes(), dest.stat().st_mode & 0o7777
    except FileNotFoundError:
        return b"", 0
    except OSError as error:
        raise StoreError(f"Cannot read {dest}: {explain(error)}. Name a file, in a folder that exists.") from error


def write(dest: Path, content: bytes) -> None:
    """Puts the file there, whole and executable. Raises StoreError."""
    with new_file(dest) as file:
        file.write(content)
        os.fchmod(file.fileno(), MODE)
