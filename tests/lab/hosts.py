# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with systemd as init, on which roles are tested: podman containers of one Debian image, reached by ssh.

No registry of images is needed: debootstrap makes the image, once, and it is kept outside the checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .cache import cache_folder, locked
from .processes import LabError, wait_for

USER = "ops"
"""Who logs in: no root, but sudo asks for no password."""

_PACKAGES = {
    "podman": "podman netavark aardvark-dns fuse-overlayfs iptables",
    "runc": "runc",
    "debootstrap": "debootstrap debian-archive-keyring",
    "ssh-keygen": "openssh-client",
    "zstd": "zstd",
}
"""The programs needed, and what brings them on Debian."""

_INCLUDE = (
    "systemd,systemd-sysv,dbus,python3,python3-apt,python3-packaging,python3-venv,sudo,iproute2,procps,curl,"
    "ca-certificates,cron,openssh-server,unzip"
)
_SUITE, _PYTHON = "bookworm", "3.11"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_DOWNLOAD = """
apt-get update -qq
apt-get install --download-only --yes -qq --no-install-recommends -o Dir::Cache::archives=/debs "$@"
cd /debs
for deb in *.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\\nSize: %s\\n' "$deb" "$(stat -c %s "$deb")"
    printf 'SHA256: %s\\n\\n' "$(sha256sum < "$deb" | cut -c1-64)"
done > Packages
"""
_FILES = {
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    # The key is mounted, and owned by whoever runs the lab.
    "etc/ssh/sshd_config.d/lab.conf": "AuthorizedKeysFile /etc/ssh/lab_keys\nStrictModes no\nUseDNS no\n",
    # A package need not survive a power cut here.
    "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n",
    # Of the folder named in it.
    f"etc/python{_PYTHON}/sitecustomize.py": Path(__file__)
    .with_name("bytecode")
    .joinpath("sitecustomize.py")
    .read_text(),
    "var/cache/lab-bytecode/README": "Bytecode of Ansible's modules.\n",
}
_LABEL = "custodes-lab"
# crun asks for CAP_SYS_RESOURCE, which is not there where this itself runs in a container; nor may limits be raised.
_CONTAINERS_CONF = """\
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""


@dataclass(frozen=True)
class Host:
    """One host: its name, by which the others find it, and its address, by which the controller does."""

    name: str
    container: str
    address: str


class Hosts:
    """Context manager that owns a network and the hosts on it; they are removed when it ends.

    Those of a process that was killed are removed when the next one starts. Names are this run's own.

    Args:
        folder: for the ssh key.
        names: of the hosts, by which they find each other.
        mounts: folders or files of the controller, and where every host sees them, read-only.
    """

    def __init__(self, folder: Path, names: Sequence[str], mounts: Mapping[Path, str] | None = None) -> None:
        self.folder = folder
        self.key_file = folder / "ssh_key"
        self.gateway = ""
        self.hosts: list[Host] = []
        self._names = names
        self._mounts = dict(mounts or {})
        self._run = f"custodes-{secrets.token_hex(3)}"
        self._owner = f"{os.getpid()}.{_started(os.getpid())}"

    def __enter__(self) -> Hosts:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the network and the hosts, and wait until systemd is up and ssh answers. Raises LabError."""
        image = host_image()
        sweep()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.key_file.exists():
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self._run, "-f", str(self.key_file))
        self._mounts[self.key_file.with_suffix(".pub")] = "/etc/ssh/lab_keys"
        podman("network", "create", "--label", f"{_LABEL}={self._owner}", self._run)
        (network,) = json.loads(podman("network", "inspect", self._run))
        self.gateway = network["subnets"][0]["gateway"]
        for name in self._names:
            self.hosts.append(self._create(name, image))
        for host in self.hosts:
            wait_for(f"systemd has started {host.name}", lambda host=host: _is_up(host), 180)  # type: ignore[misc]
            wait_for(f"{host.name} answers ssh", lambda host=host: _answers(host.address, 22))  # type: ignore[misc]
            # As systemd does by itself where it is not in a container; else a unit finds its credentials' folder empty.
            podman("exec", host.container, "mount", "--make-rshared", "/")

    def stop(self) -> None:
        """Remove the hosts and their network."""
        _remove(lambda owner: owner == self._owner)
        self.hosts = []

    def host(self, name: str) -> Host:
        """The host of this name."""
        return next(host for host in self.hosts if host.name == name)

    def run(self, name: str, *command: str) -> str:
        """Run a program on a host as root, past ssh, and return what it printed. Raises LabError."""
        return podman("exec", self.host(name).container, *command)

    def connection(self, host: Host) -> dict[str, Any]:
        """An Ansible inventory's variables for this host."""
        return {
            "ansible_host": host.address,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.key_file),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR",
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def _create(self, name: str, image: str) -> Host:
        volumes = [f"--volume={source}:{target}:ro" for source, target in self._mounts.items()]
        # Without SYS_ADMIN systemd cannot set up a unit's sandbox, and starts the unit without it.
        # Without SYS_PTRACE not even root sees what other processes run, which a real host lets it see.
        rights = ["--systemd=always", "--cap-add=SYS_ADMIN,SYS_PTRACE", "--security-opt=seccomp=unconfined"]
        # AppArmor's profile for containers denies every mount, SELinux the read-only volumes. Elsewhere this is void.
        rights += ["--security-opt=apparmor=unconfined", "--security-opt=label=disable"]
        network = ["--network", self._run, "--network-alias", name, "--hostname", name]
        container = podman(
            *("run", "--detach", "--name", f"{self._run}-{name}", "--label", f"{_LABEL}={self._owner}"),
            *(*network, *rights, *volumes, image),
        ).strip()
        (told,) = json.loads(podman("inspect", container))
        return Host(name, container, told["NetworkSettings"]["Networks"][self._run]["IPAddress"])


