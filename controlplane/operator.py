"""The operator's key: derived from the master key, so whoever can read the state folder may ask how things stand."""

from pathlib import Path

from ..directory import Keyring

MASTER_FILE = "master.key"
ACCOUNTS_FILE = "accounts.url"


def read_master(state: Path) -> bytes:
    """The key all others derive from. Raises OSError where there is none."""
    return bytes.fromhex((state / MASTER_FILE).read_text().strip())


def operator_key(master: bytes) -> str:
    """What `kvplane status` sends as its bearer token."""
    return Keyring(master).operator_key().hex()


def write_secret(path: Path, text: str) -> None:
    """Put a file in place that its owner alone can read: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.rename(path)
