"""The stream's kit: a load generator and a black-box check, for any server of event streams."""
