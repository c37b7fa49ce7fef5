"""docs/targets.md answers every numeric target: what it says is reached stands in a table."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import typer

from shopstream_stack.cli import app
from shopstream_stack.settings import project_root

PAGE: Final = project_root() / "docs" / "targets.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
ROWS: Final = [
    [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| target"))
]
MEASURED: Final = {"reached", "not reached"}
NOT_SHOWN: Final = "not shown"
DOES_NOT_APPLY: Final = "does not apply"
#: So many were set.
TARGETS: Final = 16


def slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def measured_rows(folder: Path, link: str) -> list[str]:
    """The lines of the generated tables below a page's heading, without their headings."""
    path, _, anchor = link.partition("#")
    sections = re.split(
        r"^#+ (.+)$", (folder / path).read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    text = next((body for heading, body in pairs if slug(heading) == anchor), "")
    parts = re.findall(r"<!-- ([\w-]+) -->\n(.*?)<!-- end of \1 -->", text, re.DOTALL)
    return [line for _, part in parts for line in re.findall(r"^\|.*\|$", part, re.MULTILINE)[2:]]


def faults(row: Sequence[str], folder: Path = PAGE.parent) -> list[str]:
    """What is wrong with a row, in words."""
    _, word, figure, why, shown = row
    found = [] if why else ["no reason"]
    if word == NOT_SHOWN:
        return found + ([] if figure == NOT_SHOWN else ["a figure of what is not shown"])
    if word == DOES_NOT_APPLY:
        return found + ([f"a figure: {figure}"] if figure else [])
    if word not in MEASURED:
        return [*found, f"{word} is no answer"]
    if not re.search(r"\d", figure):
        found.append("no figure")
    if not re.search(r"`(make|shopstream) ", shown):
        found.append("no command")
    lines = [
        line for link in re.findall(r"\]\(([^)]+)\)", shown) for line in measured_rows(folder, link)
    ]
    if not lines:
        found.append("the page named has no generated table there")
    if word == "reached" and any(re.search(r"\b(MISSED|WRONG)\b", line) for line in lines):
        found.append("a row of the table does not hold")
    return found


def test_every_target_has_a_row() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS) == TARGETS


@pytest.mark.parametrize("row", ROWS, ids=[f"row {number}" for number in range(len(ROWS))])
def test_a_row_says_what_was_measured_and_where_it_stands(row: list[str]) -> None:
    assert faults(row) == []


@pytest.mark.parametrize(
    ("row", "table", "said"),
    [
        (("reached", "199 ms"), ["| REST | 199 | holds |"], []),
        (("reached", "199 ms"), [], ["the page named has no generated table there"]),
        (("reached", "less"), ["| REST | 199 | holds |"], ["no figure"]),
        (("reached", "201 ms"), ["| REST | 201 | MISSED |"], ["a row of the table does not hold"]),
        (("not reached", "201 ms"), ["| REST | 201 | MISSED |"], []),
        (("not reached", "201 ms"), [], ["the page named has no generated table there"]),
        (("not shown", "199 ms"), [], ["a figure of what is not shown"]),
        (("does not apply", "199 ms"), [], ["a figure: 199 ms"]),
        (("a bar", ""), ["| REST | 199 | holds |"], ["a bar is no answer"]),
    ],
)
def test_a_claim_without_a_measured_table_or_figure_is_found(
    row: tuple[str, str], table: list[str], said: list[str], tmp_path: Path
) -> None:
    generated = "\n".join(
        ["| what | p95 | verdict |", "| --- | --- | --- |", *table] if table else []
    )
    (tmp_path / "page.md").write_text(
        f"## Other\n<!-- a -->\n| x |\n| --- |\n| 1 |\n<!-- end of a -->\n"
        f"## The gate\n<!-- gate -->\n{generated}\n<!-- end of gate -->\n"
    )
    shown = "`make load`, [page](page.md#the-gate)"
    assert faults(["p95", *row, "because", shown], tmp_path) == said


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
    page = (PAGE.parent / path).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    assert not anchor or anchor in {slug(one) for one in headings}
