"""`kvplane directory rotate`: begins a name epoch, and waits until it is the only one."""

import asyncio
from collections.abc import Awaitable, Callable

from ..directory.epochs import NameEpochs
from .accounts.contract import Naming


async def rotate(
    accounts: Naming, wait_s: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> NameEpochs:
    """Begin an epoch; what there is once the one before has ended, or after so long. Raises `ConfigError`."""
    epochs = await accounts.begin_epoch()
    for _ in range(wait_s):
        await sleep(1.0)
        epochs = await accounts.epochs()
        if epochs.ending is None:
            break
    return epochs
