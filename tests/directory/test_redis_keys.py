"""Logical shards are spread evenly over nodes, and over holders."""

from collections import Counter

import pytest
from redis.crc import key_slot

from kvplane.directory import holder_id
from kvplane.directory.redis_keys import hash_tag, page_keys


@pytest.mark.parametrize("shards", [1, 16, 100])
def test_nodes_that_share_the_slots_evenly_share_the_shards_evenly(shards: int) -> None:
    slots = [key_slot(hash_tag(shard, shards).encode()) for shard in range(shards)]
    for nodes in range(1, 9):
        kept = Counter(slot * nodes // 16384 for slot in slots)
        counts = [kept[node] for node in range(nodes)]

        assert max(counts) - min(counts) <= 1


def test_all_keys_of_a_page_are_in_the_slot_of_its_shard() -> None:
    keys = page_keys(holder_id("r-1"), 16)

    assert {key_slot(key.encode()) for key in keys.all} == {key_slot(keys.tag.encode())}
    assert keys.tag == hash_tag(keys.shard, 16)


def test_holders_are_spread_over_the_shards() -> None:
    kept = Counter(page_keys(holder_id(f"r-{number}"), 16).shard for number in range(1600))

    assert min(kept.values()) > 50
