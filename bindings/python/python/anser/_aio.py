"""Generations in an event loop: the model's engine wakes the task when a piece is there. Those in sessions take their steps in a
thread, without the GIL."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._anser import Generation

_iterating: weakref.WeakKeyDictionary[Generation, asyncio.Task[Any]] = weakref.WeakKeyDictionary()
"""The task that last asked a generation for a piece."""


async def next_piece(generation: Generation) -> str:
    """The next piece. A task that is cancelled while it waits here, or later before the generation has ended, ends it:
    finish_reason "cancelled"."""
    _watch(generation)
    try:
        if generation._is_served():
            piece = await _arrival(generation)
        else:
            piece = await asyncio.to_thread(next, generation, None)
    except (asyncio.CancelledError, GeneratorExit):
        _close_soon(generation)
        raise
    if piece is None:
        raise StopAsyncIteration
    return piece


async def _arrival(generation: Generation) -> str | None:
    """The next piece of a generation that the engine serves; no thread waits for it."""
    loop = asyncio.get_running_loop()
    while True:
        ready = generation._poll()
        if ready is not None:
            return ready[0]
        arrived = loop.create_future()

        def wake(arrived: asyncio.Future[None] = arrived) -> None:
            loop.call_soon_threadsafe(_settle, arrived)

        if generation._call_when_there(wake):
            await arrived


def _settle(arrived: asyncio.Future[None]) -> None:
    """Ends a wait, unless its task was cancelled meanwhile."""
    if not arrived.done():
        arrived.set_result(None)


async def close(generation: Generation) -> None:
    """Waits for the token being drawn, in a thread."""
    await asyncio.to_thread(generation.close)


async def enter(generation: Generation) -> Generation:
    """For `async with`."""
    return generation


def _watch(generation: Generation) -> None:
    """Has the generation ended when the current task ends as cancelled, wherever it was cancelled."""
    task = asyncio.current_task()
    if task is None or _iterating.get(generation) is task:
        return
    _iterating[generation] = task

    def ended(task: asyncio.Task[Any]) -> None:
        abandoned = reference()
        if abandoned is not None and task.cancelled() and _iterating.get(abandoned) is task:
            _close_soon(abandoned)

    # A task may run for a long time and iterate over many generations, so it drops those that no longer exist.
    reference = weakref.ref(generation, lambda _: task.remove_done_callback(ended))
    task.add_done_callback(ended)


def _close_soon(generation: Generation) -> None:
    """Ends the generation without waiting: a step that runs is the last one, and a thread closes it then."""
    generation.cancel()
    try:
        asyncio.get_running_loop().run_in_executor(None, generation.close)
    except RuntimeError:  # The loop or its threads have ended.
        generation.close()
