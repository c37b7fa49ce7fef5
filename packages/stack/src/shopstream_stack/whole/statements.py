"""How long the API's database statements took, from the histogram in its /metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shopstream_stack.errors import StackError

NAME: Final = "shopstream_db_statement_seconds"
ANSWER_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Statements:
    """A cumulative histogram over all operations: how many took at most so many seconds."""

    at_most: Mapping[float, float]

    @classmethod
    def read(cls, text: str) -> "Statements":
        """From what /metrics answers. Raises StackError when it has no such histogram."""
        found: dict[float, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{NAME}_bucket":
                    border = float(sample.labels["le"])
                    found[border] = found.get(border, 0.0) + sample.value
        if not found:
            raise StackError(f"the API's metrics have no {NAME}")
        return cls(dict(sorted(found.items())))

    @classmethod
    def of(cls, api: str) -> "Statements":
        """Those of the API at this address until now. Raises StackError."""
        try:
            answer = httpx.get(f"{api}/metrics", timeout=ANSWER_SECONDS_MAX).raise_for_status()
        except httpx.HTTPError as error:
            raise StackError(f"the API does not tell its metrics: {error}") from error
        return cls.read(answer.text)

    def since(self, before: "Statements") -> "Statements":
        """Those after ``before``."""
        return Statements(
            {border: count - before.at_most[border] for border, count in self.at_most.items()}
        )

    @property
    def count(self) -> float:
        return self.at_most[float("inf")]

    def quantile_ms(self, share: float) -> float:
        """At most so long took this share of them; between two borders on a straight line.

        Whether it is above a border is exact. Infinite above the last one, 0 without statements.
        """
        wanted = share * self.count
        if not wanted:
            return 0.0
        for (low, below), (high, upto) in pairwise([(0.0, 0.0), *self.at_most.items()]):
            if upto >= wanted:
                inside = (wanted - below) / (upto - below)
                return 1_000 * (low + (high - low) * inside)
        raise AssertionError  # pragma: no cover - the last border is infinite
