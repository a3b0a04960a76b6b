"""Where a request may go, given what its tenant may still write into caches."""

from collections.abc import Sequence

import numpy as np

from ..directory import Prefix
from ..policies import Candidate
from ..policies.field import EXPECTED, HELD, Field, Ints
from .tenant_slice import slice_of
from .write_limit import WITHIN, Budget, Verdict


def allowed(
    budget: Budget, tenant: str, candidates: Sequence[Candidate], crowder: Prefix | None
) -> tuple[Sequence[Candidate], Verdict]:
    """The candidates that a tenant's rule leaves, and what it said: those where the charge fits, if there are any.

    `crowder` is the prompt where its tenant is over its share of the caches, which is a limit too.

    Over the limit they are the tenant's slice of all, or all of them with nothing that could be reused, for a prompt
    under a salt of its own finds nothing. Raises what `Verdict.refusal` says.
    """
    field = Field.of(candidates)
    held = _held(field)
    most = int(held.max(initial=0))
    verdict = None if crowder is None else _one_off(budget, crowder, most)
    verdict = verdict or budget.verdict(most, crowder is not None)
    match verdict.answer:
        case "reject":
            raise verdict.refusal(tenant)
        case "confine":
            confined = set(slice_of(tenant, field.replicas))
            return _those(field, np.array([replica in confined for replica in field.replicas])), verdict
        case "bypass":
            numbers = field.numbers.copy()
            numbers[HELD] = numbers[EXPECTED] = 0
            return Field(field.replicas, numbers, field.known, field.fresh), verdict
    tokens = set(held.tolist())
    if budget.fits(budget.blocks(min(tokens, default=0))):  # so does less, where more is held
        return candidates, WITHIN
    least = min((each for each in tokens if budget.fits(budget.blocks(each))), default=0)
    return _those(field, held >= least), WITHIN


def _one_off(budget: Budget, prompt: Prefix, held_tokens: int) -> Verdict | None:
    """Let a prompt past the caches that is not worth room in them yet; None where the tenant's own rule is to be asked.

    It is not until its first block that nobody holds, named with all before it, was asked for `admit_from` times. Where
    half of its blocks are held it is worth room for the rest: to lose that hit costs more than the entries. What it
    writes is charged all the same, and beyond the write limit there is no way past the rule.
    """
    rules, held = budget.rules, held_tokens // prompt.block_tokens
    if rules.admit_from == 1 or 2 * held >= prompt.blocks or not budget.fits(budget.blocks(held_tokens)):
        return None
    times = budget.sighted(prompt.name(held + 1))
    if times >= rules.admit_from:
        return None
    reason = f"sighting {times} of {rules.admit_from} it takes over {rules.resident_share:.0%} of the caches"
    return Verdict("bypass", reason, charged=True)


def _held(field: Field) -> Ints:
    held: Ints = np.maximum.reduce(field.numbers[HELD]) * field.known
    return held


def _those(field: Field, mask: np.typing.NDArray[np.bool_]) -> Sequence[Candidate]:
    places = np.flatnonzero(mask)
    return field.at(places) if len(places) else field
