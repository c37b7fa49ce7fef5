"""Counts by seller, product and event type: a pure fold, and its merge into DynamoDB."""
