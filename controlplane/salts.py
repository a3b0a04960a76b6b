"""The salts of domains, each with the segment that a prompt of the domain is."""

import secrets
from collections import OrderedDict

from ..directory import Domain, Keyring, Segment, domain_key

_DOMAINS = 10_000  # whose salts are kept: a tenant's own rule may divide it by what clients send
_SALT_BYTES = 32
_ALL_BLOCKS = 1 << 40  # of any prompt


class Salts:
    """For one model. A domain's is derived once, and again where there are many domains."""

    def __init__(self, keyring: Keyring, model: str, block_tokens: int) -> None:
        self._keyring = keyring
        self._model = model
        self._block_tokens = block_tokens
        self._known: OrderedDict[Domain, tuple[str, Segment]] = OrderedDict()

    def of(self, domain: Domain) -> tuple[str, Segment]:
        """A domain's."""
        known = self._known.get(domain)
        if known is None:
            known = self._known[domain] = self._with_segment(self._keyring.salt(domain))
            if len(self._known) > _DOMAINS:
                self._known.popitem(last=False)
        return known

    def one_off(self) -> tuple[str, Segment]:
        """One that nobody has, for what nobody shall find again."""
        return self._with_segment(secrets.token_hex(_SALT_BYTES))

    def _with_segment(self, salt: str) -> tuple[str, Segment]:
        return salt, Segment(domain_key(salt, self._model, "", self._block_tokens), _ALL_BLOCKS)
