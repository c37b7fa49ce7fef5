"""What keeps a command about topics from doing its work."""


class Refused(Exception):
    """Nothing was changed; the text says why, and what would help."""
