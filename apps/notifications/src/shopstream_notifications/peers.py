"""Workers of one port ask each other for their streams: whichever answers, answers for all.

Each listens on a socket in the run folder, which only this user can enter, and which is the only
guard: the token was checked where the request came in. One question, one answer, a line each.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import msgspec

from shopstream_notifications.roster import Page, Roster, Wanted
from shopstream_shared.logs import get_logger

#: A worker that does not answer within this is reported as silent.
ANSWER_SECONDS_MAX: Final = 2.0
#: A page of the largest size is far below it.
LINE_BYTES_MAX: Final = 4 * 1_024 * 1_024
_PREFIX: Final = "roster-"

_log = get_logger(__name__)


class SilentPeer(Exception):
    """The worker is there but gives no answer."""


class Question(msgspec.Struct, frozen=True):
    """One of the two: a page of streams, or the end of one."""

    page: Wanted | None = None
    end: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """To whichever was asked; ``ended`` False: there is no such stream."""

    page: Page | None = None
    ended: bool = False


_encoder: Final = msgspec.json.Encoder()
_questions: Final = msgspec.json.Decoder(Question)
_answers: Final = msgspec.json.Decoder(Answer)


class Peers:
    """``folder`` None: this process is alone."""

    def __init__(self, roster: Roster, folder: Path | None) -> None:
        self._roster = roster
        self._folder = folder

    def workers(self) -> list[int]:
        """All of this port, by their process ids, this one included."""
        found = {self._roster.worker}
        if self._folder is not None:
            names = (path.name.removeprefix(_PREFIX) for path in self._folder.glob(f"{_PREFIX}*"))
            found |= {int(name) for name in names if name.isdigit()}
        return sorted(found)

    async def page(self, worker: int, wanted: Wanted) -> Page:
        """The next streams of a worker, none of one that is gone. Raises SilentPeer."""
        answer = await self._ask(worker, Question(page=wanted))
        return answer.page or Page(rows=[], last=wanted.after, more=False)

    async def end(self, worker: int, number: int) -> bool:
        """End a stream; False when there is none of that number. Raises SilentPeer."""
        return (await self._ask(worker, Question(end=number))).ended

    async def _ask(self, worker: int, question: Question) -> Answer:
        if worker == self._roster.worker or self._folder is None:
            return self._answer(question)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await _exchange(_path(self._folder, worker), question)
        except (FileNotFoundError, ConnectionRefusedError):
            return Answer()  # it has ended since
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise SilentPeer from error

    async def run(self) -> None:
        """Answer the others, for ever; at once done when there are none."""
        if self._folder is None:
            return
        path = _path(self._folder, self._roster.worker)
        path.unlink(missing_ok=True)  # of a process that had our id and was killed
        try:
            server = await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES_MAX)
        except OSError as error:
            # A temporary folder with too long a name, say: streams are worth more than this view.
            _log.warning("stream.roster_closed", error=type(error).__name__)
            return
        try:
            async with server:
                await server.serve_forever()
        finally:
            path.unlink(missing_ok=True)

    def _answer(self, question: Question) -> Answer:
        if question.page is not None:
            return Answer(page=self._roster.page(question.page))
        return Answer(ended=question.end is not None and self._roster.end(question.end))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                question = _questions.decode(await reader.readuntil())
                writer.write(_encoder.encode(self._answer(question)) + b"\n")
                await writer.drain()
        writer.close()


def _path(folder: Path, worker: int) -> Path:
    return folder / f"{_PREFIX}{worker}"


async def _exchange(path: Path, question: Question) -> Answer:
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    try:
        writer.write(_encoder.encode(question) + b"\n")
        return _answers.decode(await reader.readuntil())
    finally:
        writer.close()
