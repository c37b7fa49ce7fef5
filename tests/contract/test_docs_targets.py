"""docs/targets.md answers every numeric target, by commands that exist."""

import re
from pathlib import Path
from typing import Final

import pytest
import typer

from shopstream_stack.cli import app
from shopstream_stack.settings import project_root

PAGE: Final = project_root() / "docs" / "targets.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| target"))
]
WORDS: Final = {"a bar", "reached", "reached in part", "not reached", "not shown", "does not apply"}
#: So many were set.
TARGETS: Final = 16


def test_every_target_has_a_row_with_a_word_and_a_reason() -> None:
    assert len(ROWS) == TARGETS
    assert len({row[0] for row in ROWS}) == TARGETS
    for target, word, why, _ in ROWS:
        assert word in WORDS, target
        assert why, target


def test_what_is_reached_is_shown_by_a_command() -> None:
    for target, word, _, shown in ROWS:
        if word.startswith(("a bar", "reached", "not reached")):
            assert re.search(r"`(make|shopstream) ", shown), target


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`make ([a-z0-9-]+)`", TEXT))))
def test_its_make_verbs_exist_and_run_a_command_that_exists(verb: str) -> None:
    makefile = (project_root() / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{verb}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found is not None
    known = typer.main.get_command(app)
    assert isinstance(known, typer.core.TyperGroup)
    for name in re.findall(r"\$\(BIN\)/shopstream ([a-z0-9-]+)", found[1]):
        assert name in known.commands


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_its_links_lead_to_a_page_and_a_heading(link: str) -> None:
    path, _, anchor = link.partition("#")
    page = (Path(PAGE).parent / path).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    slugs = {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings}
    assert not anchor or anchor in slugs
