"""What ends a benchmark early."""


class BenchError(Exception):
    """What went wrong in which run; the command line prints it as it stands."""
