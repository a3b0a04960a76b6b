"""The decision, without Ray: who could serve this prompt at what cost, and the ticket for the best of them.

Nothing here may cost a request: a directory or a policy that raises is counted and named in the reason, and the
request goes on with less knowledge.
"""

import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..directory import Domain, HolderId, Keyring, Load, Prefix, Segment
from ..directory.wire import Served
from ..policies import Candidate, Choice, Outcome, Policy, ReplicaId, RoutedRequest, ranked, waits_at_most
from ..policies.field import HELD, Field
from ..workers import Public, Ticket
from .confinement import allowed
from .decision import Decision
from .public import Lead
from .salts import Salts
from .sight import Sight
from .tenants import label
from .write_limit import WITHIN, Budget, Verdict

log = logging.getLogger(__name__)

NOBODY = "no replica is known"
LEFT_TO_RAY = "left to Ray"
_REPEAT_S = 30.0
_RANKS = 16  # a thousand would be most of what a request carries; the seam shuffles all others behind these
_AWAITED = 10_000  # decisions kept until their outcome comes


Seen = tuple[Sequence[Candidate], str]  # and why nothing is known of them
Narrow = Callable[[Sequence[Candidate]], Sequence[Candidate]]  # those that may be chosen, for other reasons than cost


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has been let in: whose it is and what it wants continued."""

    domain: Domain
    words: bytes
    max_tokens: int
    traceparent: str | None
    deadline_s: float  # Unix time
    affinity: int = 0  # see `RoutedRequest`
    budget: Budget | None = None  # of its tenant's write limit; None: there is none
    public: Lead | None = None  # what its prompt begins with that its tenant shares with others


class Decider:
    """One per router process. `policy` None leaves every choice to Ray."""

    def __init__(
        self,
        router: str,
        model: str,
        block_tokens: int,
        keyring: Keyring,
        sight: Sight,
        policy: Policy | None,
        policy_name: str,
        clock_ns: Callable[[], int] = time.time_ns,
        narrow: Narrow | None = None,
    ) -> None:
        self._router = router
        self._model = model
        self._block_tokens = block_tokens
        self._ticket_key = keyring.ticket_key()
        self._sight = sight
        self._policy = policy
        self._policy_name = policy_name
        self._clock_ns = clock_ns
        self._narrow = narrow
        self._salts = Salts(keyring, model, block_tokens)
        self._decisions = 0
        self._ahead: tuple[Asked, int, Seen] | None = None  # what was seen for which decision's request
        self._awaited: OrderedDict[str, tuple[Ticket, Choice | None, int]] = OrderedDict()
        self.failures: Counter[str] = Counter()  # what raised and was survived

    def decide(self, asked: Asked) -> Decision:
        """Choose once. For want of knowledge it never raises: with no replica known there is no choice.

        Raises `ApiError` for a request that its tenant's write limit refuses.
        """
        at_ns, started = self._clock_ns(), time.perf_counter_ns()
        self._decisions += 1
        candidates, blind = self._look(asked)
        request = RoutedRequest(
            prompt_tokens=len(asked.words) // 4,
            max_tokens=asked.max_tokens,
            block_tokens=self._block_tokens,
            affinity=asked.affinity,
            at_s=at_ns / 1e9,
        )
        candidates, verdict = self._allowed(asked, candidates)
        choice, reason = self._choose(request, candidates)
        own = verdict.answer != "bypass"  # under another salt nobody has promised anything
        reason = "; ".join(part for part in (blind, _said(verdict), reason) if part)
        decision = Decision(
            id=secrets.token_hex(8),
            at_ns=at_ns,
            took_us=(time.perf_counter_ns() - started) / 1e3,
            tenant=label(asked.domain),
            model=self._model,
            router=self._router,
            policy=self._policy_name,
            request=request,
            candidates=candidates,
            choice=choice,
            reason=reason,
            directory_age_ms=self._sight.age_ms(choice.replica) if choice and not blind else 0.0,
            traceparent=asked.traceparent,
            over_limit=None if verdict.answer == "within" else verdict.answer,
            claimed_tokens=self._sight.claimed(choice.replica) if choice and not blind and own else 0,
        )
        if asked.budget is not None and verdict.charged:
            asked.budget.charge(decision.id, decision.predicted_cached_tokens)
        return decision

    def held_tokens(self, asked: Asked) -> int:
        """The most tokens of a prompt that any replica is believed to hold; its decision looks no second time."""
        decision = self._decisions + 1
        seen = self._candidates(self._prefix(asked), decision)
        self._ahead = asked, decision, seen
        if not seen[0]:
            return 0
        field = Field.of(seen[0])
        return int((np.maximum.reduce(field.numbers[HELD]) * field.known).max())

    def issue(self, decision: Decision, asked: Asked, traceparent: str, firm: bool = False) -> Ticket:
        """The ticket that carries a decision out; without a choice its ranks are empty. It is load until it ends.

        One that is `firm` stands whatever the replica has to do.
        """
        choice, chosen, bypass = decision.choice, decision.chosen, decision.over_limit == "bypass"
        salt, segments, public = self._parts(asked, bypass)
        prompt_blocks = -(-decision.request.prompt_tokens // self._block_tokens)
        number, most_waiting = 0, None
        ranks: tuple[ReplicaId, ...] = ()
        if choice is not None and chosen is not None:
            uncached = decision.request.prompt_tokens - decision.predicted_cached_tokens
            prefix = Prefix(asked.words, self._block_tokens, segments)
            number = self._sight.overlay.issue(HolderId(choice.replica), uncached, prompt_blocks, prefix)
            ranks = ranked(choice, _RANKS)
            if not firm:
                most_waiting = waits_at_most(choice, ranks, chosen.waiting_prefill_tokens)
        ticket = Ticket(
            id=decision.id,
            router=self._router,
            number=number,
            ranks=ranks,
            salt=salt,
            traceparent=traceparent,
            deadline_s=asked.deadline_s,
            prompt_blocks=prompt_blocks,
            tenant=decision.tenant,
            issued_s=decision.at_ns / 1e9,
            published=not bypass,
            most_waiting_tokens=most_waiting,
            public=public,
        ).signed(self._ticket_key)
        self._await(ticket, decision)
        return ticket

    def repeat(self, ticket: Ticket, without: str) -> Ticket:
        """The ticket for another attempt, anywhere but where it failed; the decision stands.

        Its deadline may have passed long ago in an answer that streams, so the next replica gets a little time.
        """
        self._sight.overlay.withdraw(ticket.number)
        deadline_s = max(ticket.deadline_s, self._clock_ns() / 1e9 + _REPEAT_S)
        return ticket.without(without, deadline_s, self._ticket_key)

    def declined(self, ticket: Ticket, load: Load, budget: Budget | None) -> None:
        """Take a decision back whose replica, having more to do than was supposed, declined."""
        self._awaited.pop(ticket.id, None)
        self.ended(ticket)
        self._sight.overlay.withdraw(ticket.number)
        self._sight.mirror.hear(HolderId(ticket.ranks[0]), load)
        if budget is not None:
            budget.cancel(ticket.id)

    def ended(self, ticket: Ticket) -> None:
        """The request is over for this router, however it went."""
        self._sight.overlay.settle(ticket.number)

    @property
    def awaiting(self) -> int:
        """Decisions whose outcome has not come."""
        return len(self._awaited)

    def learn(self, replica: HolderId, served: Served) -> bool:
        """Take in how a ticket went, those of other routers as well. True for an own one, the first time it is told."""
        ticket, choice, claimed = self._awaited.pop(served.decision, (None, None, 0))
        if ticket is not None:
            self.ended(ticket)  # a client may have left where no one could tell
            if served.finish != "failed" and served.output_tokens and replica in ticket.ranks[:1]:
                self._sight.trust.observe(replica, claimed, served.cached_tokens)
            if served.finish == "failed" or not served.output_tokens or replica not in ticket.ranks[:1]:
                self._sight.overlay.withdraw(ticket.number)  # its prompt was not computed there to the end
        elif served.router == self._router:
            return False  # told twice: the replica could not know that it had been heard
        if self._policy is not None and served.finish != "failed":
            try:
                self._policy.learn(choice, _outcome(replica, served))
            except Exception:
                self._survived("learning")
        return ticket is not None

    def _prefix(self, asked: Asked) -> Prefix:
        return Prefix(asked.words, self._block_tokens, self._parts(asked)[1])

    def _parts(self, asked: Asked, bypass: bool = False) -> tuple[str, tuple[Segment, ...], Public | None]:
        """Its own salt, the segments that its prompt passes through, and what of it is public, which comes first."""
        salt, own = self._salts.one_off() if bypass else self._salts.of(asked.domain)
        if bypass or (lead := asked.public) is None:
            return salt, (own,), None
        shared, segment = self._salts.of(lead.domain)
        return salt, (replace(segment, until_block=lead.blocks), own), Public(shared, lead.blocks)

    def _look(self, asked: Asked) -> Seen:
        """What is known for this decision: as it was seen ahead, if nothing was decided since."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] is asked and ahead[1] == self._decisions:
            return ahead[2]
        return self._candidates(self._prefix(asked), self._decisions)

    def _candidates(self, prefix: Prefix, decision: int) -> Seen:
        try:
            candidates = self._sight.look(prefix, decision)
            return candidates if self._narrow is None else self._narrow(candidates), ""
        except Exception:
            self._survived("directory")
            return self._sight.blind(decision), "directory failed"

    def _choose(self, request: RoutedRequest, candidates: Sequence[Candidate]) -> tuple[Choice | None, str]:
        if self._policy is None:
            return None, LEFT_TO_RAY
        if not candidates:
            return None, NOBODY
        try:
            choice = self._policy.choose(request, candidates)
        except Exception:
            self._survived("policy")
            return None, "policy failed; shuffled"
        self._sight.chose(choice.replica, self._decisions)
        return choice, choice.reason

    def _allowed(self, asked: Asked, candidates: Sequence[Candidate]) -> tuple[Sequence[Candidate], Verdict]:
        if asked.budget is None or not candidates:
            return candidates, WITHIN
        share, tag = asked.budget.rules.resident_share, self._salts.of(asked.domain)[1].key.tag
        crowding = share is not None and self._sight.share(tag) > share
        return allowed(asked.budget, label(asked.domain), candidates, self._prefix(asked) if crowding else None)

    def _await(self, ticket: Ticket, decision: Decision) -> None:
        self._awaited[ticket.id] = (ticket, decision.choice, decision.claimed_tokens)
        if len(self._awaited) > _AWAITED:
            lost, *_ = self._awaited.popitem(last=False)[1]
            self.ended(lost)

    def _survived(self, what: str) -> None:
        self.failures[what] += 1
        if self.failures[what] & (self.failures[what] - 1) == 0:  # the 1st, 2nd, 4th, ...: a storm must not fill a disk
            log.exception("%s raised while deciding (%d times so far)", what, self.failures[what])


def _said(verdict: Verdict) -> str:
    return "" if verdict.answer == "within" else f"{verdict.answer}: {verdict.reason}"


def _outcome(replica: HolderId, served: Served) -> Outcome:
    return Outcome(
        replica=ReplicaId(replica),
        prompt_tokens=served.prompt_tokens,
        cached_tokens=served.cached_tokens,
        output_tokens=served.output_tokens,
        queue_ms=served.queue_ms,
        prefill_ms=served.prefill_ms,
        total_ms=served.total_ms,
        steps=served.steps,
        step_tokens=served.step_tokens,
    )
