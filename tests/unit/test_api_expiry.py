"""What the expiry worker remembers of holds that it could not end."""

import uuid

import pytest

from shopstream_api.expiry.worker import FAILED_MAX, RETRY_SECONDS_MAX, Failed


@pytest.mark.parametrize(("times", "seconds"), [(1, 2), (2, 4), (3, 8), (20, RETRY_SECONDS_MAX)])
def test_a_hold_that_fails_again_waits_longer_up_to_a_limit(times: int, seconds: float) -> None:
    failed, hold = Failed(), uuid.uuid4()
    for _ in range(times):
        failed.note(hold, now=100.0)
    assert failed.waiting(100.0 + seconds - 0.1) == [hold]
    assert failed.waiting(100.0 + seconds) == []


def test_a_hold_that_was_ended_is_forgotten() -> None:
    failed, hold = Failed(), uuid.uuid4()
    failed.note(hold, now=0.0)
    failed.forget(hold)
    failed.forget(hold)
    assert failed.waiting(0.0) == []


def test_no_more_than_a_limit_is_remembered_and_the_oldest_is_tried_early() -> None:
    failed = Failed()
    holds = [uuid.uuid4() for _ in range(FAILED_MAX + 5)]
    for hold in holds:
        failed.note(hold, now=0.0)
    assert failed.waiting(0.0) == holds[5:]
