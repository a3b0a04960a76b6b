"""Users for an operator's own Redis: the rules of each, and its URL, with its password, in a file of one's own."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..directory import HolderId
from ..directory.connect import check_url
from ..directory.redis_keys import page_keys
from ..directory.roles import Role, User, user_of
from .errors import ConfigError
from .operator import write_secret

DIRECTORY_ROLES: tuple[Role, ...] = ("registrar", "router", "replica")

_PASSWORD_BYTES = 32

HOW_TO_APPLY = """\
Users are not replicated: have every node of the Redis (7.0 or later) set them, as an administrator, over a pipe,
  kvplane directory acl ... | redis-cli -u rediss://NODE:6379 --user ADMIN --askpass
and keep them with ACL SAVE, or CONFIG REWRITE where there is no ACL file. Or, with --acl-file, add the lines to every
node's ACL file and run ACL LOAD. Once all who use it have a user, `ACL SETUSER default off` shuts out everybody else.

Their URLs, passwords included, are in {folder}, readable by you alone. Name them in settings as
`url: file:/path` or `url: env:NAME`, never in full. Outside one machine use TLS: rediss:// or rediss+cluster://, with
?ssl_ca_certs=/path for an authority of your own."""


@dataclass(frozen=True, slots=True)
class Access:
    """What an operator gives one user."""

    role: Role
    user: str
    command: str  # for redis-cli
    line: str  # for an ACL file
    url_file: Path


def accesses(redis: str, roles: Sequence[Role], holder: HolderId | None, shards: int, folder: Path) -> list[Access]:
    """Make each user's URL, or keep the password of the one that is there. Raises `ConfigError` and `BadUrl`."""
    if "@" in redis:
        raise ConfigError("--redis takes a URL without user and password: each user gets its own")
    check_url(redis)
    page = None if holder is None else page_keys(holder, shards)
    return [_access(redis, role, user_of(role, page), folder) for role in roles]


def _access(redis: str, role: Role, user: User, folder: Path) -> Access:
    path = folder.absolute() / f"{user.name}.url"
    password = _password_in(path) or secrets.token_hex(_PASSWORD_BYTES)
    write_secret(path, redis.replace("://", f"://{user.name}:{password}@", 1))
    return Access(role, user.name, user.command(password), user.line(password), path)


def _password_in(path: Path) -> str | None:
    return urlsplit(path.read_text().strip()).password if path.exists() else None
