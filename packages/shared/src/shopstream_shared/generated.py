"""Committed files that are generated: written anew, or held against what would be written."""

import sys
from collections.abc import Iterable
from pathlib import Path


def keep(root: Path, documents: Iterable[tuple[Path, bytes]], arguments: list[str]) -> int:
    """The exit code of a command that keeps these files (paths below ``root``) up to date.

    Without arguments what has drifted is written; with ``--check`` it is named, and the code is 1.
    Raises OSError.
    """
    check = arguments == ["--check"]
    drifted = [
        (path, content)
        for path, content in documents
        if not (root / path).is_file() or (root / path).read_bytes() != content
    ]
    for path, content in drifted:
        sys.stdout.write(f"{'drifted' if check else 'written'}: {path}\n")
        if not check:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    return 1 if check and drifted else 0
