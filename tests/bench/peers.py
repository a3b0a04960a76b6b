"""Dynamo's indexes, where the optional ai-dynamo-runtime is installed."""

import os
from importlib.util import find_spec

from .index import Index

TREE, SERVICE = PEERS = "dynamo_radixtree", "dynamo_selection_service"
_INSTALL = "pip install 'kvplane[bench]'"


def have_peers() -> bool:
    """Whether Dynamo and the ZMQ that feeds it are installed."""
    return find_spec("dynamo") is not None and find_spec("zmq") is not None


def left_out() -> str | None:
    """What to say below a table that lacks them."""
    return None if have_peers() else f"Dynamo's indexes are left out; to compare with them: {_INSTALL}"


def open_peer(impl: str, replicas: int) -> Index:
    """One of `PEERS`, ready to be filled. Raises `BenchError`."""
    os.environ.setdefault("DYN_LOG", "error")  # read at the first import; a line a selection would be measured too
    # Imported here because they are optional, and behind that setting.
    if impl == TREE:
        from .dynamo_tree import DynamoTree

        return DynamoTree()
    from .dynamo_service import DynamoService

    service = DynamoService(replicas)
    service.open()
    return service
