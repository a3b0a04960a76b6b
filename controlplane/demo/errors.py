"""What keeps the demo from running, each with what to do about it."""


class DemoError(Exception):
    """What is missing, and how to get it."""
