"""Token buckets: bursts up to the quota, then an even share, for a bounded number of callers."""

from dataclasses import dataclass

from shopstream_api.web.limits import WINDOW_SECONDS, Buckets


@dataclass
class Time:
    """Seconds that the test moves."""

    at: float = 1_000.0

    def __call__(self) -> float:
        return self.at


def test_a_caller_may_burst_up_to_the_quota_and_is_then_told_how_long_to_wait() -> None:
    buckets = Buckets(6, now=Time())

    taken = [buckets.take("seller a") for _ in range(7)]

    assert [one.allowed for one in taken] == [True] * 6 + [False]
    assert [one.left for one in taken] == [5, 4, 3, 2, 1, 0, 0]
    # One token comes back every ten seconds, all of them within the window.
    assert taken[-1].retry_seconds == 10
    assert taken[-1].whole_seconds == WINDOW_SECONDS
    assert taken[0].retry_seconds == 0


def test_who_waits_as_told_is_let_in_and_who_does_not_is_not() -> None:
    time = Time()
    buckets = Buckets(6, now=time)
    for _ in range(6):
        buckets.take("seller a")

    time.at += 9.9
    refused = buckets.take("seller a")
    time.at += refused.retry_seconds

    assert not refused.allowed
    assert refused.retry_seconds == 1
    assert buckets.take("seller a").allowed


def test_a_rest_fills_the_bucket_and_never_more() -> None:
    time = Time()
    buckets = Buckets(2, now=time)
    buckets.take("seller a")

    time.at += 10 * WINDOW_SECONDS

    assert [buckets.take("seller a").allowed for _ in range(3)] == [True, True, False]


def test_callers_do_not_share_a_bucket() -> None:
    buckets = Buckets(1, now=Time())

    assert buckets.take("seller a").allowed
    assert buckets.take("address a").allowed
    assert not buckets.take("seller a").allowed


def test_the_caller_that_asked_longest_ago_makes_room() -> None:
    buckets = Buckets(1, now=Time(), bound=2)
    buckets.take("a")
    buckets.take("b")
    buckets.take("a")
    buckets.take("c")

    assert not buckets.take("a").allowed
    assert buckets.take("b").allowed
