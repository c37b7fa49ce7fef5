"""The generated parts of a page whose prose is written by hand, each between two marks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from shopstream_stack.errors import StackError
from shopstream_stack.process import write_atomically

MARK_BEGIN: Final = "<!-- {} -->"
MARK_END: Final = "<!-- end of {} -->"


def put(path: Path, mark: str, text: str) -> None:
    """Replace what is between a page's marks; where there is no page, one with this part alone.

    Raises StackError when the page has no such marks, and OSError.
    """
    begin, end = MARK_BEGIN.format(mark), MARK_END.format(mark)
    if not path.exists():
        write_atomically(path, f"{begin}\n{text}{end}\n")
        return
    require(path, [mark])
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    write_atomically(path, f"{before}{begin}\n{text}{end}{after}")


def require(path: Path, marks: Iterable[str]) -> None:
    """Raises StackError when a page that is there lacks one of these pairs, and OSError.

    For who has an hour's work to do before the page is written.
    """
    if not path.exists():
        return
    page = path.read_text(encoding="utf-8")
    for mark in marks:
        begin, end = MARK_BEGIN.format(mark), MARK_END.format(mark)
        if end not in page.partition(begin)[2]:
            raise StackError(f"{path} has no {begin} with an {end} after it; add them")
