"""Every index answers every look rightly, and a wrong answer is noticed."""

from collections.abc import Iterator

import pytest

from kvplane.tests.bench.forest import Forest, Prompt
from kvplane.tests.bench.index import Index
from kvplane.tests.bench.kvplane_index import ALL, BEST8, DEEPEST, KvplaneIndex, holder_of
from kvplane.tests.bench.peers import PEERS, SERVICE, TREE, have_peers, open_peer

FOREST = Forest(replicas=12, blocks=5000)
OURS = "kvplane"


@pytest.fixture(params=[OURS, *PEERS])
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    """Ours, and each peer that is installed. To add one, add a line to `PEERS`."""
    if request.param != OURS and not have_peers():
        pytest.skip("ai-dynamo-runtime is not installed")
    opened = KvplaneIndex() if request.param == OURS else open_peer(request.param, FOREST.replicas)
    yield opened
    opened.close()


@pytest.fixture
def prompts() -> list[Prompt]:
    kinds = [(512, 0, 0), (512, 95, 1), (512, 95, 8), (4096, 50, 8)]
    found = [FOREST.prompt(*kind, number) for kind in kinds for number in range(3)]
    return [prompt for prompt in found if prompt is not None]


def test_every_look_is_right(index: Index, prompts: list[Prompt]) -> None:
    index.store(FOREST.stretches())()
    index.store([stretch for prompt in prompts for stretch in prompt.stretches])()

    for look in index.looks().values():
        answers = look.ask(prompts)
        assert [look.right(answer, prompt) for answer, prompt in zip(answers, prompts, strict=True)] == [True] * 12


def test_what_is_removed_is_noticed_by_every_look(index: Index, prompts: list[Prompt]) -> None:
    index.store(FOREST.stretches())()
    for prompt in prompts:
        index.store(prompt.stretches)()
    index.remove(prompts[-1].stretches[-1:])()

    for look in index.looks().values():
        assert not look.right(look.ask(prompts[-1:])[0], prompts[-1])
        assert look.right(look.ask(prompts[-2:-1])[0], prompts[-2])


def test_looks_have_the_agreed_names() -> None:
    assert set(KvplaneIndex().looks()) == {"kvplane_best8", "kvplane_deepest", "kvplane_all"} == {BEST8, DEEPEST, ALL}
    assert {TREE, SERVICE} == {"dynamo_radixtree", "dynamo_selection_service"} == set(PEERS)


def test_the_eight_best_may_not_be_too_deep_nor_too_few(prompts: list[Prompt]) -> None:
    look, prompt = KvplaneIndex().looks()[BEST8], prompts[-1]
    truth = {holder_of(replica): (blocks, blocks, blocks) for replica, blocks in prompt.extents.items()}
    best = sorted(truth, key=truth.__getitem__, reverse=True)

    assert look.right({holder: truth[holder] for holder in best[:8]}, prompt)
    assert not look.right({holder: truth[holder] for holder in best[:7]}, prompt)
    assert not look.right({holder: truth[holder] for holder in best[1:9]}, prompt)
    assert not look.right(truth | {best[9]: truth[best[0]]}, prompt)
    assert not look.right(truth | {best[0]: truth[best[9]], best[9]: truth[best[0]]}, prompt)
