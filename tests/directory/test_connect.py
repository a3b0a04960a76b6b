"""A URL names a store, or says what was wrong with it."""

import pytest
from pydantic import ValidationError

from kvplane.directory import BadUrl, DirectorySettings, HolderId, open_pages, seal
from kvplane.directory.wire import Checkpoint, Load


@pytest.mark.parametrize(
    "url, match",
    [
        ("http://localhost:6379", "begins with one of redis, rediss, redis.cluster, rediss.cluster; got 'http'"),
        ("localhost:6379", "begins with one of"),
        ("", "got 'no scheme'"),
        ("redis://", "names a host"),
        ("redis+cluster://a:1,,b:2", "names a host"),
        ("redis://a:1,b:2", "for several use redis.cluster"),
        ("redis+cluster://a:1/3", "database 0 only"),
        ("redis://a:port", "got host 'a:port'"),
        ("redis://a:1?no_such_option=1", "connection options and no others"),
    ],
)
async def test_a_url_that_names_no_store_says_what_was_wanted(url: str, match: str) -> None:
    with pytest.raises(BadUrl, match=match):
        async with open_pages(url, DirectorySettings()):
            pass


async def test_a_bad_url_does_not_print_its_password() -> None:
    with pytest.raises(BadUrl) as caught:
        async with open_pages("redis://user:hunter2@a:port", DirectorySettings()):
            pass

    assert "hunter2" not in str(caught.value)


async def test_a_database_and_an_option_in_the_url_are_used(server: str, holder: HolderId) -> None:
    page = seal(Checkpoint(holder, 1, 0, Load()), b"k" * 32)
    async with open_pages(f"{server}/3?client_name=test", DirectorySettings()) as third:
        await third.checkpoint(page)
        found = await anext(third.follow(holder))

    assert found == page


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        DirectorySettings.model_validate({"shard": 3})


def test_settings_do_not_print_the_url() -> None:
    assert "hunter2" not in repr(DirectorySettings(url="redis://:hunter2@localhost"))
