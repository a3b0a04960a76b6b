"""What a policy sees of each replica: the table, the pages' load, and this router's own tickets on top."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.directory import (
    LEVELS,
    Changes,
    Domain,
    HolderId,
    Holdings,
    Keyring,
    Level,
    Load,
    MemoryPages,
    Mirror,
    Overlay,
    Prefix,
    Segment,
    domain_key,
)
from kvplane.policies import Candidate, ReplicaId

BLOCK = 4
KEYRING = Keyring(b"m" * 32)
KEY = domain_key(KEYRING.salt(Domain("acme", "default")), "m", "", BLOCK)
PROMPT = Prefix(bytes(range(4 * 41)), BLOCK, (Segment(KEY, 100),))  # ten blocks and a token
A, B = HolderId("a"), HolderId("b")


class Told(Mirror):
    """A mirror of what a test says of each holder."""

    def __init__(self, holdings: Holdings, told: dict[HolderId, tuple[Load, float]]) -> None:
        super().__init__(MemoryPages(), holdings, KEYRING.mac_key, lambda holder, served: None, time.monotonic)
        self._told = told

    @property
    def now_s(self) -> float:
        return 0.0

    def load(self, holder: HolderId) -> tuple[Load, float] | None:
        return self._told.get(holder)

    def say(self, holder: HolderId, load: Load, age_s: float) -> None:
        self._told[holder] = load, age_s
        self._changed(holder)


def sight(told: dict[HolderId, tuple[Load, float]], live: Sequence[str] = ("a", "b")) -> Sight:
    holdings, roster = Holdings(), Roster()
    roster.update(live)
    return Sight(holdings, Told(holdings, told), Overlay("r1", lambda: 0.0), roster)


def hold(made: Sight, holder: HolderId, blocks: int, level: Level) -> None:
    names = b"".join(PROMPT.name(depth).to_bytes(8, "little") for depth in range(1, blocks + 1))
    made.holdings.apply(holder, [Changes(KEY.tag, level, names)])


def test_every_live_replica_shows_what_it_holds_and_what_its_page_says() -> None:
    made = sight({A: (Load(7, 1, 2, 3, 4), 0.1), B: (Load(), 0.1)})
    made.chose("a", 2)
    hold(made, A, 6, Level.DISK)
    hold(made, A, 4, Level.CPU)
    hold(made, A, 1, Level.GPU)

    assert made.look(PROMPT, 7) == [
        Candidate(ReplicaId("a"), 4, 16, 24, 7, 1, 2, 3, 4, ongoing=0, last_chosen=5),
        Candidate(ReplicaId("b")),
    ]


def test_a_page_never_read_shows_only_what_this_router_sent_there() -> None:
    made = sight({A: (Load(), 0.1)})
    made.overlay.issue(B, 100, 10, PROMPT)
    made.chose("b", 4)

    assert made.look(PROMPT, 5)[1] == Candidate(ReplicaId("b"), ongoing=1, last_chosen=1, known=False)
    assert made.blind(5)[1] == made.look(PROMPT, 5)[1]


def test_a_silent_page_keeps_its_holding_and_is_not_fresh() -> None:
    made = sight({A: (Load(), 3.1), B: (Load(), 2.9)})
    hold(made, A, 2, Level.GPU)

    assert [(each.gpu_tokens, each.fresh) for each in made.look(PROMPT, 1)] == [(8, False), (0, True)]
    assert made.age_ms("a") == 3100.0
    assert made.age_ms(None) == made.age_ms("nobody") == 0.0


def test_blocks_under_way_count_as_held_in_gpu_and_are_marked_until_the_table_has_them() -> None:
    made = sight({A: (Load(), 0.1), B: (Load(), 0.1)})
    hold(made, A, 3, Level.GPU)
    made.overlay.issue(A, 40, 10, PROMPT)
    under_way = made.look(PROMPT, 1)[0]
    hold(made, A, 10, Level.GPU)
    confirmed = made.look(PROMPT, 1)[0]

    assert (under_way.gpu_tokens, under_way.cpu_tokens, under_way.disk_tokens) == (40, 40, 40)
    assert (under_way.expected_tokens, confirmed.expected_tokens) == (28, 0)
    assert confirmed.gpu_tokens == 40


def test_what_lies_in_a_further_tier_is_no_promise() -> None:
    made = sight({A: (Load(), 0.1), B: (Load(), 0.1)})
    hold(made, A, 7, Level.DISK)
    made.overlay.issue(A, 40, 10, Prefix(PROMPT.words[: 4 * 4 * 5], BLOCK, PROMPT.segments))
    seen = made.look(PROMPT, 1)[0]

    assert (seen.gpu_tokens, seen.cpu_tokens, seen.disk_tokens, seen.expected_tokens) == (20, 20, 28, 0)


HOLDERS = [HolderId(name) for name in "abcdef"]
COUNTS = st.integers(0, 1000)
LOADS = st.builds(Load, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.dictionaries(st.sampled_from(["r1", "r2"]), COUNTS))
HOLDER, BLOCKS = st.sampled_from(HOLDERS), st.integers(1, 10)
DONE = st.one_of(
    st.tuples(st.just("lives"), st.sets(HOLDER)),
    st.tuples(st.just("says"), HOLDER, LOADS, st.sampled_from([0.1, 2.9, 3.1])),
    st.tuples(st.just("holds"), HOLDER, BLOCKS, st.sampled_from(LEVELS)),
    st.tuples(st.just("forgets"), HOLDER),
    st.tuples(st.just("gets"), HOLDER, BLOCKS),
    st.tuples(st.just("ends"), st.integers(1, 8)),
    st.tuples(st.just("is chosen"), HOLDER),
)
THEN_LOOKED_AT = st.booleans()


def one_by_one(made: Sight, decision: int, chosen_at: dict[HolderId, int]) -> list[Candidate]:
    """What `look` means, a replica at a time."""
    held, expected = made.holdings.find(PROMPT).table(), made.overlay.extents(PROMPT)
    rows = []
    for holder in map(HolderId, made.roster.live):
        since = decision - chosen_at[holder] if holder in chosen_at else 0
        row = Candidate(ReplicaId(holder), ongoing=made.overlay.ongoing(holder), last_chosen=since, known=False)
        heard = made.mirror.load(holder)
        if heard is not None:
            load, coming = made.overlay.load(holder, heard[0]), expected.get(holder, 0)
            gpu, cpu, disk = held.get(holder, (0, 0, 0))
            row = msgspec.structs.replace(
                row,
                gpu_tokens=max(gpu, coming) * BLOCK,
                cpu_tokens=max(cpu, coming) * BLOCK,
                disk_tokens=max(disk, coming) * BLOCK,
                waiting_prefill_tokens=load.waiting_prefill_tokens,
                running_sequences=load.running_sequences,
                decode_blocks=load.decode_blocks,
                waiting_sequences=load.waiting_sequences,
                free_blocks=load.free_blocks,
                total_blocks=load.total_blocks,
                known=True,
                fresh=heard[1] < 3.0,
                expected_tokens=max(coming - disk, 0) * BLOCK,
            )
        rows.append(row)
    return rows


@given(st.lists(st.tuples(DONE, THEN_LOOKED_AT), max_size=25))
def test_columns_say_whatever_happened_what_a_look_at_each_replica_would(
    happened: list[tuple[tuple[Any, ...], bool]],
) -> None:
    made, chosen_at = sight({}, live=HOLDERS[:3]), dict[HolderId, int]()
    assert isinstance(made.mirror, Told)
    for decision, ((what, *about), looked_at) in enumerate(happened, 1):
        match what, about:
            case "lives", [live]:
                made.roster.update(live)
            case "says", [holder, load, age_s]:
                made.mirror.say(holder, load, age_s)
            case "holds", [holder, blocks, level]:
                hold(made, holder, blocks, level)
            case "forgets", [holder]:
                made.holdings.forget(holder)
            case "gets", [holder, blocks]:
                made.overlay.issue(holder, 40, 10, Prefix(PROMPT.words[: 4 * BLOCK * blocks], BLOCK, PROMPT.segments))
            case "ends", [number]:
                made.overlay.settle(number)
            case "is chosen", [holder]:
                made.chose(holder, decision)
                chosen_at[holder] = decision
        if looked_at:
            assert list(made.look(PROMPT, decision)) == one_by_one(made, decision, chosen_at)

    assert list(made.look(PROMPT, 30)) == one_by_one(made, 30, chosen_at)


def test_with_nobody_alive_there_are_no_candidates() -> None:
    made = sight({}, live=())

    assert made.look(PROMPT, 1) == made.blind(1) == ()


def test_a_prompt_without_a_block_finds_nothing_and_the_next_finds_all() -> None:
    made = sight({A: (Load(), 0.1), B: (Load(), 0.1)})
    hold(made, B, 6, Level.GPU)
    short = Prefix(PROMPT.words[:4], BLOCK, PROMPT.segments)

    seen = [[each.gpu_tokens for each in made.look(prefix, 1)] for prefix in (PROMPT, short, PROMPT)]
    assert seen == [[0, 24], [0, 0], [0, 24]]


def test_what_one_decision_saw_stays_as_it_was() -> None:
    made = sight({A: (Load(7), 0.1)})
    before = made.look(PROMPT, 1)
    as_rows = list(before)
    assert isinstance(made.mirror, Told)
    made.mirror.say(A, Load(9), 3.1)
    made.mirror.say(B, Load(9), 0.1)
    made.overlay.issue(B, 100, 10, PROMPT)
    made.chose("a", 1)
    made.look(PROMPT, 2)

    assert list(before) == as_rows
