"""What tiers below a gpu tier that is far too small are worth: real conversations on the embedded engine, with and
without them, and with files that are spoilt while it runs.

Every conversation begins with one system prompt and goes on in rounds, each round in another order, so that a
conversation comes back when about as much as all of them hold has been used in between.
"""

import asyncio
import math
import os
import random
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from kvplane.workers.embedded_engine import EmbeddedSettings, embedded_engine
from kvplane.workers.engine import Delta, Engine, EngineRequest, Sampling
from kvplane.workers.fetch_costs import FetchCosts

from .child import in_child
from .tiers_rows import TierRow

_BLOCK_TOKENS = 32
_SPOILT = 3  # every so manieth file
_GREEDY_SEED = 7


@dataclass(frozen=True, slots=True)
class Talk:
    """So many conversations of so many turns; sizes in tokens."""

    conversations: int = 24
    turns: int = 5
    system_tokens: int = 128
    message_tokens: int = 64
    output_tokens: int = 16
    vocabulary: int = 256

    @property
    def blocks(self) -> int:
        """The working set: full blocks of all conversations, those of the system prompt once."""
        whole = self.system_tokens + self.turns * (self.message_tokens + self.output_tokens)
        shared = self.system_tokens // _BLOCK_TOKENS
        return shared + self.conversations * (whole // _BLOCK_TOKENS - shared)

    def messages(self) -> tuple[list[list[int]], Iterator[tuple[int, list[int]]]]:
        """The conversations as they begin; and who says what next, in order."""
        chance = random.Random(_GREEDY_SEED)
        begin = self._words(chance, self.system_tokens)
        return [list(begin) for _ in range(self.conversations)], self._next(chance)

    def _next(self, chance: random.Random) -> Iterator[tuple[int, list[int]]]:
        for _ in range(self.turns):
            for who in chance.sample(range(self.conversations), self.conversations):
                yield who, self._words(chance, self.message_tokens)

    def _words(self, chance: random.Random, count: int) -> list[int]:
        return [chance.randrange(3, self.vocabulary) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Setup:
    """One run: the tiers' sizes, as shares of the working set."""

    name: str
    cpu: float = 0.0
    disk: float = 0.0
    spoil: bool = False


SETUPS = (
    Setup("gpu"),
    Setup("gpu, cpu", cpu=1.2),
    Setup("gpu, disk", disk=1.2),
    Setup("gpu, cpu, disk", cpu=0.3, disk=1.2),
    Setup("the same, files spoilt", cpu=0.3, disk=1.2, spoil=True),
)


def tiers(talk: Talk, model: str, gpu_share: float, setups: Sequence[Setup] = SETUPS) -> Iterator[TierRow]:
    """A process for each setup, one after the other; the first one is what the others are held against."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in a replica; children inherit it
    first: TierRow | None = None
    for setup in setups:
        row = in_child(run, talk, model, gpu_share, setup)
        first = first or row
        yield row.beside(first)


def run(talk: Talk, model: str, gpu_share: float, setup: Setup) -> TierRow:
    """One setup, in this process."""
    return asyncio.run(_run(talk, model, gpu_share, setup))


async def _run(talk: Talk, model: str, gpu_share: float, setup: Setup) -> TierRow:
    costs = FetchCosts()
    with tempfile.TemporaryDirectory(prefix="kvplane-tiers-") as folder:
        settings = EmbeddedSettings(
            model=model,
            blocks=math.ceil(gpu_share * talk.blocks),
            cpu_blocks=round(setup.cpu * talk.blocks),
            disk_blocks=round(setup.disk * talk.blocks),
            disk_folder=Path(folder),
            block_tokens=_BLOCK_TOKENS,
        )
        async with embedded_engine(settings, costs) as engine:
            await _answer(engine, [3] * _BLOCK_TOKENS, 1)  # the first step pays for what is only done once
            answers, spoilt = await _talk(engine, talk, Path(folder) if setup.spoil else None)
    asked = [delta for answer in answers for delta in answer[:1]]
    ttft_ms = [delta.queue_ms + delta.prefill_ms for delta in asked]
    return TierRow(
        tiers=setup.name,
        gpu_blocks=settings.blocks,
        cpu_blocks=settings.cpu_blocks,
        disk_blocks=settings.disk_blocks,
        working_set=talk.blocks,
        cached_tokens=sum(delta.cached_tokens for delta in asked),
        prompt_tokens=sum(
            talk.system_tokens + turn * (talk.message_tokens + talk.output_tokens) + talk.message_tokens
            for turn in range(talk.turns)
        )
        * talk.conversations,
        ttft_p50_ms=median(ttft_ms),
        ttft_p90_ms=sorted(ttft_ms)[math.ceil(0.9 * len(ttft_ms)) - 1],
        output=tuple(token for answer in answers for delta in answer for token in delta.token_ids),
        spoilt_files=spoilt,
        compute_us=costs.compute_us,
        cpu_us=costs.cpu_us,
        disk_us=costs.disk_us,
    )


async def _talk(engine: Engine, talk: Talk, spoil: Path | None) -> tuple[list[list[Delta]], int]:
    prompts, coming = talk.messages()
    answers: list[list[Delta]] = []
    spoilt = 0
    for number, (who, message) in enumerate(coming, 1):
        prompts[who] += message
        answers.append(await _answer(engine, prompts[who], talk.output_tokens))
        prompts[who] += [token for delta in answers[-1] for token in delta.token_ids]
        if spoil and not number % talk.conversations:
            spoilt += await asyncio.to_thread(_spoil, spoil)
    return answers, spoilt


async def _answer(engine: Engine, prompt: Sequence[int], output_tokens: int) -> list[Delta]:
    sampling = Sampling(output_tokens, temperature=0, ignore_eos=True)
    request = EngineRequest("bench", struct.pack(f"<{len(prompt)}I", *prompt), "salt", sampling)
    return [delta async for delta in engine.generate(request)]


def _spoil(folder: Path) -> int:
    """Turn one bit over in every third file."""
    files = sorted(folder.glob("*/*.kv"))[::_SPOILT]
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    return len(files)
