"""What placements cost: a wait, a prefill, a fetch, and what they take from others."""

from collections.abc import Mapping

import msgspec
import numpy as np

from .contract import RoutedRequest
from .features import cached_tokens
from .field import BUSY, Field, Floats, Ints
from .ranking import Pick
from .rates import Rates

STEP_TOKENS = 8192.0  # new tokens that an engine computes in one step, unless it is known better


class Prices(msgspec.Struct, frozen=True):
    """What each placement would cost, in milliseconds, shape (n,); None where a part is nothing for all."""

    cached_tokens: Ints
    wait_ms: Floats
    prefill_ms: Floats
    fetch_ms: Floats | None
    joined_ms: Floats | None  # what those wait longer whose step it joins
    room_ms: Floats | None  # prefill to be repeated for what a full replica has to evict

    @property
    def ttft_ms(self) -> Floats:
        computed_ms = self.wait_ms + self.prefill_ms
        return computed_ms if self.fetch_ms is None else computed_ms + self.fetch_ms

    def slowed(self, slowness: Floats) -> "Prices":
        """The same where each replica computes so many times slower."""
        joined_ms, room_ms = (None if part is None else part * slowness for part in (self.joined_ms, self.room_ms))
        times = (self.wait_ms * slowness, self.prefill_ms * slowness, self.fetch_ms, joined_ms, room_ms)
        return Prices(self.cached_tokens, *times)

    def cost_ms(self, weight: float) -> Floats:
        cost_ms = self.wait_ms + weight * self.prefill_ms
        for part in (self.fetch_ms, self.joined_ms, self.room_ms):
            if part is not None:
                cost_ms += part
        return cost_ms


def priced(basis: Mapping[str, float], request: RoutedRequest, field: Field, slowness: Floats | None = None) -> Prices:
    """Price every placement at the rates and weights in `basis`; `slowness`: by how much each replica is slower."""
    rates = Rates(basis["base_ms"], basis["token_ms"], basis["token_pair_ms"], basis.get("block_ms", 0.0))
    cached = cached_tokens(request, field)
    uncached = request.prompt_tokens - cached
    # To make floats of a column first takes half the time that to compute with both kinds takes.
    tokens, (waiting, running, decoding) = uncached.astype(np.float64), field.numbers[BUSY].astype(np.float64)
    prices = Prices(
        cached_tokens=cached,
        wait_ms=(waiting + basis["sequence_tokens"] * running) * rates.token_ms + decoding * rates.block_ms,
        prefill_ms=rates.prefill_ms(tokens, request.prompt_tokens),
        fetch_ms=_fetch_ms(basis, field, cached),
        joined_ms=_joined_ms(basis, rates, field, waiting, tokens),
        room_ms=_room_ms(rates, request, field, uncached),
    )
    return prices if slowness is None else prices.slowed(slowness)


def _fetch_ms(basis: Mapping[str, float], field: Field, cached: Ints) -> Floats | None:
    if cached is field.gpu_tokens:
        return None
    near = np.maximum(field.cpu_tokens, field.gpu_tokens)
    from_disk = np.maximum(field.disk_tokens - near, 0)
    fetch_us = (near - field.gpu_tokens) * basis["cpu_us_per_token"] + from_disk * basis["disk_us_per_token"]
    fetch_ms: Floats = fetch_us / 1e3
    return fetch_ms


def _joined_ms(
    basis: Mapping[str, float], rates: Rates, field: Field, waiting: Floats, tokens: Floats
) -> Floats | None:
    """Price what others wait longer: a step answers all whose prompts it completes at its end, which comes later."""
    if not waiting.item(waiting.argmax()):
        return None
    budget = basis.get("step_tokens", STEP_TOKENS)
    last = np.fmod(waiting, budget)  # in the step that the newcomer would join; `%` takes five times as long
    sequences = field.waiting_sequences.astype(np.float64) * last / np.maximum(waiting, 1.0)
    joined_ms: Floats = sequences * np.minimum(tokens, budget - last) * rates.token_ms
    return joined_ms


def _room_ms(rates: Rates, request: RoutedRequest, field: Field, uncached: Ints) -> Floats | None:
    """Price the tokens of running sequences that must make way: free blocks count cached ones in."""
    block, free = request.block_tokens, field.free_blocks
    if free.item(free.argmin()) >= -(-(request.prompt_tokens + request.max_tokens) // block):
        return None  # there is room everywhere, whatever is cached
    needed = np.minimum((uncached + (request.max_tokens + block - 1)) // block, field.total_blocks)
    missing_tokens = np.maximum(needed - free, 0) * block  # of an unknown size none is
    room_ms: Floats = missing_tokens * rates.token_ms
    return room_ms


def why(prices: Prices, pick: Pick) -> str:
    """Say what decided for the chosen replica."""
    cached, chosen = prices.cached_tokens, pick.place
    deepest = cached.item(cached.argmax())
    tie = f"tie, {pick.tie}"
    if deepest == 0:
        return f"cold: {tie}" if pick.tie else "cold: least busy"
    holds = cached == deepest
    if holds[chosen] and np.count_nonzero(holds) > 1:
        return f"equal prefixes: {tie}" if pick.tie else "equal prefixes: least busy"
    if pick.tie:
        return f"equal cost: {tie}"
    if holds[chosen]:
        return "longest prefix"
    holders = holds.nonzero()[0]
    rival = holders[prices.ttft_ms[holders].argmin()]
    parts = {
        "shorter wait outweighs a longer prefix": prices.wait_ms,
        "others' wait outweighs a longer prefix": prices.joined_ms,
        "nearer tier outweighs a longer prefix": prices.fetch_ms,
        "free room outweighs a longer prefix": prices.room_ms,
    }
    spared = {reason: 0.0 if part is None else part[rival] - part[chosen] for reason, part in parts.items()}
    return max(spared, key=spared.__getitem__)
