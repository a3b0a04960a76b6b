"""The name epochs of a deployment: one begins at a time, and whoever asks is told the same."""

import asyncio

import pytest

from kvplane.controlplane.errors import ConfigError
from kvplane.directory.epochs import NameEpochs

from .stores import Store


async def test_a_store_begins_in_epoch_zero(store: Store) -> None:
    assert await store.accounts.epochs() == NameEpochs(0)


async def test_an_epoch_begins_and_the_one_before_ends_later(store: Store) -> None:
    begun = await store.accounts.begin_epoch()
    during = await store.accounts.epochs()
    await store.accounts.end_epoch(1)

    assert begun == during == NameEpochs(present=1, ending=0)
    assert await store.accounts.epochs() == NameEpochs(1)
    assert await store.accounts.begin_epoch() == NameEpochs(2, 1)


async def test_no_epoch_begins_while_one_ends(store: Store) -> None:
    await store.accounts.begin_epoch()
    with pytest.raises(ConfigError, match="one name epoch begins at a time"):
        await store.accounts.begin_epoch()

    assert await store.accounts.epochs() == NameEpochs(1, 0)


async def test_of_many_that_begin_one_at_once_one_does(store: Store) -> None:
    begun = await asyncio.gather(*(store.accounts.begin_epoch() for _ in range(8)), return_exceptions=True)

    assert [each for each in begun if not isinstance(each, ConfigError)] == [NameEpochs(1, 0)]


@pytest.mark.parametrize("late", [0, 1, 3])
async def test_whoever_speaks_of_another_epoch_ends_nothing(store: Store, late: int) -> None:
    await store.accounts.begin_epoch()
    await store.accounts.end_epoch(1)
    await store.accounts.begin_epoch()

    await store.accounts.end_epoch(late)

    assert await store.accounts.epochs() == NameEpochs(2, 1)


async def test_epochs_leave_the_registry_as_it_is(store: Store) -> None:
    await store.accounts.begin_epoch()

    assert await store.accounts.revision() == 0
