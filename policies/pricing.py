"""What placements cost: a wait, a prefill, a fetch, and what they take from others."""

from collections.abc import Mapping

import msgspec
import numpy as np

from .contract import RoutedRequest
from .features import cached_tokens
from .field import HELD, Field, Floats, Ints
from .ranking import Pick
from .rates import Rates

STEP_TOKENS = 8192.0  # new tokens that an engine computes in one step, unless it is known better


class Prices(msgspec.Struct, frozen=True):
    """What each placement would cost, in milliseconds, shape (n,)."""

    cached_tokens: Ints
    wait_ms: Floats
    prefill_ms: Floats
    fetch_ms: Floats
    joined_ms: Floats  # what those wait longer whose step it joins
    room_ms: Floats  # prefill to be repeated for what a full replica has to evict

    @property
    def ttft_ms(self) -> Floats:
        return self.wait_ms + self.prefill_ms + self.fetch_ms

    def slowed(self, slowness: Floats) -> "Prices":
        """The same where each replica computes so many times slower."""
        times = (self.wait_ms, self.prefill_ms, self.joined_ms, self.room_ms)
        wait_ms, prefill_ms, joined_ms, room_ms = (each * slowness for each in times)
        return Prices(self.cached_tokens, wait_ms, prefill_ms, self.fetch_ms, joined_ms, room_ms)

    def cost_ms(self, weight: float) -> Floats:
        return self.wait_ms + weight * self.prefill_ms + self.fetch_ms + self.joined_ms + self.room_ms


def priced(basis: Mapping[str, float], request: RoutedRequest, field: Field, slowness: Floats | None = None) -> Prices:
    """Price every placement at the rates and weights in `basis`; `slowness`: by how much each replica is slower."""
    rates = Rates(basis["base_ms"], basis["token_ms"], basis["token_pair_ms"], basis.get("block_ms", 0.0))
    cached = cached_tokens(request, field)
    uncached = request.prompt_tokens - cached
    waiting = field.waiting_prefill_tokens + basis["sequence_tokens"] * field.running_sequences
    prices = Prices(
        cached_tokens=cached,
        wait_ms=waiting * rates.token_ms + field.decode_blocks * rates.block_ms,
        prefill_ms=rates.prefill_ms(uncached.astype(np.float64), request.prompt_tokens),
        fetch_ms=_fetch_ms(basis, field),
        joined_ms=_joined_ms(basis, rates, field, uncached),
        room_ms=_room_ms(rates, request, field, uncached),
    )
    return prices if slowness is None else prices.slowed(slowness)


def _fetch_ms(basis: Mapping[str, float], field: Field) -> Floats:
    gpu, cpu, disk = (tokens.tobytes() for tokens in field.numbers[HELD])
    if gpu == cpu == disk:
        return np.zeros(len(field))
    near = np.maximum(field.cpu_tokens, field.gpu_tokens)
    from_disk = np.maximum(field.disk_tokens - near, 0)
    fetch_us = (near - field.gpu_tokens) * basis["cpu_us_per_token"] + from_disk * basis["disk_us_per_token"]
    fetch_ms: Floats = fetch_us / 1e3
    return fetch_ms


def _joined_ms(basis: Mapping[str, float], rates: Rates, field: Field, uncached: Ints) -> Floats:
    """Price what others wait longer: a step answers all whose prompts it completes at its end, which comes later."""
    waiting = field.waiting_prefill_tokens
    if not waiting[waiting.argmax()]:
        return np.zeros(len(field))
    budget = basis.get("step_tokens", STEP_TOKENS)
    last = np.fmod(waiting, budget)  # in the step that the newcomer would join; `%` takes five times as long
    sequences = field.waiting_sequences * last / np.maximum(waiting, 1)
    joined_ms: Floats = sequences * np.minimum(uncached, budget - last) * rates.token_ms
    return joined_ms


def _room_ms(rates: Rates, request: RoutedRequest, field: Field, uncached: Ints) -> Floats:
    """Price the tokens of running sequences that must make way: free blocks count cached ones in."""
    block, free = request.block_tokens, field.free_blocks
    if free[free.argmin()] >= -(-(request.prompt_tokens + request.max_tokens) // block):
        return np.zeros(len(field))  # there is room everywhere, whatever is cached
    needed = np.minimum((uncached + (request.max_tokens + block - 1)) // block, field.total_blocks)
    missing_tokens = np.maximum(needed - free, 0) * block  # of an unknown size none is
    room_ms: Floats = missing_tokens * rates.token_ms
    return room_ms


def why(prices: Prices, pick: Pick) -> str:
    """Say what decided for the chosen replica."""
    cached, chosen = prices.cached_tokens, pick.place
    deepest = cached[cached.argmax()]
    holders = (cached == deepest).nonzero()[0]
    tie = f"tie, {pick.tie}"
    if deepest == 0:
        return f"cold: {tie}" if pick.tie else "cold: least busy"
    if cached[chosen] == deepest and len(holders) > 1:
        return f"equal prefixes: {tie}" if pick.tie else "equal prefixes: least busy"
    if pick.tie:
        return f"equal cost: {tie}"
    if cached[chosen] == deepest:
        return "longest prefix"
    rival = holders[prices.ttft_ms[holders].argmin()]
    spared = {
        "shorter wait outweighs a longer prefix": prices.wait_ms[rival] - prices.wait_ms[chosen],
        "others' wait outweighs a longer prefix": prices.joined_ms[rival] - prices.joined_ms[chosen],
        "nearer tier outweighs a longer prefix": prices.fetch_ms[rival] - prices.fetch_ms[chosen],
        "free room outweighs a longer prefix": prices.room_ms[rival] - prices.room_ms[chosen],
    }
    return max(spared, key=lambda reason: float(spared[reason]))
