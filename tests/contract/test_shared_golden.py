"""What is on a log somewhere stays readable: golden files are only ever added."""

import hashlib
import json

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator
from tests.support.events import GOLDEN, GOLDEN_FILES, golden

from shopstream_shared.events.codec import decode, encode, encode_payload, header_map
from shopstream_shared.events.envelope import CONTENT_TYPE, headers_of
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.events.schemas import load_schema, schema_file

REPEATED = ("specversion", "id", "source", "type", "subject", "sellerid", "sequence", "time")


def test_every_type_has_a_golden_file() -> None:
    assert {schema_file(kind) for kind in EVENT_TYPES.values()} <= set(GOLDEN_FILES)


def test_no_golden_file_has_changed() -> None:
    lines = (GOLDEN / "SHA256SUMS").read_text().splitlines()
    recorded = [tuple(line.split("  ")) for line in lines]

    assert recorded == [(hashlib.sha256(golden(name)).hexdigest(), name) for name in GOLDEN_FILES]


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_todays_code_reads_it_and_writes_the_same_bytes(name: str) -> None:
    value = golden(name)
    event = decode(value)
    envelope = event.envelope

    again = encode(
        envelope.type,
        event_id=envelope.id,
        subject=envelope.subject,
        seller_id=envelope.sellerid,
        sequence=event.sequence,
        time=event.time,
        data=encode_payload(event.payload),
        correlation_id=envelope.correlationid,
        traceparent=envelope.traceparent,
    )

    assert again.value == value
    assert again.topic == event.topic == EVENT_TYPES[event.type].topic


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_it_fits_its_schema(name: str) -> None:
    kind = EVENT_TYPES[decode(golden(name)).type]
    validator = Draft202012Validator(
        json.loads(load_schema(kind)), format_checker=Draft202012Validator.FORMAT_CHECKER
    )

    validator.validate(json.loads(golden(name)))


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_the_cloudevents_sdk_reads_it(name: str) -> None:
    ours = decode(golden(name))
    headers = dict(headers_of(ours.envelope))

    theirs = from_structured(
        KafkaMessage(headers=headers, key=None, value=ours.value), JSONFormat()
    )

    assert headers["content-type"].decode() == CONTENT_TYPE
    attributes = theirs.get_attributes()
    assert attributes["time"] == ours.time
    assert attributes["sequence"] == str(ours.sequence)
    assert attributes["id"] == ours.envelope.id
    assert attributes["dataschema"] == EVENT_TYPES[ours.type].schema
    assert theirs.get_data() == json.loads(ours.value)["data"]


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_its_headers_repeat_the_attributes_and_nothing_else(name: str) -> None:
    envelope = decode(golden(name)).envelope
    attributes = json.loads(golden(name))

    headers = header_map(headers_of(envelope))

    expected = {"content-type": CONTENT_TYPE.encode()}
    for attribute in [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "sellerid",
        "sequence",
        "time",
    ]:
        expected[f"ce_{attribute}"] = attributes[attribute].encode()
    if "traceparent" in attributes:
        expected["traceparent"] = attributes["traceparent"].encode()
    assert headers == expected
