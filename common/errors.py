"""The base of every error a user can cause and mend."""


class KitError(Exception):
    """Its message says what was found, what was expected and what to do; commands print it without a traceback."""
