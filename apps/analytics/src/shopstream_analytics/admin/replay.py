"""Take a dead letter in, once this version can read it, under its original offset.

A letter is no event to the aggregates, and their items have gone past its offset, so ``upto``
(protocol rule 20) cannot say whether it is in. Here each item's addition and a marker of its own
are one transaction: the marker is there or the addition is not. So an item takes a letter once,
whatever crashes or is repeated, in as many calls as it needs; an order of 100 lines touches more
items than one transaction carries. RecentEvents is put by id. A last marker says that all is done.

Only what the aggregates' checkpoint has passed is taken: before, the worker may read the record
itself. An item whose ``upto`` is the very offset shows that it has.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from botocore.exceptions import ClientError

from shopstream_analytics.admin.letters import DeadLetter, LetterBox
from shopstream_analytics.aggregates.fold import Gain, ItemKey, fold
from shopstream_analytics.aggregates.generations import Generations
from shopstream_analytics.aggregates.keys import keys_of
from shopstream_analytics.checkpoints import Checkpoints
from shopstream_analytics.consumer.batch import Source
from shopstream_analytics.dynamo import as_unavailable, error_code
from shopstream_analytics.events import DecodedEvent, EventRejected, read_event
from shopstream_analytics.recent import item_of
from shopstream_analytics.recent_index import RecentIndexes
from shopstream_shared.clock import Clock, SystemClock, format_time
from shopstream_shared.generations import replayed_key, source_name

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: Items at a time.
ITEMS_IN_FLIGHT_MAX: Final = 4
Place = dict[str, dict[str, str]]
_REFUSED: Final = "ConditionalCheckFailed"


class NoSuchLetter(Exception):
    """No letter names this record."""


class StillUnreadable(Exception):
    """This version cannot read the record either."""


class NotSettled(Exception):
    """The aggregates' worker has not passed the record."""


class AlreadyCounted(Exception):
    """The worker has counted the event itself."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was taken in. ``items``: aggregate items that took it in this call."""

    letter: DeadLetter
    event: DecodedEvent
    items: int

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.letter.source.topic,
            "partition": self.letter.source.partition,
            "offset": self.letter.offset,
            "eventId": self.event.envelope.id,
            "eventType": self.event.type,
            "items": self.items,
        }


class MadeByRebuild(Exception):
    """These aggregates were made from the archive, with whatever could be read then."""


@dataclass(frozen=True, slots=True)
class Replays:
    """Replays into the generation of the aggregates that is in use."""

    letters: LetterBox
    client: "DynamoDBClient"
    generations: Generations
    recent_table: str
    indexes: RecentIndexes
    clock: Clock = field(default_factory=SystemClock)

    async def replay(self, source: Source, offset: int, life: int | None = None) -> Replayed:
        """Raises what stands above, and SinkUnavailable; then the same call may come again.

        ``life``: the letter's epoch, None for the topic's present one, which is all that is taken.
        """
        generation = await self.generations.current()
        noted = await generation.checkpoints.noted(source.topic)
        epoch = 0 if noted is None else noted.epoch
        if life not in {None, epoch}:
            raise NoSuchLetter(
                f"{source} is in epoch {epoch}; what is of another one is counted by a rebuild."
            )
        letter = await asyncio.to_thread(self.letters.find, source, offset, epoch)
        if letter is None:
            raise NoSuchLetter(f"There is no dead letter of {source} at offset {offset}.")
        try:
            event = read_event(letter.value)
        except EventRejected as error:
            raise StillUnreadable(f"{error.reason}: {error}") from error
        marker = await _settled_marker(generation.checkpoints, source, offset)
        items = Source(source_name(source.topic, epoch), source.partition)
        target = _Target(self.client, generation.table, generation.checkpoints.table, marker)
        gains = fold([(offset, event)])
        if generation.number:
            # What it has not counted by itself lies among items that nobody can add to safely.
            if not await target.is_done():
                raise MadeByRebuild("`shopstream archive rebuild --swap` counts what can be read.")
            gains = {}
        await target.refuse_counted(items, gains, offset)
        flights = asyncio.Semaphore(ITEMS_IN_FLIGHT_MAX)

        async def add(key: ItemKey, gain: Gain) -> bool:
            async with flights:
                return await target.add(items, key, gain)

        added = await asyncio.gather(*(add(key, gain) for key, gain in gains.items()))
        with as_unavailable("dynamodb"):
            await self.client.put_item(
                TableName=self.recent_table, Item=item_of(event, self.indexes)
            )
            await self.client.put_item(
                TableName=generation.checkpoints.table,
                Item={
                    "pk": {"S": marker},
                    "eventId": {"S": event.envelope.id},
                    "at": {"S": format_time(self.clock.now())},
                },
            )
        return Replayed(letter, event, sum(added))


