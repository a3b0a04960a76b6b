"""Prompts share exactly what they are meant to share."""

import random

import pytest

from kvplane.controlplane.audit.errors import AuditFailed
from kvplane.controlplane.audit.prompts import fresh, sharing


@pytest.mark.parametrize("fraction, shared", [(0.95, 95), (0.5, 50), (0.994, 99), (0.57, 57)])
def test_the_first_letters_are_shared_and_the_next_one_never(fraction: float, shared: int) -> None:
    chance = random.Random(1)
    pairs = [(known := fresh(chance, 100), sharing(chance, known, fraction)) for _ in range(300)]

    letters = [(known.split(" "), prompt.split(" ")) for known, prompt in pairs]
    assert all(len(mine) == len(theirs) == 100 for theirs, mine in letters)
    assert all(mine[:shared] == theirs[:shared] for theirs, mine in letters)
    assert all(mine[shared] != theirs[shared] for theirs, mine in letters)


def test_the_whole_prompt_may_be_known() -> None:
    prompt = fresh(random.Random(1), 30)

    assert sharing(random.Random(2), prompt, 1.0) == prompt


def test_all_letters_occur_and_prompts_do_not_repeat() -> None:
    chance = random.Random(3)
    prompts = [fresh(chance, 50) for _ in range(100)]

    assert len(set(prompts)) == 100
    assert len(set("".join(prompts))) == 53  # of both cases, and the space


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, 0.01])
def test_to_share_nothing_or_more_than_all_is_refused(fraction: float) -> None:
    with pytest.raises(AuditFailed, match="shared fraction"):
        sharing(random.Random(1), "a b c", fraction)
