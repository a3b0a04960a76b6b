"""No keys, no strangers."""

from types import SimpleNamespace

import pytest

from kvplane.controlplane import loopback
from kvplane.controlplane.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_on_loopback_no_key_is_needed(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_get_global_client", lambda: _client(host))

    loopback.check_loopback()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "llm.example", "", "None"])
def test_elsewhere_it_is_refused_with_what_to_do(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_get_global_client", lambda: _client(host))

    with pytest.raises(ConfigError, match=r"kvplane tenants"):
        loopback.check_loopback()


def _client(host: str) -> SimpleNamespace:
    return SimpleNamespace(http_config=SimpleNamespace(host=host))
