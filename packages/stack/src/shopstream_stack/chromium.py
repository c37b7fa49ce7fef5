"""The browser for the browser tests: the distribution's Chromium, never a package's download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final

from shopstream_stack.cache import run_build
from shopstream_stack.console import Reporter
from shopstream_stack.errors import MissingToolError, StackError

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
# The fonts are only recommended by the browser's package; without any a page has no text.
PACKAGES: Final = ("chromium", "fonts-dejavu-core")
# No window, no GPU, and no talk with anybody but the page under test.
ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_HOW: Final = f"Install it, for example `apt-get install {' '.join(PACKAGES)}`."
_APT: Final = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES)


def find_chromium(environ: Mapping[str, str]) -> str:
    """Return the browser's path; raises MissingToolError, which says how to get it."""
    for name in NAMES:
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None:
            return path
    raise MissingToolError("chromium", "(any version)", "not found on PATH", _HOW)


def ensure_chromium(
    environ: Mapping[str, str], reporter: Reporter, *, may_install: bool | None = None
) -> str | None:
    """Return the browser's path, after installing it with apt-get if root is at work.

    Where it can not be installed it says so in one line and returns None: only the browser tests
    need it, and they fail with the same line. Raises StackError when apt-get fails.
    """
    try:
        return find_chromium(environ)
    except MissingToolError as missing:
        root = os.geteuid() == 0 if may_install is None else may_install
        if not root or shutil.which("apt-get", path=environ.get("PATH")) is None:
            reporter.say(f"For the browser tests: {missing}")
            return None
    with reporter.step("Installing chromium for the browser tests"):
        _install({**environ, "DEBIAN_FRONTEND": "noninteractive"})
    return find_chromium(environ)


def _install(environ: Mapping[str, str]) -> None:
    try:
        run_build(_APT, "install chromium", environ=environ)
    except StackError:
        # Most often the package lists are missing or older than the mirror.
        run_build(("apt-get", "update", "--quiet"), "read the package lists", environ=environ)
        run_build(_APT, "install chromium", environ=environ)
