# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbooks: each can be found, each says what a person needs at 3 a.m., each link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
INDEX = DOCS / "runbooks" / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
GUIDES = [DOCS / "vault-kms-lost.md", DOCS / "vault-quorum-lost.md"]
# Pages of alerts are named after them.
OF_ALERTS = [page for page in sorted(DOCS.glob("runbooks/*.md")) if re.match(r"# [A-Z][A-Za-z]+\n", page.read_text())]
OF_LOSSES = [*sorted(set(DOCS.glob("runbooks/*.md")) - {*OF_ALERTS, INDEX}), *GUIDES]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _sharp, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_index_has_each_page_of_a_loss() -> None:
    assert len(OF_ALERTS) > 20
    linked = {(INDEX.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+\.md)\)", INDEX.read_text())}
    assert [page.name for page in OF_LOSSES if page not in linked] == []


@pytest.mark.parametrize("page", OF_LOSSES, ids=lambda page: page.name)
def test_each_page_of_a_loss_is_whole(page: Path) -> None:
    text = page.read_text()
    asked = ["**Detection.**", "**Time.**", "**It is over** when", "**Escalate**"]
    asked += [] if page in GUIDES else ["**Symptom.**", "## What to do"]
    assert [part for part in asked if part not in text] == []
    assert "```console" in text
    assert len(text.splitlines()) <= (95 if page in GUIDES else 65), "what is read at 3 a.m. is short"


def test_the_checklist_has_each_part_with_its_objective() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) s \|$", (DOCS / "dr-drill.md").read_text(), re.MULTILINE)
    assert len(rows) == 6
    ticked = re.findall(r"^\| ([A-Z].*?): .*?\| (\d+) s \|", (DOCS / "dr-drill-checklist.md").read_text(), re.MULTILINE)
    assert [(name.lower().replace(" ", "_"), seconds) for name, seconds in ticked] == rows
