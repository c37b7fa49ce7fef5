"""Every known way in which streams fail has a row in the documents and a test with its number."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBERS = [f"{number:02}" for number in range(1, 24)]


def test_every_pitfall_has_its_row_and_a_test_with_its_number() -> None:
    text = (ROOT / "docs/stream-pitfalls.md").read_text()
    assert re.findall(r"^\| (\d\d) \|", text, re.MULTILINE) == NUMBERS
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    tested = {number for source in sources for number in re.findall(r"def test_e(\d\d)_", source)}
    assert sorted(tested) == NUMBERS
