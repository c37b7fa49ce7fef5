"""The demo: drives the running system for real and judges what arrived where.

It sees the system only through its public interfaces (REST, SSE, Kafka, DynamoDB, S3, the read
API). What should arrive is worked out by `oracle` from the REST requests and answers alone; what
did arrive is read back by `readback`; `judge` holds the two against each other.
"""
