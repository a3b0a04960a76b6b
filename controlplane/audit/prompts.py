"""Prompts that nobody else has sent: random letters, about one token each."""

import random
import string

from .errors import AuditFailed


def fresh(chance: random.Random, tokens: int) -> str:
    """A random prompt."""
    return " ".join(chance.choices(string.ascii_letters, k=tokens))


def sharing(chance: random.Random, prompt: str, fraction: float) -> str:
    """A prompt that begins with exactly this fraction of another's letters: the next one differs."""
    letters = prompt.split(" ")
    shared = round(fraction * len(letters))
    if not 0 < fraction <= 1 or shared == 0:
        raise AuditFailed(f"wanted a shared fraction above 0 and up to 1, of a letter at least; got {fraction}")
    rest = chance.choices(string.ascii_letters, k=len(letters) - shared)
    if rest:
        rest[0] = chance.choice(string.ascii_letters.replace(letters[shared], ""))
    return " ".join(letters[:shared] + rest)
