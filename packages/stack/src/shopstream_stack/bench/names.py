"""The benchmarks by name, for who must not load all that they measure with."""

from typing import Final, Literal

#: Name → what it measures, as the first words of its help. `benches.py` has each of them.
NAMES: Final = {
    "api": "The API against pgbench",
    "relay": "The relay against a loop without transactions",
    "sse": "The event stream beside a stock server",
    "analytics": "The analytics workers beside bare loops and Quix Streams",
    "e2e": "The way from a POST to a hundred browsers",
}
#: Of these there is one size, the one that is promised.
UNSIZED: Final = frozenset({"e2e"})
#: `full` counts; `quick` is short and judges correctness only; `sizes` is cost against size alone,
#: in processor time where there is a unit of work: it needs no idle machine.
Form = Literal["full", "quick", "sizes"]
