"""The operator's key: derived from the master key, so whoever can read the state folder may ask how things stand."""

from pathlib import Path

from ..directory import Keyring

MASTER_FILE = "master.key"


def read_master(state: Path) -> bytes:
    """The key all others derive from. Raises OSError where there is none."""
    return bytes.fromhex((state / MASTER_FILE).read_text().strip())


def operator_key(master: bytes) -> str:
    """What `kvplane status` sends as its bearer token."""
    return Keyring(master).operator_key().hex()
