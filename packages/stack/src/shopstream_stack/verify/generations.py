"""Which of a subject's events comes first where topics got more partitions (protocol rule 14).

Everything below a boundary was published before anything above it. What lies between two of a
topic's boundaries is one *generation*; within one a subject keeps to one partition.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from shopstream_shared.boundaries import Boundary
from shopstream_stack.verify.lives import SPAN, real_place
from shopstream_stack.verify.log import Place

#: The offsets [begun, ended) of a partition; generations count from 0, a topic at a time.
GENERATIONS: Final = {
    "topic": "VARCHAR",
    "part": "BIGINT",
    "begun": "BIGINT",
    "ended": "BIGINT",
    "generation": "BIGINT",
}
_OPEN: Final = 2**63 - 1


def generations(
    topic_ids: Mapping[Place, str], boundaries: Collection[Boundary]
) -> Iterator[tuple[str, int, int, int, int]]:
    """The rows of `GENERATIONS`: each offset of each place is in one of them.

    ``topic_ids``: of each place, the id of the topic in that life; ``boundaries``: of every life.
    """
    for place, topic_id in topic_ids.items():
        topic, part = place
        real = real_place(place).partition
        # An earlier life was over before anything of the present one.
        first = 0 if part < SPAN else part // SPAN * SPAN - _OPEN
        # A partition that a boundary does not name was made after it: all in it lies above.
        ends = sorted(
            boundary.ends[real] if real < len(boundary.ends) else 0
            for boundary in boundaries
            if (boundary.topic, boundary.topic_id) == (topic, topic_id)
        )
        for number, (begun, ended) in enumerate(zip([0, *ends], [*ends, _OPEN], strict=True)):
            yield topic, part, begun, ended, first + number
