# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots in a keystore of Java, by keytool, which works on a copy: the keystore itself is replaced whole or not at all.

Source: keytool's manual page. The password is named by its file, as every user of a host can read command lines.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence

from .errors import TlsError
from .roots import Root, certificates

Run = Callable[[Sequence[str]], "tuple[int, str]"]
"""Runs a command; gives its exit code, 127 where there is no such program, and what it said."""

# The words of the listing are looked for.
_ENGLISH = ("-J-Duser.language=en", "-J-Duser.country=US")


class Keystore:
    """One keystore, which need not be there yet.

    Args:
        path: its file.
        password_file: its password is the first line.
        run: runs keytool.
        keytool: the program.

    Raises TlsError, as all of its methods, when keytool refuses.
    """

    def __init__(self, path: str, password_file: str, run: Run, keytool: str = "keytool") -> None:
        self.path = os.path.realpath(path)
        self._password_file = password_file
        self._run = run
        self._keytool = keytool
        if not os.path.isfile(password_file):
            raise TlsError(f"There is no password_file {password_file} for {path}: write it, mode 0600.")

    def entries(self, path: str = "") -> dict[str, str]:
        """Fingerprints by alias, empty for what is no certificate. Aliases are in lower case, as keytool has them."""
        path = path or self.path
        if not os.path.exists(path):
            return {}
        return listed(self._ask("-list", "-rfc", path=path))

    def changed(self, roots: Sequence[Root]) -> bytes:
        """The whole keystore as it has to be, made on a copy and read back."""
        # Not beside the keystore: an application may own that folder, and put a link in the place of this one.
        folder = tempfile.gettempdir()
        try:
            with tempfile.TemporaryDirectory(prefix="custodes-", dir=folder) as made:
                copy = os.path.join(made, "keystore")
                self._change(copy, os.path.join(made, "root.pem"), roots)
                return _read(copy)
        except OSError as error:
            raise TlsError(f"Cannot change a copy of {self.path} in {folder}: {error.strerror}.") from error

    def _change(self, copy: str, file: str, roots: Sequence[Root]) -> None:
        if os.path.exists(self.path):
            _write(copy, _read(self.path))
        now = self.entries(copy)
        for one in roots:
            alias = one.name.lower()
            if one.present and alias not in now:
                _write(file, one.pem)
                self._ask("-importcert", "-noprompt", "-alias", one.name, "-file", file, path=copy)
            elif not one.present and alias in now:
                self._ask("-delete", "-alias", one.name, path=copy)
        now = self.entries(copy)
        for one in roots:
            others = [alias for alias, held in now.items() if not one.present and held == one.fingerprint]
            if others and one.name.lower() not in others:
                raise TlsError(
                    f"{self.path} still has {one.name}: alias {', '.join(others)} has it as well. Remove that with "
                    f"{self._keytool} -delete. Nothing was changed."
                )
            if now.get(one.name.lower()) != (one.fingerprint if one.present else None):
                raise TlsError(f"{self._keytool} was content, and yet {one.name} is not {_state(one)} in {self.path}.")

    def _ask(self, verb: str, *more: str, path: str) -> str:
        command = [self._keytool, *_ENGLISH, verb, *more, "-keystore", path, "-storepass:file", self._password_file]
        code, said = self._run(command)
        if code == 127:
            raise TlsError(f"There is no {self._keytool} for {self.path}: install a Java runtime, or give its path.")
        if code != 0:
            raise TlsError(
                f"{self._keytool} {verb} of {self.path} with the password of {self._password_file}: "
                f"{said.strip()[-500:]} Nothing was changed."
            )
        return said


def listed(text: str) -> dict[str, str]:
    """What `keytool -list -rfc` says: fingerprints by alias, that of the first certificate where there is a chain."""
    found = {}
    for part in re.split(r"^Alias name: ", text, flags=re.MULTILINE)[1:]:
        alias, _line, rest = part.partition("\n")
        found[alias.strip().lower()] = next(iter(certificates(rest.encode(), f"alias {alias.strip()}")), "")
    return found


def _state(root: Root) -> str:
    return "present" if root.present else "absent"


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    # The folder is of mode 0700.
    with open(path, "wb") as file:
        file.write(data)
