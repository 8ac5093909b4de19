# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `ansible-test sanity` where it insists on running, without touching the developer's home.

It wants a checkout at .../ansible_collections/custodes/security_dr, it drops PIP_* variables, and it fetches pip for
its own environments from a place that not every network reaches. So it gets a copy of the checkout and a HOME in the
cache folder: the pip settings in force here are pip.conf there, and a bootstrap without a download lies where it looks.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lab.cache import cache_folder, locked
from tools.checkout import ROOT, files

GET_PIP = '''"""Stands in for get-pip.py: pip comes from the interpreter itself, then installs what was asked for."""
import ensurepip
import os
import subprocess
import sys

environment = dict(os.environ)  # ensurepip points PIP_CONFIG_FILE at nothing
ensurepip.bootstrap()
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments], env=environment))
'''


def copy_checkout(target: Path) -> None:
    """Make `target` hold what git knows of the checkout, and nothing else."""
    shutil.rmtree(target, ignore_errors=True)
    for name in files():
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, destination, follow_symlinks=False)


def pip_configuration() -> str:
    """Write the settings in force for pip here, from files and environment alike, as the text of one pip.conf."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    sections: dict[str, dict[str, str]] = {"global": {"quiet": "1"}}
    # Files first, environment last: pip's own order of precedence.
    for line in sorted(listing.stdout.splitlines(), key=lambda text: text.startswith(":env:")):
        name, _equals, value = line.partition("=")
        section, _dot, option = name.rpartition(".")
        options = sections.setdefault("global" if section == ":env:" else section, {})
        options[option] = str(ast.literal_eval(value))
    fallbacks = {
        "cert": os.environ.get("REQUESTS_CA_BUNDLE"),
        "proxy": os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"),
    }
    for option, fallback in fallbacks.items():
        if fallback:
            sections["global"].setdefault(option, fallback)
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{option} = {value.strip()}".replace("\n", "\n    ") for option, value in options.items()]
    return "\n".join(lines) + "\n"


def bootstrap_name() -> str:
    """Name the file that ansible-test looks for before it downloads pip. Raises RuntimeError when that has changed."""
    spec = find_spec("ansible_test._internal.python_requirements")
    if spec is None or spec.origin is None:
        raise RuntimeError("ansible-test is not installed beside this Python: run `make setup`")
    found = re.search(r"default_packages = dict\(\s*pip='([\d.]+)'", Path(spec.origin).read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError(
            f"{spec.origin} no longer names the pip version it bootstraps: tests/tools/sanity.py has to follow"
        )
    return f"get_pip_{found.group(1).replace('.', '_')}.py"


def prepare_home(home: Path) -> None:
    """Lay out the HOME for ansible-test. Its environments under .ansible/test/venv stay from run to run."""
    configuration = home / ".config" / "pip" / "pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(pip_configuration(), encoding="utf-8")
    configuration.chmod(0o600)
    bootstrap = home / ".ansible" / "test" / "cache" / bootstrap_name()
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.write_text(GET_PIP, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run all sanity tests, or those of the arguments (`--test pylint`). Returns ansible-test's exit code."""
    base = cache_folder() / "sanity"
    home = base / "home"
    home.mkdir(parents=True, exist_ok=True)
    with locked("sanity"):
        prepare_home(home)
        place = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
        target = base / place / "ansible_collections" / "custodes" / "security_dr"
        copy_checkout(target)
        # XDG_CONFIG_HOME would lead pip away from those settings, PYTHONPATH the import checks astray.
        environment = {
            name: value for name, value in os.environ.items() if name not in ("XDG_CONFIG_HOME", "PYTHONPATH")
        }
        environment |= {"HOME": str(home), "LC_ALL": "C.UTF-8"}
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        command = [
            "ansible-test",
            "sanity",
            "--local",
            "--requirements",
            "--python",
            version,
            "--color",
            "no",
            *arguments,
        ]
        return subprocess.run(command, cwd=target, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
