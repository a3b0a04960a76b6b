"""A request's prompt as words, and the room it leaves: refused before it costs anything."""

import asyncio

from ..workers import Capacity
from .errors import BadRequest
from .openai import Chat, Completion
from .tokens import Tokens

_IN_THREAD_CHARACTERS = 16_000  # longer prompts are tokenised off the loop, so that they delay no other stream


async def words_of(asking: Chat | Completion, tokens: Tokens, capacity: Capacity) -> bytes:
    """Tokenise a prompt. Raises `BadRequest` for one too large to fit whatever its text."""
    most = capacity.max_prompt_tokens * tokens.longest_token
    if asking.characters > most:
        raise BadRequest(
            f"the prompt has {asking.characters} characters; no more than {most} can fit this model; shorten it",
            code="context_length_exceeded",
        )
    if asking.characters > _IN_THREAD_CHARACTERS:
        return await asyncio.to_thread(_words, asking, tokens)
    return _words(asking, tokens)


def room(words: bytes, capacity: Capacity) -> int:
    """Tokens left for the answer. Raises `BadRequest` that says by how much a prompt is too long."""
    prompt_tokens = len(words) // 4
    if prompt_tokens == 0:
        raise BadRequest("the prompt is empty; at least one token is needed", param="prompt")
    over = prompt_tokens - capacity.max_prompt_tokens
    if over > 0:
        raise BadRequest(
            f"the prompt has {prompt_tokens} tokens, {over} more than the {capacity.max_prompt_tokens} that fit; "
            "shorten it",
            code="context_length_exceeded",
        )
    return capacity.max_prompt_tokens + 1 - prompt_tokens


def _words(asking: Chat | Completion, tokens: Tokens) -> bytes:
    if isinstance(asking, Chat):
        return tokens.chat([message.plain() for message in asking.messages])
    prompt = asking.single_prompt
    return tokens.text(prompt) if isinstance(prompt, str) else tokens.ids(prompt)
