"""What a command leaves besides its state: events for the log, entries for the audit."""

from collections.abc import Collection
from datetime import datetime

from shopstream_api.outbox.writer import AuditEntry, OutboxEvent
from shopstream_api.principal import RequestContext
from shopstream_shared.clock import Clock, IdSource
from shopstream_shared.events.codec import encode


class Record:
    """Gathers them in the order in which they happened; writes nothing itself."""

    def __init__(self, context: RequestContext, clock: Clock, ids: IdSource) -> None:
        self.context = context
        self.events: list[OutboxEvent] = []
        self.audits: list[AuditEntry] = []
        self._clock = clock
        self._ids = ids

    def another(self) -> "Record":
        """An empty one of the same request."""
        return Record(self.context, self._clock, self._ids)

    def new_id(self) -> str:
        return self._ids.new_id()

    def now(self, after: datetime | None = None) -> datetime:
        """The time of a change; never before ``after``, the thing's last change.

        Ask once the row is locked: then times rise with versions however long the lock took.
        """
        now = self._clock.now()
        return now if after is None or now >= after else after

    def emit(
        self,
        event_type: str,
        *,
        subject: str,
        seller_id: str,
        sequence: int,
        at: datetime,
        data: bytes,
        amount_minor: int | None = None,
        currency: str | None = None,
    ) -> None:
        """Record an event; those of a transaction are published in the order of these calls."""
        event = encode(
            event_type,
            event_id=self.new_id(),
            subject=subject,
            seller_id=seller_id,
            sequence=sequence,
            time=at,
            data=data,
            correlation_id=self.context.correlation_id,
            traceparent=self.context.traceparent,
        )
        self.events.append(OutboxEvent(event, amount_minor, currency))

    def audit(
        self, action: str, *, entity_type: str, entity_id: str, seller_id: str, at: datetime
    ) -> None:
        """Record who did what; shown to the seller by GET /audit."""
        self.audits.append(
            AuditEntry(
                self.new_id(),
                action,
                entity_type,
                entity_id,
                seller_id,
                self.context.request_id,
                at,
            )
        )

    def retract(self, things: Collection[str]) -> None:
        """Forget what was recorded of things that were not written after all, by their ids."""
        if things:
            self.events[:] = [kept for kept in self.events if kept.event.subject not in things]
            self.audits[:] = [kept for kept in self.audits if kept.entity_id not in things]
