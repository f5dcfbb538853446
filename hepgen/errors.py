"""The one exception a user is meant to read."""

__all__ = ["HepgenError"]


class HepgenError(Exception):
    """Bad input or settings: says what was wrong, where, and what to do about it.

    The command line prints the message alone, without a traceback, and exits with status 1.
    """