def podman(*arguments: str) -> str:
    """Run podman as root and return what it printed. Raises LabError with what it complained of."""
    return _run("podman", *arguments, root=True)


def wheels(*requirements: str) -> Path:
    """A folder of wheels for the hosts' Python, which reach no package index, downloaded the first time.

    Raises LabError.
    """
    wanted = hashlib.sha256(json.dumps(requirements).encode()).hexdigest()[:16]
    folder = cache_folder() / f"wheels-{wanted}"
    with locked("hosts-wheels"):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(prefix="wheels-", dir=cache_folder()))
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
            _run(*pip, f"--python-version={_PYTHON}", "--only-binary=:all:", "--dest", str(unfinished), *requirements)
            unfinished.rename(folder)
    return folder


def debs(*packages: str) -> Path:
    """A flat repository of Debian packages, and of what they need beyond the hosts' image, downloaded the first time.

    A host takes it as ``deb [trusted=yes] file:/WHERE/IT/IS/MOUNTED ./``. Raises LabError.
    """
    image = host_image()
    wanted = hashlib.sha256(json.dumps([image, *packages]).encode()).hexdigest()[:16]
    folder = cache_folder() / f"debs-{wanted}"
    with locked("hosts-debs"):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(prefix="debs-", dir=cache_folder()))
            # Apt downloads as a user of its own, who has to get in.
            unfinished.chmod(0o755)
            run = ("run", "--rm", "--network=host", f"--volume={unfinished}:/debs", image, "sh", "-ec", _DOWNLOAD)
            podman(*run, "sh", *packages)
            unfinished.rename(folder)
    return folder


def sweep() -> None:
    """Remove the hosts and networks whose process is gone."""
    if shutil.which("podman", path=_PATH) is None:
        return  # The first of all: there never was a host here.
    with locked("hosts-sweep"):
        _remove(lambda owner: not _is_alive(owner))


