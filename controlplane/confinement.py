"""Where a request may go, given what its tenant may still write into caches."""

from collections.abc import Sequence

import numpy as np

from ..policies import Candidate
from ..policies.field import EXPECTED, HELD, Field, Ints
from .tenant_slice import slice_of
from .write_limit import WITHIN, Budget, Verdict


def allowed(
    budget: Budget, tenant: str, candidates: Sequence[Candidate], crowding: bool
) -> tuple[Sequence[Candidate], Verdict]:
    """The candidates that a tenant's rule leaves, and what it said: those where the charge fits, if there are any.

    Over the limit they are the tenant's slice of all, or all of them with nothing that could be reused, for a prompt
    under a salt of its own finds nothing. Raises what `Verdict.refusal` says.
    """
    field = Field.of(candidates)
    held = _held(field)
    verdict = budget.verdict(int(held.max(initial=0)), crowding)
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


def _held(field: Field) -> Ints:
    held: Ints = np.maximum.reduce(field.numbers[HELD]) * field.known
    return held


def _those(field: Field, mask: np.typing.NDArray[np.bool_]) -> Sequence[Candidate]:
    places = np.flatnonzero(mask)
    return field.at(places) if len(places) else field
