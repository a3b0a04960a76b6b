"""When a page's log has outgrown its checkpoint: a page takes 12 bytes a block in Redis at most, log included."""

from dataclasses import dataclass

_AGE_S = 60.0  # so old may a checkpoint be that has changes behind it: a page that went astray is whole again by then
_SHARE = 5  # the log may grow by a fifth of the checkpoint; it is kept for two rounds, so both are 1.4 of one
_WASTE_BYTES = 3 << 10  # Redis frees a log by nodes of 4 KiB, so it takes up to two more than it needs
_LEAST_BYTES = 2 << 10  # a log this short is never worth a checkpoint


@dataclass(slots=True)
class PageLog:
    """What was added to a page since its checkpoint was written.

    A block that comes or goes is 8 bytes of log, and so on average five blocks written again in a checkpoint.
    """

    begun_at: float
    checkpoint_bytes: int
    bytes: int = 0
    changed: bool = False

    def add(self, entry_bytes: int, *, changes: bool) -> None:
        """Count one more batch."""
        self.bytes += entry_bytes
        self.changed = self.changed or changes

    def is_over(self, now: float) -> bool:
        """Whether the page is due for its next checkpoint."""
        if self.bytes > max(self.checkpoint_bytes // _SHARE - _WASTE_BYTES, _LEAST_BYTES):
            return True
        return self.changed and now - self.begun_at >= _AGE_S
