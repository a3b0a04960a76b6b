"""A replica's user goes when its page has been away for an hour, and not while anybody could still need it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kvplane.directory import (
    DirectorySettings,
    EmbeddedShards,
    HolderId,
    PagesDown,
    RedisClient,
    holder_id,
    open_client,
    open_pages,
)
from kvplane.directory.departed import GONE_S, Departed
from kvplane.directory.redis_node import Argument
from kvplane.tests.messages import whole

HERE, GONE = holder_id("r-0"), holder_id("r-1")
SETTINGS = DirectorySettings()


class Scene:
    """Two replicas' users, looked after at times that a test sets."""

    def __init__(self, shards: EmbeddedShards, client: RedisClient) -> None:
        self.shards = shards
        self.client = self.departed_client = client
        self.now_s = 0.0
        self.departed = Departed(shards, SETTINGS, lambda: self.now_s)

    async def look(self, at_s: float) -> list[str]:
        """Who has a user thereafter."""
        self.now_s = at_s
        await self.departed.look(self.departed_client)
        names = await self.client.call("any", "ACL", "USERS")
        return sorted(name.decode() for name in names if name.startswith(b"kvplane-replica-"))

    async def write(self, holder: HolderId) -> None:
        async with open_pages(await self.shards.grant_replica(holder, SETTINGS.shards), SETTINGS) as pages:
            await pages.checkpoint(whole(holder, 0))

    async def drop(self, holder: HolderId) -> None:
        async with open_pages(self.shards.url, SETTINGS) as pages:
            await pages.drop(holder)


class Deaf(RedisClient):
    """Answers all but one command."""

    def __init__(self, client: RedisClient, silent: str) -> None:
        self._client = client
        self._silent = silent

    async def call(self, key: str, *command: Argument) -> Any:  # Any: a reply's shape is the command's own
        if command[0] == self._silent:
            raise PagesDown("no answer")
        return await self._client.call(key, *command)


BOTH, ONE = ["kvplane-replica-r-0", "kvplane-replica-r-1"], ["kvplane-replica-r-0"]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with EmbeddedShards(tmp_path) as shards, open_client(shards.url, SETTINGS) as client:
        made = Scene(shards, client)
        await made.write(HERE)
        await made.write(GONE)
        yield made


async def test_who_has_had_no_page_for_an_hour_is_shut_out_and_nobody_else(scene: Scene) -> None:
    url = await scene.shards.grant_replica(GONE, SETTINGS.shards)
    before = await scene.look(0.0)
    await scene.drop(GONE)
    missed = await scene.look(GONE_S)
    nearly = await scene.look(2 * GONE_S - 1)
    after = await scene.look(2 * GONE_S)

    assert (before, missed, nearly, after) == (BOTH, BOTH, BOTH, ONE)
    async with open_pages(url, SETTINGS) as pages:
        with pytest.raises(PagesDown, match="invalid username-password"):
            await pages.checkpoint(whole(GONE, 0))


async def test_a_page_that_comes_back_begins_the_hour_anew(scene: Scene) -> None:
    await scene.drop(GONE)
    await scene.look(0.0)
    await scene.write(GONE)
    await scene.look(GONE_S - 1)
    await scene.drop(GONE)

    assert await scene.look(GONE_S) == BOTH
    assert await scene.look(2 * GONE_S) == ONE


async def test_who_is_let_in_again_after_it_was_shut_out_has_an_hour(scene: Scene) -> None:
    await scene.drop(GONE)
    await scene.look(0.0)
    await scene.look(GONE_S)
    await scene.shards.grant_replica(GONE, SETTINGS.shards)

    assert await scene.look(GONE_S + 1) == BOTH
    assert await scene.look(2 * GONE_S) == BOTH


@pytest.mark.parametrize("silent", ["EXISTS", "ACL"])
async def test_what_a_shard_that_is_down_would_know_is_held_against_nobody(scene: Scene, silent: str) -> None:
    await scene.drop(GONE)
    await scene.look(0.0)
    client, scene.departed_client = scene.client, Deaf(scene.client, silent)
    during = await scene.look(GONE_S)
    scene.departed_client = client

    assert during == BOTH
    assert await scene.look(GONE_S + 1) == (BOTH if silent == "EXISTS" else ONE)
