# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault nodes that live for one escrow snapshot: children of this process, on loopback, destroyed with their data."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from ..files import StoreError, explain
from ..vault.client import Connection, VaultClient
from ..vault.errors import VaultUnreachableError
from ..vault.health import read_health
from .certificate import LOOPBACK, loopback_certificate
from .errors import EscrowError

PREFIX = "custodes-escrow-"
STOP_GRACE = 30.0
"""Seconds that Vault has to end by itself."""

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: a signal for this process when the thread that forked it ends."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder of mode 0700 that is gone when the block ends, by whatever but SIGKILL; then the next one removes it.

    While the block runs, SIGTERM and SIGHUP end it as Ctrl-C does.

    Raises:
        StoreError: it cannot be made, or not be removed.
    """
    try:
        for left in parent.glob(f"{PREFIX}*"):
            _remove_unless_in_use(left)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"Cannot work in {parent}: {explain(error)}. Choose another folder.") from error
    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _end) for number in ends}
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(
                f"{folder} could not be removed: {explain(error)}. It holds a copy of Vault's data: remove it now."
            ) from error
        finally:
            os.close(lock)
            for number, handler in before.items():
                signal.signal(number, handler)


def _end(number: int, _frame: Optional[FrameType]) -> None:
    raise SystemExit(128 + number)


def _remove_unless_in_use(left: Path) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(left / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        finally:
            os.close(lock)


class ScratchNode:
    """A single Vault node on 127.0.0.1, with TLS.

    Args:
        folder: of its own; made here.
        binary: the vault program.
        environ: all that its processes get.
        timeout: longest wait for any state, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        binary: str,
        environ: Mapping[str, str],
        timeout: float,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.timeout = folder, timeout
        self._binary, self._environ = binary, {**environ, "HOME": str(folder)}
        self._sleep, self._monotonic = sleep, monotonic
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._log = folder / "vault.log"
        (folder / "data").mkdir(mode=0o700, parents=True)
        certificate, key = loopback_certificate(datetime.now(timezone.utc))
        self._write("ca.pem", certificate)
        self._write("key.pem", key)
        self._ports = _free_ports(2)

    def __enter__(self) -> ScratchNode:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """Of its API."""
        return f"https://{LOOPBACK}:{self._ports[0]}"

    def client(self, token: Optional[str] = None) -> VaultClient:
        """A client of this node."""
        # No proxies: what the environment says of them is not for loopback.
        connection = Connection(self.address, ca_cert=str(self.folder / "ca.pem"), proxies={}, retries=0)
        return VaultClient(connection, token)

    def start(self, seal: Mapping[str, Mapping[str, Any]]) -> None:
        """Starts Vault with this seal stanza (none if empty), and waits until its API answers. Raises EscrowError."""
        self._write("vault.json", json.dumps(self._config(seal)).encode())
        command = [self._binary, "server", "-config", str(self.folder / "vault.json")]
        parent = os.getpid()

        def die_with_parent() -> None:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != parent:
                os._exit(1)

        with self._log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environ,
                    cwd=self.folder,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509
                )
            except OSError as error:
                raise EscrowError(
                    f"Cannot run {self._binary}: {explain(error)}. Install Vault on this host, or name the program in "
                    "vault_binary."
                ) from error
        self.wait("answer", lambda: read_health(self.client()).reachable)

    def wait_active(self) -> None:
        """Waits until the node serves. Raises EscrowError."""
        self.wait("be active", lambda: read_health(self.client()).http_status == 200)

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Waits until the condition holds. Raises EscrowError with the end of the log when it does not."""
        deadline = self._monotonic() + self.timeout
        while True:
            ended = self._process is None or self._process.poll() is not None
            with contextlib.suppress(VaultUnreachableError):
                if not ended and condition():
                    return
            if ended or self._monotonic() >= deadline:
                why = "ended" if ended else f"did not {what} within {self.timeout:g} s"
                raise EscrowError(f"The throwaway Vault node {why}. Its log ends with: {self.log_tail()}")
            self._sleep(0.1)

    def stop(self) -> None:
        """Ends Vault and waits until the process is gone."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_GRACE)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to Vault and to what it started."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log_tail(self) -> str:
        """The warnings and errors at the end of Vault's log; Vault writes no secrets there."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        bad = [line for line in lines if "[ERROR]" in line or "[WARN]" in line or line.lower().startswith("error")]
        return " / ".join((bad or lines)[-4:]) or "(nothing)"

    def _write(self, name: str, content: bytes) -> None:
        with os.fdopen(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)

    def _config(self, seal: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        port, cluster_port = self._ports
        return {
            "api_addr": self.address,
            "cluster_addr": f"https://{LOOPBACK}:{cluster_port}",
            "disable_mlock": True,
            # Without these two, Vault 2 and OpenBao 2.5.3 make no root token of key shares. Others log that they do not
            # know them. Only this host reaches the node.
            "enable_unauthenticated_access": ["generate-root"],
            "storage": {
                "raft": {"path": str(self.folder / "data"), "node_id": "escrow", "performance_multiplier": "1"}
            },
            "listener": {
                "tcp": {
                    "address": f"{LOOPBACK}:{port}",
                    "cluster_address": f"{LOOPBACK}:{cluster_port}",
                    "tls_cert_file": str(self.folder / "ca.pem"),
                    "tls_key_file": str(self.folder / "key.pem"),
                    "disable_unauthed_generate_root_endpoints": False,
                }
            },
            **({"seal": dict(seal)} if seal else {}),
        }


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _unused in range(number)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
