"""The decision carried out: what the router half hands to the replica half, signed."""

import hashlib
import hmac
from typing import Self

import msgspec

from ..directory import Load
from .engine import EngineRequest, Public, Sampling

_MAC_BYTES = 16


class BadTicket(Exception):
    """A ticket that is unsigned, altered or past its deadline; the request is refused."""


class Declined(msgspec.Struct, frozen=True):
    """What a replica sends back instead of an answer: it has more to do than was supposed when it was chosen."""

    load: Load


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """Who may generate what, where, until when.

    `ranks` are replica ids, best first; empty leaves the choice to Ray. Salts are secrets, so they are never printed.
    """

    id: str  # of the decision
    router: str
    number: int  # rising per router; a replica's load says up to which it counts
    ranks: tuple[str, ...]
    salt: str
    traceparent: str  # of the span that says why, for the replica's own spans to be under
    deadline_s: float  # Unix time
    prompt_blocks: int  # what the ticket may store
    tenant: str = ""  # organisation/workspace; empty: nobody is charged
    issued_s: float = 0.0  # Unix time
    attempt: int = 0  # one more each time it is repeated elsewhere
    published: bool = True  # whether others are to know what it stores
    most_waiting_tokens: int | None = None  # with more, the first of `ranks` declines; None: it takes what comes
    public: Public | None = None  # how much of the prompt is cached under a salt that several tenants share
    mac: bytes = b""

    def __repr__(self) -> str:
        return f"Ticket({self.id}, router={self.router}, number={self.number}, ranks={self.ranks})"

    def signed(self, key: bytes) -> Self:
        """The same ticket with its signature over every other field."""
        return msgspec.structs.replace(self, mac=_mac(self, key))

    def request(self, words: bytes, sampling: Sampling) -> EngineRequest:
        """What an engine is asked."""
        return EngineRequest(self.id, words, self.salt, sampling, self.public)

    def suits(self, replica: str, waiting_tokens: int) -> bool:
        """Whether a replica with so much waiting is to serve it; one that was not the first choice takes what comes."""
        most = self.most_waiting_tokens
        return most is None or waiting_tokens <= most or self.ranks[:1] != (replica,)

    def without(self, replica: str, deadline_s: float, key: bytes) -> Self:
        """The same ticket for anywhere but one replica: what a failed attempt is repeated with."""
        ranks = tuple(rank for rank in self.ranks if rank != replica)
        changes = {"ranks": ranks, "deadline_s": deadline_s, "attempt": self.attempt + 1, "most_waiting_tokens": None}
        return msgspec.structs.replace(self, **changes).signed(key)


def verify(ticket: Ticket, key: bytes, now_s: float) -> None:
    """Raise `BadTicket` unless the control plane signed this ticket and its time has not passed."""
    if not hmac.compare_digest(ticket.mac, _mac(ticket, key)):
        raise BadTicket(f"ticket {ticket.id}: the signature does not verify; only the control plane issues tickets")
    if now_s > ticket.deadline_s:
        raise BadTicket(f"ticket {ticket.id}: {now_s - ticket.deadline_s:.1f} s past its deadline")


def _mac(ticket: Ticket, key: bytes) -> bytes:
    body = msgspec.msgpack.encode(msgspec.structs.replace(ticket, mac=b""))
    return hashlib.blake2b(body, key=key, digest_size=_MAC_BYTES, person=b"kvplane-ticket").digest()
