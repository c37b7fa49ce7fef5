"""The AsyncAPI 3 document: who sends and receives what, on which topic, in what shape.

Built from the registry, topics.toml and the event schemas; the Kafka bindings are those of the
production profile. The browser stream carries the same messages and is described in the README.
"""

from typing import Any, Final

from shopstream_shared.events.envelope import CONTENT_TYPE
from shopstream_shared.events.json_schema import envelope_schema, payload_schemas
from shopstream_shared.events.registry import EVENT_TYPES, EventType
from shopstream_shared.topics import (
    CANARY,
    DEAD_LETTER,
    RELAY_PROGRESS,
    STREAM_TOPICS,
    TopicSpec,
    load_topics,
)

ASYNCAPI_VERSION: Final = "3.0.0"
KAFKA_BINDING_VERSION: Final = "0.5.0"
#: The content type of records that are JSON but no CloudEvents.
_JSON: Final = "application/json"
_READERS: Final = (
    ("notifications", "Send the events to browsers.", STREAM_TOPICS),
    ("aggregates", "Count and sum them per seller, product and type.", STREAM_TOPICS),
    ("recent", "Keep the newest in a table.", STREAM_TOPICS),
    ("archive", "Keep all of them, byte for byte.", STREAM_TOPICS),
)

Document = dict[str, Any]


def asyncapi_document() -> Document:
    """The whole document."""
    data, schemas = payload_schemas("#/components/schemas/{name}")
    production, local = load_topics("production"), load_topics("local")
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Shopstream events",
            "version": "1.0.0",
            "description": (
                "Every committed change is one CloudEvent. Order and sequence hold per topic and "
                "subject. Read with isolation level read_committed."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "local": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "The broker of the local stack or of docker-compose.yml.",
            }
        },
        "channels": {
            _name(topic): _channel(spec, local[topic]) for topic, spec in production.items()
        },
        "operations": _operations(),
        "components": {
            "messages": {
                kind.name: _message(kind, data[kind.name]) for kind in EVENT_TYPES.values()
            }
            | {
                "dead-letter": _dead_letter(),
                "relay-progress": _relay_progress(),
                "canary": _canary(),
            },
            "schemas": schemas,
            "messageTraits": {"routing-headers": {"headers": _routing_headers()}},
        },
    }


def _name(topic: str) -> str:
    return topic.replace(".", "-")


def _message_names(topic: str) -> list[str]:
    own = {
        DEAD_LETTER: ["dead-letter"],
        RELAY_PROGRESS: ["relay-progress"],
        CANARY: ["canary"],
    }
    return own.get(topic) or [kind.name for kind in EVENT_TYPES.values() if kind.topic == topic]


def _channel(spec: TopicSpec, local: TopicSpec) -> Document:
    return {
        "address": spec.name,
        "description": f"Key: {spec.key}. Local profile: {local.partitions} partitions.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(spec.name)
        },
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "replicas": spec.replication,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if spec.compacted else "delete"],
                    "retention.ms": spec.retention_ms,
                },
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        },
    }


def _operations() -> Document:
    operations: Document = {
        f"api.send.{_name(topic)}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{_name(topic)}"},
            "summary": "The relay, one Kafka transaction a batch.",
        }
        for topic in (*STREAM_TOPICS, RELAY_PROGRESS)
    }
    for reader, summary, topics in _READERS:
        for topic in topics:
            operations[f"{reader}.receive.{_name(topic)}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{_name(topic)}"},
                "summary": summary,
            }
    operations[f"aggregates.send.{_name(DEAD_LETTER)}"] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{_name(DEAD_LETTER)}"},
        "summary": "One copy of each record that could not be read.",
    }
    for action in ("send", "receive"):
        operations[f"notifications.{action}.{_name(CANARY)}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{_name(CANARY)}"},
            "summary": "Each process to itself, to see that events come through.",
        }
    return operations


def _message(kind: EventType, data: Document) -> Document:
    return {
        "name": kind.name,
        "title": kind.name,
        "contentType": CONTENT_TYPE,
        "payload": envelope_schema(kind, data),
        "traits": [{"$ref": "#/components/messageTraits/routing-headers"}],
        "bindings": _key_binding("The subject."),
    }


def _routing_headers() -> Document:
    names = ("specversion", "id", "source", "type", "subject", "sellerid", "sequence", "time")
    properties: Document = {"content-type": {"const": CONTENT_TYPE}}
    properties |= {f"ce_{name}": {"type": "string"} for name in names}
    return {
        "type": "object",
        "description": "The attributes again, so that routing decodes nothing.",
        "properties": properties | {"traceparent": {"type": "string"}},
        "required": list(properties),
    }


def _dead_letter() -> Document:
    text = {"type": "string"}
    return {
        "name": "dead-letter",
        "title": "A record that could not be read, key and value unchanged",
        "contentType": "application/octet-stream",
        "payload": {},
        "headers": {
            "type": "object",
            "description": "The record's own headers, then these.",
            "properties": {
                "dlq_reason": {"enum": ["too_large", "malformed", "unknown_type", "invalid_data"]},
                "dlq_detail": text,
                "dlq_topic": text,
                "dlq_partition": text,
                "dlq_offset": text,
                "dlq_group": text,
            },
        },
        "bindings": _key_binding("The key of the record."),
    }


def _relay_progress() -> Document:
    return {
        "name": "relay-progress",
        "title": "Which outbox rows are on the log but perhaps not deleted yet; internal",
        "contentType": _JSON,
        "payload": {"type": "object"},
        "bindings": _key_binding("Transactional id of the relay's shard, a slash, outbox id."),
    }


def _canary() -> Document:
    return {
        "name": "canary",
        "title": "A process's name and a number; internal",
        "contentType": "text/plain",
        "payload": {"type": "string"},
    }


def _key_binding(description: str) -> Document:
    return {
        "kafka": {
            "key": {"type": "string", "description": description},
            "bindingVersion": KAFKA_BINDING_VERSION,
        }
    }
