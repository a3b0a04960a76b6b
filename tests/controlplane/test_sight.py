"""What a policy sees of each replica: the table, the pages' load, and this router's own tickets on top."""

import time
from collections.abc import Sequence

from kvplane.controlplane.roster import Roster
from kvplane.controlplane.sight import Sight
from kvplane.directory import (
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

    def load(self, holder: HolderId) -> tuple[Load, float] | None:
        return self._told.get(holder)


def sight(told: dict[HolderId, tuple[Load, float]], live: Sequence[str] = ("a", "b")) -> Sight:
    holdings, roster = Holdings(), Roster()
    roster.update(live)
    return Sight(holdings, Told(holdings, told), Overlay("r1", lambda: 0.0), roster)


def hold(made: Sight, holder: HolderId, blocks: int, level: Level) -> None:
    names = b"".join(PROMPT.name(depth).to_bytes(8, "little") for depth in range(1, blocks + 1))
    made.holdings.apply(holder, [Changes(KEY.tag, level, names)])


def test_every_live_replica_shows_what_it_holds_and_what_its_page_says() -> None:
    made = sight({A: (Load(7, 1, 2, 3, 4), 0.1), B: (Load(), 0.1)})
    hold(made, A, 6, Level.DISK)
    hold(made, A, 4, Level.CPU)
    hold(made, A, 1, Level.GPU)

    assert made.look(PROMPT, {"a": 5}) == [
        Candidate(ReplicaId("a"), 4, 16, 24, 7, 1, 2, 3, 4, ongoing=0, last_chosen=5),
        Candidate(ReplicaId("b")),
    ]


def test_a_page_never_read_shows_only_what_this_router_sent_there() -> None:
    made = sight({A: (Load(), 0.1)})
    made.overlay.issue(B, 100, 10, PROMPT)

    assert made.look(PROMPT, {"b": 1})[1] == Candidate(ReplicaId("b"), ongoing=1, last_chosen=1, known=False)
    assert made.blind({"b": 1})[1] == made.look(PROMPT, {"b": 1})[1]


def test_a_silent_page_keeps_its_holding_and_is_not_fresh() -> None:
    made = sight({A: (Load(), 3.1), B: (Load(), 2.9)})
    hold(made, A, 2, Level.GPU)

    assert [(each.gpu_tokens, each.fresh) for each in made.look(PROMPT, {})] == [(8, False), (0, True)]
    assert made.age_ms("a") == 3100.0
    assert made.age_ms(None) == made.age_ms("nobody") == 0.0


def test_blocks_under_way_count_as_held_in_gpu_and_are_marked_until_the_table_has_them() -> None:
    made = sight({A: (Load(), 0.1), B: (Load(), 0.1)})
    hold(made, A, 3, Level.GPU)
    made.overlay.issue(A, 40, 10, PROMPT)
    under_way = made.look(PROMPT, {})[0]
    hold(made, A, 10, Level.GPU)
    confirmed = made.look(PROMPT, {})[0]

    assert (under_way.gpu_tokens, under_way.cpu_tokens, under_way.disk_tokens) == (40, 40, 40)
    assert (under_way.expected_tokens, confirmed.expected_tokens) == (28, 0)
    assert confirmed.gpu_tokens == 40


def test_what_lies_in_a_further_tier_is_no_promise() -> None:
    made = sight({A: (Load(), 0.1), B: (Load(), 0.1)})
    hold(made, A, 7, Level.DISK)
    made.overlay.issue(A, 40, 10, Prefix(PROMPT.words[: 4 * 4 * 5], BLOCK, PROMPT.segments))
    seen = made.look(PROMPT, {})[0]

    assert (seen.gpu_tokens, seen.cpu_tokens, seen.disk_tokens, seen.expected_tokens) == (20, 20, 28, 0)
