"""Generations in an event loop: every step runs in a thread, without the GIL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._anser import Generation


async def next_piece(generation: Generation) -> str:
    """The next piece; a task that is cancelled while it waits cancels the generation."""
    try:
        piece = await asyncio.to_thread(next, generation, None)
    except asyncio.CancelledError:
        generation.cancel()
        raise
    if piece is None:
        raise StopAsyncIteration
    return piece


async def close(generation: Generation) -> None:
    """Waits for the token being drawn, in a thread."""
    await asyncio.to_thread(generation.close)
