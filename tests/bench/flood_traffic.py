"""Who asks in the flood benchmark: tenants that hold conversations, and one whose prompts nobody ever asks again."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from kvplane.controlplane.accounts import OverLimit, Rules
from kvplane.controlplane.replay.trace import Trace, TraceRequest

FLOOD = "flood"
_APART = 1 << 16  # ids between the first blocks of two sessions


@dataclass(frozen=True, slots=True)
class Traffic:
    """Conversations of some tenants, and a flood at `times` its quota once they are under way."""

    seconds: float = 90.0
    quiet_s: float = 30.0  # before the flood; nothing of it is measured
    victims: int = 5
    sessions: int = 80  # of each victim at any time
    think_s: float = 16.0  # from turn to turn, on average
    turns: int = 8
    opening_blocks: int = 16  # the same for all sessions of a tenant
    turn_blocks: tuple[int, int] = (4, 12)
    output_tokens: tuple[int, int] = (16, 128)
    block_tokens: int = 64
    times: float = 50.0
    write_blocks_per_minute: int = 4800
    write_burst_blocks: int = 1200
    flood_blocks: int = 64  # of each of its prompts
    seed: int = 1

    def rules(self, over: OverLimit) -> Rules:
        """What the flooding tenant may write, and what happens beyond."""
        return Rules(
            write_blocks_per_minute=self.write_blocks_per_minute,
            write_burst_blocks=self.write_burst_blocks,
            over_write_limit=over,
        )

    def trace(self, flooded: bool) -> Trace:
        """The victims' requests, which are the same with and without the flood's among them."""
        requests = [each for victim in range(self.victims) for each in self._victim(victim)]
        if flooded:
            requests += self._flood()
        return Trace("flood", self.block_tokens, sorted(requests, key=lambda each: each.at_ms))

    def _victim(self, victim: int) -> Iterator[TraceRequest]:
        for seat in range(self.sessions):
            random = Random(f"{self.seed} {victim} {seat}")
            at_s = random.uniform(0.0, self.think_s)
            for session in count():
                if at_s >= self.seconds:
                    break
                first = (1 + (victim * self.sessions + seat) * 1000 + session) * _APART
                own = 0
                # The first sessions are met at any of their turns, as they would be later on.
                for _ in range(random.randint(1, self.turns) if session == 0 else self.turns):
                    own += random.randint(*self.turn_blocks)
                    ranges = ((victim * _APART // 64, self.opening_blocks), (first, own))
                    tokens = (self.opening_blocks + own) * self.block_tokens - random.randrange(self.block_tokens)
                    output_tokens = random.randint(*self.output_tokens)
                    if at_s >= self.seconds:
                        break
                    yield TraceRequest(
                        at_s * 1e3, tokens, output_tokens, ranges, f"{victim}-{seat}-{session}", f"victim-{victim}"
                    )
                    at_s += random.expovariate(1 / self.think_s)

    def _flood(self) -> Iterator[TraceRequest]:
        random = Random(f"{self.seed} {FLOOD}")
        per_s = self.times * self.write_blocks_per_minute / 60 / self.flood_blocks
        at_s = self.quiet_s
        for number in count():
            at_s += random.expovariate(per_s)
            if at_s >= self.seconds:
                break
            tokens = self.flood_blocks * self.block_tokens - random.randrange(self.block_tokens)
            ranges = (((1 << 40) + number * _APART, self.flood_blocks),)
            yield TraceRequest(at_s * 1e3, tokens, random.randint(*self.output_tokens), ranges, "", FLOOD)
