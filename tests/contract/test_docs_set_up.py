"""What README asks of a machine is what `prepare` demands; `make help` leaves no verb out."""

import re
import subprocess
from collections.abc import Sequence

import pytest

from shopstream_stack import tools
from shopstream_stack.settings import project_root

README = (project_root() / "README.md").read_text(encoding="utf-8")
MAKEFILE = (project_root() / "Makefile").read_text(encoding="utf-8")
HELP_SECONDS_MAX = 20


@pytest.mark.parametrize(
    ("name", "demanded"),
    [
        ("Go", (tools.GO, tools.GO_OF_K6)),
        ("Java", (tools.JAVA,)),
        ("Node.js", (tools.NODE,)),
    ],
    ids=["go", "java", "node"],
)
def test_readme_asks_for_the_newest_version_that_is_demanded(
    name: str, demanded: Sequence[tools.Tool]
) -> None:
    said = re.search(rf"{re.escape(name)} ([\d.]+)\+", README)
    assert said is not None
    assert tuple(map(int, said[1].split("."))) == max(tool.at_least for tool in demanded)


def test_make_help_names_every_verb_that_says_what_it_does() -> None:
    verbs = set(re.findall(r"^([\w-]+):.*## ", MAKEFILE, re.MULTILINE))
    told = subprocess.run(
        # Within `make test` it would tell what folder it enters.
        ["make", "--no-print-directory", "help"],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=True,
        timeout=HELP_SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )
    assert {line.split()[1] for line in told.stdout.splitlines()} == verbs
    assert "bench-e2e" in verbs
