import random
import struct

import pytest

from kvplane.tests.workers.disks import FakeDisk, Gpu, idle, running
from kvplane.workers.block_pool import BlockPool
from kvplane.workers.engine import Delta, EngineRequest, Sampling
from kvplane.workers.offload import Offload
from kvplane.workers.scheduler import Scheduler


def request(name: str, tokens: range, output: int = 4, salt: str = "s") -> EngineRequest:
    words = struct.pack(f"<{len(tokens)}I", *tokens)
    return EngineRequest(name, words, salt, Sampling(max_tokens=output, stop_token_ids=(99,)))


def scheduler(blocks: int = 16, block_tokens: int = 4, sequences: int = 4, chunk: int = 8) -> Scheduler:
    pool = BlockPool(blocks, block_tokens)
    return Scheduler(pool, max_sequences=sequences, prefill_chunk=chunk, context=1000, vocabulary=200, stop_ids=(98,))


class Driver:
    """Computes every step at once; each takes a second."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.now = 0.0
        self.deltas: dict[str, list[Delta]] = {}

    def step(self, token: int = 50) -> dict[str, int]:
        """Return how many tokens of each request were computed."""
        work = self.scheduler.plan(self.now)
        fed = {each.generation.request.id: each.tokens for each in work}
        self.now += 1
        if below := self.scheduler.pool.below:
            Gpu(self.scheduler.pool.blocks).step(below)
        for generation, delta in self.scheduler.finish(work, [token for each in work if each.samples], self.now):
            self.deltas.setdefault(generation.request.id, []).append(delta)
        return fed


def test_a_long_prompt_is_computed_in_chunks_while_others_decode() -> None:
    driver = Driver(scheduler())
    driver.scheduler.add(request("short", range(3)), 0)
    driver.step()
    driver.scheduler.add(request("long", range(100, 118)), 0)

    assert [driver.step() for _ in range(4)] == [
        {"short": 1, "long": 8},
        {"short": 1, "long": 8},
        {"short": 1, "long": 2},
        {"long": 1},
    ]


def test_a_prompt_seen_before_skips_what_is_cached_and_says_so() -> None:
    driver = Driver(scheduler())
    for name in ("cold", "warm"):
        driver.scheduler.add(request(name, range(9), output=1), driver.now)
        while driver.scheduler.load().running_sequences or driver.scheduler.load().waiting_prefill_tokens:
            driver.step()

    [[cold], [warm]] = driver.deltas["cold"], driver.deltas["warm"]
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 8)
    assert (cold.prefill_ms, warm.prefill_ms) == (2000, 1000)


def test_queueing_and_prefill_are_told_apart() -> None:
    driver = Driver(scheduler(sequences=1))
    driver.scheduler.add(request("first", range(5), output=2), 0)
    driver.scheduler.add(request("second", range(50, 60), output=1), 0)
    for _ in range(4):
        driver.step()

    [delta] = driver.deltas["second"]
    assert (delta.queue_ms, delta.prefill_ms, delta.finish) == (2000, 2000, "length")


def test_load_counts_queued_prompts_without_what_is_cached() -> None:
    driver = Driver(scheduler(sequences=1))
    driver.scheduler.add(request("gone", range(9), output=1), 0)
    driver.step()
    driver.step()
    driver.scheduler.add(request("running", range(100, 120)), 0)
    driver.step()
    driver.scheduler.add(request("queued", range(12)), 0)

    load = driver.scheduler.load()
    assert load.waiting_prefill_tokens == (20 - 8) + (12 - 8)
    assert (load.running_sequences, load.decode_blocks, load.free_blocks) == (1, 5, 11)
    assert load.waiting_sequences == 2


def test_a_sequence_waits_until_its_prompt_is_computed() -> None:
    driver = Driver(scheduler())
    driver.scheduler.add(request("long", range(12), output=3), 0)

    waiting = [driver.scheduler.load().waiting_sequences]
    for _ in range(2):
        driver.step()
        waiting.append(driver.scheduler.load().waiting_sequences)

    assert waiting == [1, 1, 0]


def test_the_youngest_gives_way_and_resumes_without_losing_a_token() -> None:
    driver = Driver(scheduler(blocks=5, block_tokens=2))
    driver.scheduler.add(request("old", range(3), output=6), 0)
    driver.scheduler.add(request("young", range(10, 13), output=6), 0)
    most_running = 0
    for _ in range(20):
        driver.step()
        most_running = max(most_running, driver.scheduler.load().running_sequences)

    assert most_running == 2
    for name in ("old", "young"):
        assert [delta.finish for delta in driver.deltas[name]] == [None] * 5 + ["length"]
    assert driver.scheduler.load().free_blocks == 5


def test_stop_tokens_and_the_models_own_end_a_generation() -> None:
    for token, finish in ((99, "stop"), (98, "stop"), (97, "length")):
        driver = Driver(scheduler())
        driver.scheduler.add(request("r", range(3), output=1), 0)
        driver.step(token)

        assert [delta.finish for delta in driver.deltas["r"]] == [finish]


def test_the_context_ends_a_generation() -> None:
    driver = Driver(scheduler(blocks=2, block_tokens=4))
    driver.scheduler.add(request("r", range(6), output=100), 0)
    driver.step()
    driver.step()

    assert [delta.finish for delta in driver.deltas["r"]] == [None, "length"]


def test_removing_a_generation_between_plan_and_finish_frees_its_blocks_and_stores_nothing() -> None:
    made = scheduler()
    generation = made.add(request("r", range(9)), 0)
    work = made.plan(0)
    made.remove(generation)

    assert made.finish(work, [], 1) == []
    assert made.load().free_blocks == 16
    assert made.pool.take_events() == []


@pytest.mark.parametrize(
    "tokens, output, why",
    [
        (range(0), 1, "1 to 63 tokens here; got 0"),
        (range(64), 1, "1 to 63 tokens here; got 64"),
        (range(3), 0, "max_tokens is at least 1; got 0"),
        (range(199, 201), 1, "token ids are below 200 here; got 200"),
    ],
)
def test_what_can_never_run_is_refused(tokens: range, output: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        scheduler().check(request("r", tokens, output))


@pytest.mark.parametrize("seed", range(10))
def test_everything_ends_however_short_the_blocks_are(seed: int) -> None:
    chance = random.Random(seed)
    driver = Driver(scheduler(blocks=6, block_tokens=2, sequences=3, chunk=4))
    lengths = [chance.randrange(1, 12) for _ in range(20)]
    for index, length in enumerate(lengths):
        begin = chance.randrange(3)
        driver.scheduler.add(request(str(index), range(begin, begin + length), output=chance.randrange(1, 12)), 0)
    for _ in range(2000):
        if not driver.step(token=chance.randrange(50)):
            break

    assert all(deltas[-1].finish == "length" for deltas in driver.deltas.values())
    assert len(driver.deltas) == len(lengths)
    assert driver.scheduler.load().free_blocks == 6


def test_a_prefill_says_how_many_steps_it_took_and_what_else_they_computed() -> None:
    driver = Driver(scheduler(chunk=8))
    driver.scheduler.add(request("first", range(6)), 0)
    driver.scheduler.add(request("second", range(100, 112)), 0)
    for _ in range(4):
        driver.step()

    # Of 8 tokens a step: 6 and 2, then 8, then the last 2 of the second, beside tokens of the first.
    first, second = driver.deltas["first"], driver.deltas["second"]
    assert {(delta.steps, delta.step_tokens) for delta in first} == {(1, 8)}
    assert {(delta.steps, delta.step_tokens) for delta in second} == {(3, 18)}


async def with_a_prompt_on_disk(disk: FakeDisk, below: Offload, blocks: int) -> Driver:
    """`range(9)`, of which two blocks of 4 can be reused, has been evicted by a prompt that took all blocks."""
    pool = BlockPool(blocks, 4, below)
    made = Scheduler(pool, max_sequences=4, prefill_chunk=32, context=100, vocabulary=200, stop_ids=())
    driver = Driver(made)
    for tokens in (range(9), range(50, 50 + 4 * blocks - 1)):
        made.add(request("before", tokens, output=1), driver.now)
        driver.step()
    driver.step()
    await idle()
    disk.open.clear()
    return driver


async def test_a_prompt_that_is_being_read_waits_and_holds_nobody_up() -> None:
    disk = FakeDisk()
    below = Offload(0, 16, disk)
    async with running(below):
        driver = await with_a_prompt_on_disk(disk, below, blocks=5)
        driver.scheduler.add(request("read", range(9)), driver.now)
        driver.scheduler.add(request("beside", range(100, 103)), driver.now)
        reading = [driver.step(), driver.step()]
        load = driver.scheduler.load()
        disk.open.set()
        await idle()

        assert reading == [{"beside": 3}, {"beside": 1}]
        assert (load.waiting_prefill_tokens, load.waiting_sequences, load.running_sequences) == (1, 1, 2)
        assert driver.step() == {"read": 1, "beside": 1}
        [delta] = driver.deltas["read"]
        assert (delta.cached_tokens, delta.queue_ms, delta.prefill_ms) == (8, 2000, 1000)


async def test_what_was_lost_while_it_was_asked_for_is_computed() -> None:
    disk = FakeDisk()
    below = Offload(0, 16, disk)
    async with running(below):
        driver = await with_a_prompt_on_disk(disk, below, blocks=5)
        driver.scheduler.add(request("read", range(9)), driver.now)
        driver.step()
        disk.files.clear()
        disk.open.set()
        await idle()

        assert driver.step() == {"read": 9}
        assert driver.deltas["read"][0].cached_tokens == 0


async def test_a_prompt_removed_while_it_is_read_leaves_nothing_behind() -> None:
    disk = FakeDisk()
    below = Offload(0, 16, disk)
    async with running(below):
        driver = await with_a_prompt_on_disk(disk, below, blocks=5)
        generation = driver.scheduler.add(request("read", range(9)), driver.now)
        driver.step()
        driver.scheduler.remove(generation)
        disk.open.set()
        await idle()

        assert driver.step() == {}
        assert driver.scheduler.load().free_blocks == 5
        assert not below.take_moves().fills


async def test_a_prompt_that_gives_way_while_it_is_read_is_fetched_again() -> None:
    disk = FakeDisk()
    below = Offload(0, 16, disk)
    async with running(below):
        driver = await with_a_prompt_on_disk(disk, below, blocks=5)
        driver.scheduler.add(request("old", range(100, 107), output=8), driver.now)
        driver.scheduler.add(request("read", range(9), output=2), driver.now)
        steps = [driver.step() for _ in range(3)]
        given_way = driver.scheduler.load().running_sequences
        disk.open.set()
        for _ in range(12):
            await idle()
            driver.step()

        assert steps == [{"old": 7}, {"old": 1}, {"old": 1}]
        assert given_way == 1  # the old one's ninth token needed a third block
        assert [delta.finish for delta in driver.deltas["read"]] == [None, "length"]
        assert driver.deltas["read"][0].cached_tokens == 8
        assert driver.scheduler.load().free_blocks == 5
