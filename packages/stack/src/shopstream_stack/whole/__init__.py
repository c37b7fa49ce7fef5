"""The whole system under load: the load gate, the soak, the way from POST to browser."""
