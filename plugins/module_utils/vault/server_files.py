# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a Vault server on its host: checked by Vault and by systemd, then put in place.

Vault checks the new configuration in a folder of its own, with an empty data folder and the new certificates, as its
user and with the environment that holds the seal's credentials. The server that runs does not notice.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Optional

from ..files import explain
from ..owned_files import Content, put, read
from .errors import VaultConfigError

STAGE = "@STAGE@"
"""In the configuration for the check: the folder that holds the certificates by their names, and `data`."""
LONGEST = 1024 * 1024
"""Bytes of a file that is compared with its new content."""
HIDDEN = "(hidden)\n"

# A disk that is full elsewhere on the host (read-only images always are) is no fault of the configuration, and any
# telemetry at all counts as an incomplete one of Stackdriver.
_SKIPPED = ("Check Disk Usage", "Check Telemetry")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# An option that Vault does not know is a warning: a misspelled one would be left out.
_UNKNOWN = "Unknown or unsupported"
_PROBLEM = re.compile(rf"failure \] .+: |{_UNKNOWN}")

Run = Callable[[Sequence[str]], tuple[int, str, str]]
"""Runs a program: exit code, standard output, standard error."""


class Account(NamedTuple):
    """The user that runs Vault. Attributes: name; uid and gid, -1 for a user that check mode has not created."""

    name: str
    uid: int
    gid: int


class Folder(NamedTuple):
    """Attributes: path; mode; own, whether Vault's user owns it and not root; its group is that user's."""

    path: str
    mode: int
    own: bool


class Certificate(NamedTuple):
    """A file of root and Vault's group. Attributes: name, in the folder of the check; path; content; mode."""

    name: str
    path: str
    content: str
    mode: int


class Text(NamedTuple):
    """A file and its content. Attributes: path; content."""

    path: str
    content: str


class Wanted(NamedTuple):
    """What is to be there.

    Attributes:
        program: path of Vault. Nothing is checked while there is none.
        user: that runs it.
        folders: made in this order.
        certificates: of the authority and of the server, and its key.
        environment: for systemd, with secrets; only root reads it.
        config: of Vault.
        trial: the content of `config` for the check, with `STAGE` for its folder.
        unit: of systemd.
    """

    program: str
    user: Account
    folders: Sequence[Folder]
    certificates: Sequence[Certificate]
    environment: Text
    config: Text
    trial: str
    unit: Text


class Outcome(NamedTuple):
    """Attributes: changed, paths that were or would be changed; diff, of each file, without secrets."""

    changed: list[str]
    diff: list[dict[str, str]]


class _File(NamedTuple):
    path: str
    content: Content
    secret: bool


