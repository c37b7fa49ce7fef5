"""What the bucket may do to objects by itself (protocol rule 23): never end one of a chain.

Ours: old versions of the hints end after a day, uploads that nobody finished after a week, and the
chains move to a cheaper storage class where one is configured. An operator's rules stand beside or
instead of them, unless they would end chain objects or the older versions that a versioned bucket
keeps of them: then the archive does not start, and says which rule it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
    Transition,
)

from shopstream_analytics.sink import SinkUnavailable
from shopstream_shared.archive.keys import EVENTS, HINTS, ending_rule

ABORT_UPLOADS_DAYS: Final = 7
OLD_HINTS_DAYS: Final = 1

_HINTS_ID: Final = "end-old-hints"
_UPLOADS_ID: Final = "end-stale-uploads"
_MOVE_ID: Final = "move-chains"
_OURS: Final = frozenset({_HINTS_ID, _UPLOADS_ID, _MOVE_ID})
_REFUSED: Final = frozenset({"InvalidArgument", "MalformedXML", "NotImplemented"})


@dataclass(frozen=True, slots=True)
class Move:
    """The storage class that chain objects get when they are so old."""

    storage_class: str
    days: int


def ensure_lifecycle(client: Minio, bucket: str, move: Move | None) -> None:
    """Set our rules where there are none but ours.

    Raises SinkUnavailable for a rule that would end objects of a chain; it is looked for again.
    """
    config = client.get_bucket_lifecycle(bucket)
    rules = [] if config is None else list(config.rules)
    if ending := list(ending_rules(rules)):
        raise SinkUnavailable(f"minio: {'; '.join(ending)}", "refused")
    if any(rule.rule_id not in _OURS for rule in rules):
        # An operator's own rules stand.
        return
    wanted = [_hints_rule(), *([] if move is None else [_move_rule(move)])]
    try:
        _set(client, bucket, [*wanted, _uploads_rule()], rules)
    except S3Error as error:
        if error.code not in _REFUSED:
            raise
        # MinIO ends stale uploads by itself and refuses the rule for it (minio issue 15681).
        _set(client, bucket, wanted, rules)


def ending_rules(rules: Sequence[Rule]) -> Iterator[str]:
    """What is to be said of each rule that would end objects of a chain."""
    for rule in rules:
        expiration, old = rule.expiration, rule.noncurrent_version_expiration
        ends = expiration is not None and (expiration.days or expiration.date)
        if rule.status == ENABLED and (ends or old is not None):
            said = ending_rule(rule.rule_id, _prefix_of(rule))
            if said is not None:
                yield said


def _prefix_of(rule: Rule) -> str:
    chosen = rule.rule_filter
    if chosen is None:
        return ""
    both = chosen.and_operator
    return (chosen.prefix if both is None else both.prefix) or ""


def _set(client: Minio, bucket: str, wanted: list[Rule], there: Sequence[Rule]) -> None:
    if sorted(map(_said, wanted)) != sorted(map(_said, there)):
        client.set_bucket_lifecycle(bucket, LifecycleConfig(wanted))


def _said(rule: Rule) -> tuple[str, str, int]:
    """What tells our rules from each other and from older forms of themselves."""
    move = rule.transition
    if move is None:
        return rule.rule_id or "", "", 0
    return rule.rule_id or "", move.storage_class or "", move.days or 0


def _hints_rule() -> Rule:
    return Rule(
        status=ENABLED,
        rule_filter=Filter(prefix=f"{HINTS}/"),
        rule_id=_HINTS_ID,
        noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=OLD_HINTS_DAYS),
    )


def _uploads_rule() -> Rule:
    return Rule(
        status=ENABLED,
        rule_filter=Filter(prefix=""),
        rule_id=_UPLOADS_ID,
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(
            days_after_initiation=ABORT_UPLOADS_DAYS
        ),
    )


def _move_rule(move: Move) -> Rule:
    return Rule(
        status=ENABLED,
        rule_filter=Filter(prefix=EVENTS),
        rule_id=_MOVE_ID,
        transition=Transition(days=move.days, storage_class=move.storage_class),
    )
