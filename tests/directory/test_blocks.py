"""A tree keeps what it needs of each block, and no more."""

from kvplane.directory import DomainKey
from kvplane.directory.blocks import Block, Tree
from kvplane.directory.names import Names


def placed(tree: Tree, *path: str) -> None:
    for parent, engine_hash in zip((None, *path), path, strict=False):
        block = tree.block(engine_hash)
        block.copies = 1
        tree.place(engine_hash, block, parent, engine_hash.encode() * 16)


def test_children_are_those_adopted_and_not_abandoned() -> None:
    tree = Tree()
    for child in "abc":
        placed(tree, "p", child)
    parent = tree.known["p"]

    parent.abandon("a")
    parent.abandon("c")

    assert list(tree.children(parent)) == [tree.known["b"]]
    parent.abandon("b")
    assert list(tree.children(parent)) == []


def test_a_block_without_copies_is_kept_while_one_stands_behind_it() -> None:
    tree = Tree()
    placed(tree, "a", "b")

    tree.known["a"].copies = 0
    early = tree.forget("a", tree.known["a"])
    kept = set(tree.known)
    tree.known["b"].copies = 0
    late = tree.forget("b", tree.known["b"])

    assert (early, kept) == ([], {None, "a", "b"})
    assert (late, set(tree.known)) == (["b", "a"], {None})


def test_a_chain_that_was_taken_along_is_computed_anew_for_the_next_child(key: DomainKey) -> None:
    tree, names = Tree(), Names(key, [])
    placed(tree, "a", "b")
    tip = tree.known["b"]
    tip.names, tip.chain = names, tree.chain(tip, names)

    taken, anew = tree.chain(tip, names), tree.chain(tip, names)

    assert taken is not anew
    assert taken.extend(b"c" * 16, 4) == anew.extend(b"c" * 16, 4)


def test_a_block_needs_no_look_of_the_garbage_collector() -> None:
    assert not Block.__struct_config__.gc
