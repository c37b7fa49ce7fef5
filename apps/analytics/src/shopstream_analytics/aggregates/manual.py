"""docs/metrics.md, generated from the definitions.

``python -m shopstream_analytics.aggregates.manual [--check]`` in a checkout writes it, or with
--check exits 1 when it has drifted.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from shopstream_analytics.aggregates.definitions import DERIVED, STORED, Dimension, Stored
from shopstream_shared.generated import keep

PATH: Final = Path("docs/metrics.md")

_HEAD: Final = """# Metrics

Generated from `apps/analytics/src/shopstream_analytics/aggregates/definitions.py` by `make schemas`.

All are kept by UTC hour and day of the event's own time, except products, which are kept by hour (a reader adds up their days), and a seller's products, which are kept by day. An item belongs to one source partition; whoever reads adds up all of them ([ADR 29](adr/0029-metrics-as-data-and-one-pass-merges.md)). Money is in whole minor units, by currency.

*Partition time* is the greatest time of the events at lower offsets of the same partition, without those that are or may still prove to be ahead of it. A record with a dead letter has no part in it and is never late or ahead, also once it is replayed ([ADR 39](adr/0039-what-the-consumers-rest-on-and-letters-that-stand.md)).
"""  # noqa: E501 - prose of a page, not code
_SERIES: Final[dict[Dimension, str]] = {
    "seller": "seller",
    "product": "product",
    "all": "all",
    "sellerProduct": "seller's product",
}


def manual() -> str:
    """The page."""
    stored = _table(
        ("counter", "unit", "added by", "adds", "kept for"), (_stored(metric) for metric in STORED)
    )
    derived = _table(
        ("number", "unit", "is", "formula", "of"),
        (
            (_code(one.name), one.unit, one.meaning, one.formula, _series(one.dimensions))
            for one in DERIVED
        ),
    )
    return f"{_HEAD}\n## Kept\n{stored}\n## Worked out when read\n{derived}"


def _stored(metric: Stored) -> Sequence[str]:
    counter = _code(metric.counter + metric.per)
    return counter, metric.unit, _cause(metric), metric.meaning, _series(metric.dimensions)


def _cause(metric: Stored) -> str:
    if metric.marked:
        return "order of the log"
    return ", ".join(map(_code, metric.types)) or "every event"


def _series(dimensions: Sequence[Dimension]) -> str:
    return ", ".join(_SERIES[dimension] for dimension in dimensions)


def _code(text: str) -> str:
    return f"`{text}`"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: list[str], root: Path | None = None) -> int:
    """Write or check below ``root``, this checkout when None; see the module's docstring."""
    documents = [(PATH, manual().encode())]
    return keep(root or Path(__file__).parents[5], documents, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
