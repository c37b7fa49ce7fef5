"""The event contract: one encoding from the database row to the archive.

An event is serialised once, when the state changes. The outbox row, the Kafka value, the ``data:``
of the browser stream and the event in the archive line are the same bytes; nobody downstream
encodes again. Inside a version only additive change is allowed, and a consumer ignores fields it
does not know.
"""
