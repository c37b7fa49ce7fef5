"""The event contract and what two or more services share."""
