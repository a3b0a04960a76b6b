"""The users of embedded servers: one file that all of a folder load, and the secret their passwords come from."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from .redis_keys import PageKeys
from .roles import Role, User, user_of

ADMIN = User("default", ("~*", "&*", "+@all"))

_SECRET_BYTES = 32


class ServerUsers:
    """The supervisor, a user for each role, and replicas for as long as they are not revoked.

    Passwords stay the same for as long as the folder does, so whoever was given a URL can use it behind a restart.
    """

    def __init__(self, folder: Path, roles: Sequence[Role]) -> None:
        self._folder = folder
        self._roles = roles
        self._secret = b""
        self._lines: dict[str, str] = {}

    @property
    def file(self) -> Path:
        return self._folder / "users.acl"

    def open(self) -> None:
        """Make the secret if there is none, and the file anew from it."""
        path = self._folder / "secret"
        if not path.exists():
            _write_secret(path, secrets.token_hex(_SECRET_BYTES))
            self.file.unlink(missing_ok=True)
        self._secret = bytes.fromhex(path.read_text())
        kept = self.file.read_text().splitlines() if self.file.exists() else []
        replica = f"user {user_of('replica').name}-"
        self._lines = {line.split()[1]: line for line in kept if line.startswith(replica)}
        for user in (ADMIN, *map(user_of, self._roles)):
            self._lines[user.name] = user.line(self.password(user.name))
        self._write()

    def password(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()

    def login(self, name: str) -> str:
        """What stands before the host in a URL."""
        return f"{name}:{self.password(name)}@"

    def grant(self, page: PageKeys) -> tuple[User, str]:
        """A replica's user and its password; servers that start from here on know it."""
        user = user_of("replica", page)
        password = self.password(user.name)
        self._lines[user.name] = user.line(password)
        self._write()
        return user, password

    def revoke(self, page: PageKeys) -> User:
        """A replica's user, which servers that start from here on do not know."""
        user = user_of("replica", page)
        self._lines.pop(user.name, None)
        self._write()
        return user

    def _write(self) -> None:
        _write_secret(self.file, "".join(f"{line}\n" for line in self._lines.values()))


def _write_secret(path: Path, text: str) -> None:
    """A file of one's own, whole or not at all: a server that reads half of its users would let in anybody."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
