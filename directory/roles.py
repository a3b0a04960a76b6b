"""What each part of the application may do in Redis, as rules of its access control list.

Scripts run with the caller's rights, so these rules are the wall. EVAL and EVALSHA count as writes of their keys
whatever their script does: where keys may only be read, a selector allows the two, and nothing else, beside the rest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .redis_keys import PageKeys

Role = Literal["registrar", "router", "replica", "accounts-router", "accounts-replica", "accounts-operator"]

ROLES: tuple[Role, ...] = get_args(Role)

_PAGES = "{kv:*}:*"
_REGISTRY = "{kvplane:accounts}:*"
_BUCKETS = ("~{kvplane:*}:bucket", "~{kvplane:*}:claims")
_USAGE = "{kvplane:usage:*}*"

_NOTHING = ("resetchannels", "-@all")
_CONNECT = ("+ping", "+select", "+client|setname", "+cluster|slots", "+asking")
_SCRIPTS = ("+eval", "+evalsha")  # no SCRIPT LOAD: EVAL loads a script too
_USERS = tuple(f"+acl|{verb}" for verb in ("setuser", "deluser", "getuser", "users", "list", "whoami", "save"))

_READ_PAGES = (f"%R~{_PAGES}", "+get", "+strlen", "+xrange", "+xread", "+memory|usage", f"(~{_PAGES} +eval +evalsha)")
_WRITE_PAGE = ("+hmget", "+hset", "+getrange", "+set", "+xadd", "+xtrim", "+exists", "+del", "+pexpire", *_SCRIPTS)
_READ_REGISTRY = (f"%R~{_REGISTRY}", "+get", "+hgetall", f"(~{_REGISTRY} +eval +evalsha)")
_USE_BUCKETS = (*_BUCKETS, "+set", "+del", "+hset", "+hdel", "+pexpireat", "+time", *_SCRIPTS)
_WRITE_REGISTRY = (f"~{_REGISTRY}", "+get", "+incr", "+hget", "+hgetall", "+hkeys", "+hexists", "+hset", "+hdel")
_READ_USAGE = (f"%R~{_USAGE}", "+hscan")

_RULES: Mapping[Role, tuple[str, ...]] = {
    "registrar": (*_READ_PAGES, *_USERS),  # who may set users may set itself free: only the registrar has this one
    "router": _READ_PAGES,
    "replica": _WRITE_PAGE,
    "accounts-router": (*_READ_REGISTRY, *_USE_BUCKETS),
    "accounts-replica": (f"%W~{_USAGE}", "+hsetnx"),
    "accounts-operator": (*_WRITE_REGISTRY, *_READ_USAGE, *_SCRIPTS),
}


@dataclass(frozen=True, slots=True)
class User:
    """A name and what it may do. Its password is handed in where that is written down, and only as a hash."""

    name: str
    rules: tuple[str, ...]

    def words(self, password: str) -> tuple[str, ...]:
        """What follows the name: a user that was there before may do no more than this either."""
        return "reset", "on", f"#{hashlib.sha256(password.encode()).hexdigest()}", *self.rules

    def line(self, password: str) -> str:
        """For a server's ACL file."""
        return " ".join(("user", self.name, *self.words(password)))

    def command(self, password: str) -> str:
        """For redis-cli, on every node: users are not replicated."""
        words = (f'"{word}"' if " " in word else word for word in self.words(password))
        return " ".join(("ACL", "SETUSER", self.name, *words))


def user_of(role: Role, page: PageKeys | None = None) -> User:
    """The user of a role. A replica's may write the page it is given here; without one, the pages of all replicas."""
    if role != "replica":
        return User(f"kvplane-{role}", (*_NOTHING, *_CONNECT, *_RULES[role]))
    name = "kvplane-replica" if page is None else f"kvplane-replica-{page.holder}"
    keys = (_PAGES,) if page is None else page.all
    return User(name, (*_NOTHING, *_CONNECT, *(f"~{key}" for key in keys), *_RULES[role]))