class ServerFiles:
    """The files of the Vault server of this host.

    Args:
        wanted: what is to be there.
        run: runs a program.
        root: uid and gid of root.
        check: whether nothing may be changed. The checks are made nevertheless.
    """

    def __init__(self, wanted: Wanted, run: Run, root: tuple[int, int] = (0, 0), *, check: bool = False) -> None:
        self._wanted, self._run, self._root, self._check = wanted, run, root, check

    def apply(self) -> Outcome:
        """Check everything, then write what differs, the unit last. Raises VaultConfigError and StoreError."""
        files = list(self._files())
        before = {file.path: read(file.path, LONGEST) for file in files}
        todo = [file for file in files if before[file.path] != file.content]
        if self._wanted.user.uid >= 0 and os.path.exists(self._wanted.program):
            with self._stage() as stage:
                self._check_config(stage)
                if any(file.path == self._wanted.unit.path for file in todo):
                    self._check_unit(stage)
        changed = [folder.path for folder in self._wanted.folders if self._differs(folder)]
        if not self._check:
            for folder in self._wanted.folders:
                self._make(folder)
            for file in todo:
                put(file.path, file.content)
        return Outcome(changed + [file.path for file in todo], [_diff(file, before[file.path]) for file in todo])

    def newer_than(self, started_file: str) -> bool:
        """Return whether the program or a file that it reads once was changed after `started_file` was touched.

        A file that is not root's counts as never touched: Vault's user could escape every restart by its time.
        """
        wanted = self._wanted
        paths = (wanted.program, wanted.environment.path, wanted.config.path, wanted.unit.path)
        changed = max((found.st_ctime for found in map(_lstat, paths) if found), default=0.0)
        started = _lstat(started_file)
        return changed > (started.st_mtime if started and started.st_uid == self._root[0] else 0.0)

    def _files(self) -> Iterator[_File]:
        wanted, (uid, gid) = self._wanted, self._root
        for one in wanted.certificates:
            yield _File(one.path, Content(one.content.encode(), one.mode, uid, wanted.user.gid), True)
        yield _File(wanted.environment.path, Content(wanted.environment.content.encode(), 0o600, uid, gid), True)
        yield _File(wanted.config.path, Content(wanted.config.content.encode(), 0o640, uid, wanted.user.gid), False)
        yield _File(wanted.unit.path, Content(wanted.unit.content.encode(), 0o644, uid, gid), False)

    def _differs(self, folder: Folder) -> bool:
        found = _lstat(folder.path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return True
        owner = (found.st_uid, found.st_gid)
        return owner != self._owner(folder) or stat.S_IMODE(found.st_mode) != folder.mode

    def _owner(self, folder: Folder) -> tuple[int, int]:
        return (self._wanted.user.uid if folder.own else self._root[0]), self._wanted.user.gid

    def _make(self, folder: Folder) -> None:
        try:
            os.makedirs(folder.path, mode=0o755, exist_ok=True)
            # By a descriptor: the user that owns the folder above could replace the name.
            handle = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fchown(handle, *self._owner(folder))
                os.fchmod(handle, folder.mode)
            finally:
                os.close(handle)
        except OSError as error:
            raise VaultConfigError(
                f"Cannot make the folder {folder.path}: {explain(error)}. Repair it, then run this again."
            ) from error

    @contextmanager
    def _stage(self) -> Iterator[str]:
        """A folder that only root writes and Vault's user reads, with everything that the check needs."""
        wanted, user = self._wanted, self._wanted.user
        stage = tempfile.mkdtemp(prefix="vault-check-")
        try:
            os.chown(stage, self._root[0], user.gid)
            os.chmod(stage, 0o750)  # noqa: S103 - Vault's group reads it
            os.mkdir(f"{stage}/data", 0o700)
            os.chown(f"{stage}/data", user.uid, user.gid)
            texts = {one.name: (one.content, user.gid, 0o640) for one in wanted.certificates}
            texts["vault.hcl"] = (wanted.trial.replace(STAGE, stage), user.gid, 0o640)
            texts["vault.env"] = (wanted.environment.content, self._root[1], 0o600)
            for name, (text, gid, mode) in texts.items():
                put(f"{stage}/{name}", Content(text.encode(), mode, self._root[0], gid))
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _check_config(self, stage: str) -> None:
        # As Vault's user, and with the seal's credentials on no command line.
        transient = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--uid={self._wanted.user.name}"]
        environment = [f"--property=EnvironmentFile={stage}/vault.env", "--"]
        diagnose = [self._wanted.program, "operator", "diagnose", *(f"-skip={name}" for name in _SKIPPED)]
        code, out, err = self._run([*transient, *environment, *diagnose, f"-config={stage}/vault.hcl"])
        # 2: there are warnings.
        if code not in (0, 2) or _UNKNOWN in out:
            said = "; ".join(problems(out)) or (out + err).strip()
            raise VaultConfigError(
                f"Vault refuses the new configuration {self._wanted.config.path}: {said.replace(stage, 'STAGE')}. "
                "The configuration that is in use was not touched."
            )

    def _check_unit(self, stage: str) -> None:
        # systemd judges the name's end, too.
        unit = f"{stage}/{os.path.basename(self._wanted.unit.path)}"
        put(unit, Content(self._wanted.unit.content.encode(), 0o644, *self._root))
        code, out, err = self._run(["systemd-analyze", "verify", unit])
        if code != 0:
            said = (out + err).strip().replace(unit, self._wanted.unit.path)
            raise VaultConfigError(f"systemd refuses the new unit: {said[-1500:]} Nothing was changed.")


def account(name: str, *, check: bool = False) -> Account:
    """Return the user of this name with the group of this name. Raises VaultConfigError, unless in check mode."""
    try:
        return Account(name, pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid)
    except KeyError:
        if check:
            return Account(name, -1, -1)
        raise VaultConfigError(
            f"This host has no user {name} with a group of its name. Create both first. Nothing was changed."
        ) from None


def octal(mode: str) -> int:
    """Return the permissions that a mode of octal digits stands for. Raises VaultConfigError."""
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise VaultConfigError(f"{mode!r} is not a mode: give octal digits, such as '0640'. Nothing was changed.")
    return int(mode, 8)


def problems(output: str) -> list[str]:
    """Return what ``vault operator diagnose`` found wrong, a line each."""
    lines = (_COLOR.sub("", line) for line in output.splitlines())
    return [line.strip(" .") for line in lines if _PROBLEM.search(line) and "HCP link" not in line]


def _lstat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VaultConfigError(f"Cannot read {path}: {explain(error)}. This has to run as root (become).") from error


def _diff(file: _File, before: Optional[Content]) -> dict[str, str]:
    def shown(content: Optional[Content]) -> str:
        if content is None:
            return ""
        return HIDDEN if file.secret else content.data.decode(errors="replace")

    after = f"{HIDDEN}new\n" if file.secret else shown(file.content)
    return {"before_header": file.path, "after_header": file.path, "before": shown(before), "after": after}