@dataclass(frozen=True, slots=True)
class _Target:
    """The items, and where the markers lie; ``marker`` begins those of one letter."""

    client: "DynamoDBClient"
    table: str
    markers: str
    marker: str

    async def is_done(self) -> bool:
        """Whether all is counted: by a replay, or by the rebuild that made the items."""
        return await self._get(self.markers, {"pk": {"S": self.marker}}) is not None

    async def refuse_counted(self, source: Source, keys: Iterable[ItemKey], offset: int) -> None:
        """Raises AlreadyCounted when an item ends at the offset and not by a replay."""

        async def counted(key: ItemKey) -> bool:
            place = _place(key, source)
            item = await self._get(self.table, place)
            if item is None or int(item.get("upto", {}).get("N", -1)) != offset:
                return False
            own = {"pk": {"S": _marker_of(self.marker, place)}}
            return await self._get(self.markers, own) is None

        if any(await asyncio.gather(*map(counted, keys))):
            raise AlreadyCounted("The worker could read the record when it came to it.")

    async def add(self, source: Source, key: ItemKey, gain: Gain) -> bool:
        """Whether the item took it now. ``upto`` follows where it is below."""
        place = _place(key, source)
        for condition, following in (
            ("attribute_not_exists(upto) OR upto < :offset", " SET upto = :offset"),
            ("upto > :offset", ""),
        ):
            refused = await self._try(place, gain, condition, following)
            if not any(refused):
                return True
            if refused[0]:
                return False
        # Only an item that came to the offset between the look and now refuses both.
        raise AlreadyCounted("The worker could read the record when it came to it.")

    async def _try(
        self, place: Place, gain: Gain, condition: str, following: str
    ) -> tuple[bool, bool]:
        """Marker and addition, both or none; whether the condition of each refused it."""
        names = {f"#c{number}": name for number, name in enumerate(gain.delta)}
        amounts = {f":c{n}": {"N": str(amount)} for n, amount in enumerate(gain.delta.values())}
        added = ", ".join(f"#c{number} :c{number}" for number in range(len(gain.delta)))
        actions: Any = [
            {
                "Put": {
                    "TableName": self.markers,
                    "Item": {"pk": {"S": _marker_of(self.marker, place)}},
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            },
            {
                "Update": {
                    "TableName": self.table,
                    "Key": place,
                    "UpdateExpression": f"ADD {added}{following}",
                    "ConditionExpression": condition,
                    "ExpressionAttributeNames": names,
                    "ExpressionAttributeValues": {**amounts, ":offset": {"N": str(gain.first)}},
                }
            },
        ]
        with as_unavailable("dynamodb"):
            try:
                await self.client.transact_write_items(
                    TransactItems=actions, ClientRequestToken=str(uuid4())
                )
            except ClientError as error:
                reasons: Any = error.response.get("CancellationReasons", ())
                codes = [reason.get("Code") == _REFUSED for reason in reasons]
                if error_code(error) != "TransactionCanceledException" or not any(codes):
                    raise
                return codes[0], codes[1]
        return False, False

    async def _get(self, table: str, key: Place) -> dict[str, Any] | None:
        with as_unavailable("dynamodb"):
            answer = await self.client.get_item(TableName=table, Key=key, ConsistentRead=True)
        item = answer.get("Item")
        return None if item is None else dict(item)


async def _settled_marker(checkpoints: Checkpoints, source: Source, offset: int) -> str:
    """The key of the marker that says that all is done. Raises NotSettled."""
    noted = await checkpoints.noted(source.topic)
    passed = None if noted is None else await checkpoints.read(source, noted.id)
    if noted is None or passed is None or passed <= offset:
        raise NotSettled(f"The aggregates are at offset {passed or 0} of {source}.")
    return replayed_key(checkpoints.consumer, source.topic, noted.id, source.partition, offset)


def _place(key: ItemKey, source: Source) -> Place:
    partition, sort = keys_of(key, source)
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def _marker_of(marker: str, place: Place) -> str:
    """A hash, because the keys together may be longer than a key can be."""
    keys = "\0".join((place["pk"]["S"], place["sk"]["S"]))
    return f"{marker}#{blake2b(keys.encode(), digest_size=16).hexdigest()}"