def host_image() -> str:
    """The name of the hosts' image, made the first time (a minute and a half). Raises LabError."""
    _install_programs()
    recipe = json.dumps([_SUITE, _INCLUDE, USER, _FILES])
    wanted = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    name, archive = f"localhost/custodes-lab-host:{wanted}", cache_folder() / f"host-{wanted}.tar.zst"
    with locked("hosts-image"):
        if not podman("images", "--quiet", name):
            if not archive.exists():
                _bootstrap(archive)
            podman("import", "--quiet", "--change", 'CMD ["/sbin/init"]', str(archive), name)
    return name


def _install_programs() -> None:
    """Install from Debian what is missing, as root; else raise LabError with the line that does."""
    missing = [name for name in _PACKAGES if shutil.which(name, path=_PATH) is None]
    if not missing:
        return
    packages = " ".join(_PACKAGES[name] for name in missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError(
            f"Hosts with systemd need {', '.join(missing)}. On Debian or Ubuntu:\n"
            f"    sudo apt-get update && sudo apt-get install --yes --no-install-recommends {packages}"
        )
    with locked("apt"):
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "--yes", "-qq", "--no-install-recommends", *packages.split())


def _bootstrap(archive: Path) -> None:
    """Install Debian into a folder and pack it."""
    unfinished = archive.with_suffix(".unfinished")
    with tempfile.TemporaryDirectory(prefix="custodes-host-") as name:
        root = Path(name, "root")
        try:
            _run("debootstrap", "--variant=minbase", f"--include={_INCLUDE}", _SUITE, str(root), root=True)
            _run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", USER, root=True)
            for path, content in _FILES.items():
                _run("mkdir", "-p", str((root / path).parent), root=True)
                _run("tee", str(root / path), root=True, given=content)
            _run("rm", "-rf", *(str(root / path) for path in ("var/cache/apt", "var/lib/apt/lists")), root=True)
            _run("tar", "-C", str(root), "-c", "--zstd", "-f", str(unfinished), ".", root=True)
        finally:
            _run("rm", "-rf", str(root), root=True)
    unfinished.rename(archive)


def _remove(whose: Callable[[str], bool]) -> None:
    """Remove the containers, then the networks, of the processes that are meant, each by its id."""
    for listing, removal in (("ps", "rm --force --ignore --time 0 --volumes"), ("network ls", "network rm")):
        told = podman(*listing.split(), *(["--all"] if listing == "ps" else []), "--format", "json")
        for thing in json.loads(told or "[]"):
            owner = (thing.get("Labels") or thing.get("labels") or {}).get(_LABEL)
            if owner and whose(owner):
                podman(*removal.split(), thing.get("Id") or thing["id"])


def _is_alive(owner: str) -> bool:
    pid, _dot, started = owner.partition(".")
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, in ticks since boot: with its id that is who it is. Empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_up(host: Host) -> bool:
    """Whether every unit was started."""
    try:
        return podman("exec", host.container, "systemctl", "is-system-running").strip() == "running"
    except LabError:
        return False


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def _run(*command: str, root: bool = False, given: str = "") -> str:
    conf = cache_folder() / "containers.conf"
    if not conf.exists() or conf.read_text() != _CONTAINERS_CONF:
        conf.write_text(_CONTAINERS_CONF)
    settings = {"CONTAINERS_CONF": str(conf), "PATH": _PATH, "DEBIAN_FRONTEND": "noninteractive"}
    if root and os.geteuid() != 0:
        command = ("sudo", "--non-interactive", "env", *(f"{key}={value}" for key, value in settings.items()), *command)
    result = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **settings},
        check=False,
    )
    if result.returncode != 0:
        raise LabError(
            f"{' '.join(command[:6])} … failed with status {result.returncode}: "
            f"{result.stderr.strip()[-1500:] or result.stdout.strip()[-1500:]}"
        )
    return result.stdout
