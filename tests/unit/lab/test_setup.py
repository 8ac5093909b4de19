# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What setup.sh and the layers of the tests take from the machine of a stranger, and what they do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import layers
import pytest

ROOT = Path(__file__).resolve().parents[3]
# Does what setup.sh asks of a Python, and logs how it, uv and ansible are called.
PYTHON = """#!/bin/sh
venv=@ROOT@/.venv
case "$*" in
    "-m venv "*)
        mkdir -p "$venv/bin" "$venv/lib"
        for name in python uv ansible; do cp "$0" "$venv/bin/$name"; done ;;
    -V*) echo Python 3.13.0 ;;
    "-c "*hashlib*) sha256sum ;;
    "-c "*purelib*) echo "$venv/lib" ;;
    "-c "*) echo "$0" ;;
    *) echo "${0##*/} $* LC_ALL=$LC_ALL" >>@ROOT@/log ;;
esac
"""


def test_setup_reads_no_settings_of_others_and_builds_nothing(tmp_path: Path) -> None:
    for name in ("tests/tools/setup.sh", "tests/lab/bytecode/sitecustomize.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests" / "requirements.lock").write_text("uv==1.0 \\\n    --hash=sha256:00\n")
    python = tmp_path / "bin" / "python3.13"
    python.parent.mkdir()
    python.write_text(PYTHON.replace("@ROOT@", str(tmp_path)))
    python.chmod(0o755)
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "LC_ALL": "xx_XX.UTF-8", "HOME": str(tmp_path)}
    subprocess.run([tmp_path / "tests" / "tools" / "setup.sh"], env=environment, check=True, capture_output=True)
    pip, uv, ansible = (tmp_path / "log").read_text().splitlines()
    assert uv.startswith("uv pip install --no-config ")
    for installer in (pip, uv):
        assert "--require-hashes --only-binary=:all:" in installer
    assert ansible == "ansible --version LC_ALL=C.UTF-8"


def test_the_layers_run_in_a_locale_that_every_system_has(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    show = [sys.executable, "-c", "import os; print(os.environ['LC_ALL'])"]
    monkeypatch.setitem(layers.LAYERS, "unit", lambda: [show])
    assert layers.Runner().run("unit", marked=False).result == "ok"
    assert "\nC.UTF-8\n" in capfd.readouterr().out
