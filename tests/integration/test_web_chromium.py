"""Finding and installing the browser, with stand-ins for apt-get on a PATH of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shopstream_stack.chromium import ensure_chromium, find_chromium
from shopstream_stack.console import Silent
from shopstream_stack.errors import MissingToolError, StackError

APT_THAT_WORKS = (
    '#!/bin/sh\nprintf "#!/bin/sh\\n" > "$HOME/chromium"\n/bin/chmod +x "$HOME/chromium"\n'
)
APT_WITHOUT_LISTS = f"""#!/bin/sh
echo "$1" >> "$HOME/calls"
if [ "$1" = update ]; then echo ok > "$HOME/lists"; exit 0; fi
[ -e "$HOME/lists" ] || {{ echo "Unable to locate package"; exit 100; }}
{APT_THAT_WORKS.removeprefix("#!/bin/sh")}"""
APT_THAT_FAILS = '#!/bin/sh\necho "no network"\nexit 100\n'


class Heard(Silent):
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.lines.append(text)
        yield


def put(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def environ_of(folder: Path) -> dict[str, str]:
    return {"PATH": str(folder), "HOME": str(folder)}


def test_a_browser_on_the_path_is_taken_as_it_is(tmp_path: Path) -> None:
    browser = put(tmp_path, "chromium-browser", "#!/bin/sh\n")
    heard = Heard()
    assert ensure_chromium(environ_of(tmp_path), heard, may_install=True) == str(browser)
    assert heard.lines == []


def test_a_missing_browser_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="apt-get install chromium"):
        find_chromium(environ_of(tmp_path))


def test_without_the_right_to_install_one_line_says_what_to_install(tmp_path: Path) -> None:
    put(tmp_path, "apt-get", APT_THAT_WORKS)
    heard = Heard()
    assert ensure_chromium(environ_of(tmp_path), heard, may_install=False) is None
    (line,) = heard.lines
    assert "apt-get install chromium" in line
    assert "\n" not in line


def test_root_gets_the_browser_installed(tmp_path: Path) -> None:
    put(tmp_path, "apt-get", APT_THAT_WORKS)
    found = ensure_chromium(environ_of(tmp_path), Heard(), may_install=True)
    assert found == str(tmp_path / "chromium")


def test_missing_package_lists_are_read_and_the_installation_tried_again(tmp_path: Path) -> None:
    put(tmp_path, "apt-get", APT_WITHOUT_LISTS)
    assert ensure_chromium(environ_of(tmp_path), Heard(), may_install=True) is not None
    assert (tmp_path / "calls").read_text().split() == ["install", "update", "install"]


def test_a_failing_installation_says_what_apt_get_said(tmp_path: Path) -> None:
    put(tmp_path, "apt-get", APT_THAT_FAILS)
    with pytest.raises(StackError, match="no network"):
        ensure_chromium(environ_of(tmp_path), Heard(), may_install=True)
