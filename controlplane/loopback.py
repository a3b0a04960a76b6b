"""Whether only this machine can reach the application's HTTP port."""

import ipaddress

from ray.serve.context import _get_global_client  # Serve tells its HTTP options to nobody else

from .errors import ConfigError


def check_loopback() -> None:
    """Raise `ConfigError` where an application that asks for no key could be reached from elsewhere."""
    host = str(_get_global_client().http_config.host)
    if not _is_loopback(host):
        raise ConfigError(
            f"open: true serves whoever comes, so it needs http_options.host 127.0.0.1; got {host}. "
            "Set that, or open: false and give out keys with `kvplane tenants`"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
