"""What a request can be refused for."""


class BadFilter(ValueError):
    """A query parameter is not a filter. ``parameter`` names it; the text says what to write."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter
