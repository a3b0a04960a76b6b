"""One router of a replay: the real decision over a mirror of its own."""

import asyncio
from collections.abc import Sequence

from ...directory import HolderId, Holdings, Keyring, Mirror, Overlay, Pages
from ...directory.wire import Served
from ...policies import Policy
from ...workers import Ticket
from ..decide import Asked, Decider
from ..roster import Roster
from ..sight import Sight

MODEL = "replayed"


class Front:
    """Decides, hands tickets on, and learns from what pages say became of them."""

    def __init__(
        self, name: str, block_tokens: int, keyring: Keyring, pages: Pages, policy: Policy, policy_name: str
    ) -> None:
        loop = asyncio.get_running_loop()
        holdings = Holdings()
        self.roster = Roster()
        self.mirror = Mirror(pages, holdings, keyring.mac_key, self._learn, loop.time)
        sight = Sight(holdings, self.mirror, Overlay(name, loop.time), self.roster)
        self.decider = Decider(
            name,
            MODEL,
            block_tokens,
            keyring,
            sight,
            policy,
            policy_name,
            lambda: round(loop.time() * 1e9),
        )

    async def run(self) -> None:
        """Follow every live replica until cancelled."""
        await self.mirror.run(self._live)

    def route(self, asked: Asked) -> Ticket:
        """Choose, and issue the ticket."""
        return self.decider.issue(self.decider.decide(asked), asked, "")

    def _live(self) -> Sequence[HolderId]:
        return [HolderId(replica) for replica in self.roster.live]

    def _learn(self, holder: HolderId, served: Served) -> None:
        self.decider.learn(holder, served)
