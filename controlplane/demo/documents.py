"""The texts that the demo asks about: heads of standard library sources, which every Python has."""

import importlib
import inspect

from .errors import DemoError

CHARACTERS = 2800  # about 600 to 900 tokens


def excerpt(module: str) -> str:
    """The first lines of a module's source, docstring first, whole lines up to `CHARACTERS`. Raises `DemoError`."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except (ImportError, OSError, TypeError) as exc:
        raise DemoError(
            f"the demo asks about the source of {module}, which this Python does not have ({exc}); "
            "install the standard library's sources, or use a Python from python.org or your distribution"
        ) from exc
    return source if len(source) <= CHARACTERS else source[: source.rindex("\n", 0, CHARACTERS)]
