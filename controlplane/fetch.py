"""Asks the running application over HTTP, with the operator's key that its state folder holds."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from .operator import operator_key, read_master

URL_FILE = "url"  # in the state folder: where `kvplane up` serves
_DEFAULT_URL = "http://127.0.0.1:8000"
_PATIENCE_S = 30

Report = dict[str, Any]  # Any: plain values, as JSON has them


class NotRunning(Exception):
    """No application answers, or not to this key."""


class Refused(Exception):
    """The application says, in its own words, why it does not tell."""


def fetch(state: Path, url: str | None, path: str, body: object = None, patience_s: float = _PATIENCE_S) -> Report:
    """Get a path, or post a body to it. Raises `NotRunning` that says what to do, and `Refused`."""
    where = f"{url or _served_at(state)}{path}"
    try:
        key = operator_key(read_master(state))
    except (OSError, ValueError) as exc:
        raise NotRunning(
            f"the operator's key cannot be read ({exc}); start an application with `kvplane up`, or name its state"
            " folder by --state"
        ) from exc
    data = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(where, data, {"authorization": f"Bearer {key}"})  # the user's own URL
    try:
        with urllib.request.urlopen(request, timeout=patience_s) as answer:
            report: Report = msgspec.json.decode(answer.read())
            return report
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code in (400, 503):
                raise Refused(_message(exc.read())) from exc
        raise NotRunning(f"{where} answers {exc.code}; is it an application with the state folder {state}?") from exc
    except OSError as exc:
        raise NotRunning(f"{where} does not answer ({exc}); start one with `kvplane up`, or name it by --url") from exc


def _served_at(state: Path) -> str:
    path = state / URL_FILE
    return path.read_text().strip() if path.exists() else _DEFAULT_URL


def _message(body: bytes) -> str:
    """What an error in OpenAI's shape says; a proxy's own page as it stands."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body.decode(errors="replace")
