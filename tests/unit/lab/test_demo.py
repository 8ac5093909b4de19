# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failed demo or drill shows its own page, never that of an earlier one, and how to keep the logs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import demo
import drill
import pytest
from lab import LabError
from lab.binaries import Server
from lab.seed import AppRole, Seed

LOGIN = AppRole("role", "secret")
OLD = Server("Vault", "1.12.3", Path("/opt/vault"))


@pytest.fixture(params=[demo, drill], ids=["demo", "drill"])
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a program that finds an old Vault, and the page of an earlier run."""
    module = request.param
    shown = "PAGE" if module is demo else "REPORT"
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "OUTPUT", tmp_path / "build")
    monkeypatch.setattr(module, shown, tmp_path / "build" / getattr(module, shown).name)
    monkeypatch.setattr(module, "server", lambda **_options: OLD)
    monkeypatch.setattr(drill, "loki_binary", lambda **_options: Path("/opt/loki"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("LAB_KEEP", raising=False)
    page = getattr(module, shown)
    page.parent.mkdir()
    page.write_text("earlier")
    return SimpleNamespace(module=module, name=module.__name__, page=page)


def fails_after(program: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have the program fail in its last playbook, after which there is a page with this text, or none."""

    def play(_progress: Any, playbook: Any) -> None:
        if text:
            playbook.mkdir(exist_ok=True)
            for name in ("recovery-1.json", "recovery-1.html", "report.html"):
                (playbook / name).write_text(text)
        raise LabError("The play ended with status 2")

    def site(lab: Any) -> Any:
        folder = lab.folder / "records"
        return SimpleNamespace(left_out=[], records=folder, playbook=lambda: folder, stop=lambda: None)

    monkeypatch.setattr(f"{program.name}.Progress.play", play)
    monkeypatch.setattr(drill, "DrillLab", site)
    monkeypatch.setattr(demo, "Playbook", lambda _variables, folder, *_rest: folder)
    seeded, store = Seed(LOGIN, LOGIN, {}), {"bucket": "b", "prefix": "p"}
    monkeypatch.setattr(
        demo, "demo", lambda lab, progress: demo.recover(lab, progress, lab.folder / "inventory", seeded, store)
    )


def test_a_failure_keeps_its_page(
    program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_after(program, monkeypatch, "failed")
    assert program.module.main([]) == 1
    assert program.page.read_text() == "failed"
    shown = capsys.readouterr()
    assert f"This {program.name} runs Vault 1.12.3: /opt/vault, a version that was not tested here" in shown.out
    assert f"The servers' logs were removed. To keep those of another run: LAB_KEEP=1 make {program.name}" in shown.err
    assert f"is build/{program.page.name}: open it in a browser" in shown.err


def test_a_failure_without_a_page_leaves_none(
    program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_after(program, monkeypatch, "")
    monkeypatch.setenv("LAB_KEEP", "1")
    assert program.module.main([]) == 1
    assert not program.page.exists()
    shown = capsys.readouterr()
    assert "open it in a browser" not in shown.err
    (kept,) = program.page.parents[1].glob("custodes-lab-*")
    assert f"The servers' logs are in {kept}." in shown.err
