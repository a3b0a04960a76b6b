"""A folder with a small trace: conversations whose turns begin like the turn before."""

import json
from pathlib import Path


def made_traces(folder: Path, requests: int, apart_ms: float = 40.0, name: str = "made") -> Path:
    """Ten conversations take turns; each turn has three blocks of 64 tokens more, but for the last token."""
    lines = []
    for number in range(requests):
        conversation, turn = number % 10, number // 10
        blocks = 3 * (turn % 8 + 1)
        first = 10_000 * (conversation + 1) + 1_000 * (turn // 8)
        lines.append(
            {
                "timestamp_ms": apart_ms * number,
                "input_length": 64 * blocks - 1,
                "output_length": 8,
                "block_size": 64,
                "session_id": str(conversation),
                "turn": turn + 1,
                "tenant": f"t{conversation % 3}",
                "hash_ranges": [[first, blocks]],
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder
