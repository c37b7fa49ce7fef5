"""What the words of a search stand for: themselves, their beginnings, or what was meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shopstream_api.errors import ValidationFailed

WORDS_MAX: Final = 10
#: Of all trigrams of two words, the share that both have; pg_trgm's threshold too.
SIMILARITY_MIN: Final = 0.3
REPLACEMENTS_MAX: Final = 5

# A word that begins no other is looked for as it is: to gather what begins with a common one takes
# many times as long. The last letter there is marks the end of the range of a beginning's words.
# A candidate for what was meant shares two neighbouring trigrams with the word: an index look-up
# each. From six letters on, one error leaves more alike than the first two letters, which too many
# words share; those alone do not count then. What swaps two neighbouring letters shares few
# trigrams though it is the most usual error: looked up as is. A tsvector counts how many different
# trigrams two words have, sooner than a look at each one.
_MEANT: Final = text(r"""
WITH words AS MATERIALIZED (
    SELECT w.word COLLATE "C" AS word, '  ' || w.word || ' ' AS padded,
        search_trigrams(w.word) AS trigrams,
        array(
            SELECT overlay(w.word PLACING reverse(substr(w.word, at, 2)) FROM at FOR 2)
            FROM generate_series(1, length(w.word) - 1) AS at
        ) AS swapped,
        CASE WHEN length(w.word) < 6 THEN 1 ELSE 2 END AS first,
        length(w.word) BETWEEN 3 AND 40 AND w.word !~ '[0-9]' AS replaceable
    FROM unnest(tsvector_to_array(to_tsvector('simple', search_text(:written)))) AS w (word)
    LIMIT :words
)
SELECT w.word, w.replaceable AND begun = array[w.word] AS whole,
CASE WHEN w.replaceable AND begun = '{}' THEN array(
    SELECT near.word FROM (
        SELECT s.word, 1.0 AS similarity FROM search_words s WHERE s.word = ANY (w.swapped)
        UNION ALL
        SELECT s.word, (cardinality(s.trigrams) + cardinality(w.trigrams) - either.n) / either.n
        FROM generate_series(w.first, length(w.word)) AS at
        JOIN search_words s
        ON s.trigrams @> array[substr(w.padded, at, 3), substr(w.padded, at + 1, 3)],
        LATERAL (
            SELECT length(array_to_tsvector(s.trigrams || w.trigrams))::float8 AS n
        ) AS either
        WHERE s.word !~ '0$'
    ) AS near
    GROUP BY near.word HAVING max(near.similarity) >= :similarity
    ORDER BY max(near.similarity) DESC, near.word LIMIT :replacements
) END AS meant
FROM words w, LATERAL (SELECT array(
    SELECT s.word FROM search_words s
    WHERE s.word >= w.word AND s.word < w.word || chr(1114111) LIMIT 2
)) AS known (begun)
""")


@dataclass(frozen=True, slots=True)
class Matching:
    """Queries in PostgreSQL's tsquery notation; an empty one matches nothing."""

    #: Every word: as the beginning of one, or one of its replacements.
    meant: str
    #: Every word as it was written.
    exact: str
    #: Whether a word is not known, and others stand for it.
    replaced: bool


async def matching(connection: AsyncConnection, written: str) -> Matching:
    """Read a search. Raises ValidationFailed when it has too many words."""
    bounds = {
        "words": WORDS_MAX + 1,
        "similarity": SIMILARITY_MIN,
        "replacements": REPLACEMENTS_MAX,
    }
    found = (await connection.execute(_MEANT, {"written": written, **bounds})).all()
    if len(found) > WORDS_MAX:
        raise ValidationFailed.of("q", "too_many", f"must be at most {WORDS_MAX} words")
    return Matching(
        meant=" & ".join(_any_of(*word) for word in found),
        exact=" & ".join(_quoted(word) for word, *_ in found),
        replaced=any(meant for *_, meant in found),
    )


def _any_of(word: str, whole: bool, meant: Sequence[str] | None) -> str:  # noqa: FBT001 - a column
    if not meant:
        return _quoted(word) if whole else f"{_quoted(word)}:*"
    return f"({' | '.join(_quoted(other) for other in meant)})"


def _quoted(word: str) -> str:
    """A lexeme as itself. Words are letters and digits only; the quotes make sure of it."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
