"""Generations in an event loop: what ends a task ends its generation."""

import asyncio
from typing import Any, Awaitable, Callable

import pytest

import anser

Consume = Callable[[anser.Generation], Awaitable[Any]]


async def read_all(generation: anser.Generation) -> None:
    async for _ in generation:
        pass


async def wait_in_the_body(generation: anser.Generation) -> None:
    async for _ in generation:
        await asyncio.sleep(3600)


async def ask_by_hand(generation: anser.Generation) -> None:
    while True:
        await generation.__anext__()


async def ended(generation: anser.Generation) -> None:
    """Waits until the generation has ended; fails after ten seconds."""
    for _ in range(1000):
        try:
            if generation.finish_reason is not None:
                return
        except anser.BusyError:  # A step runs.
            pass
        await asyncio.sleep(0.01)
    pytest.fail("the generation goes on")


@pytest.mark.parametrize("consume", [read_all, wait_in_the_body, ask_by_hand])
def test_a_cancelled_task_frees_its_session(demo: anser.Model, consume: Consume) -> None:
    async def main() -> None:
        session = demo.session()
        generation = session.generate("Once upon a time", stop_tokens=[], seed=1)
        task = asyncio.ensure_future(consume(generation))
        await asyncio.sleep(0.3)
        with pytest.raises(anser.BusyError):
            session.feed("a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(generation)
        assert generation.finish_reason == "cancelled" and len(generation.tokens) > 0
        # The session goes on after the last token drawn.
        assert session.n_tokens >= 4
        session.feed(" there")

    asyncio.run(main())


def test_a_timeout_ends_the_generation(demo: anser.Model) -> None:
    async def main() -> None:
        generation = demo.session().generate("Once upon a time", stop_tokens=[])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read_all(generation), 0.2)
        await ended(generation)
        assert generation.finish_reason == "cancelled"

    asyncio.run(main())


def test_a_task_cancelled_before_its_first_piece(demo: anser.Model) -> None:
    async def main() -> None:
        session = demo.session()
        generation = session.generate("Once upon a time" * 200, stop_tokens=[])
        task = asyncio.ensure_future(read_all(generation))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(generation)
        session.feed("a")

    asyncio.run(main())


def test_a_loop_that_is_left_can_be_gone_on_with_or_closed(demo: anser.Model) -> None:
    async def main() -> None:
        session = demo.session()
        generation = session.generate("Once upon a time", stop_tokens=[], seed=1)
        async for _ in generation:
            break
        n_tokens = len(generation.tokens)
        async for _ in generation:
            break
        assert generation.finish_reason is None and len(generation.tokens) > n_tokens
        await generation.aclose()
        assert generation.finish_reason == "cancelled"
        session.feed("a")

        async with session.generate("Once upon a time", stop_tokens=[], seed=1) as generation:
            async for _ in generation:
                break
        assert generation.finish_reason == "cancelled"
        session.feed("a")

    asyncio.run(main())


def test_an_ended_task_leaves_the_generation_to_others(demo: anser.Model) -> None:
    async def first_piece(generation: anser.Generation) -> str:
        async for piece in generation:
            return piece
        return ""

    async def main() -> None:
        generation = demo.generate("Once upon a time", max_tokens=8, temperature=0)
        whole = demo.generate("Once upon a time", max_tokens=8, temperature=0).text()
        pieces = [await asyncio.ensure_future(first_piece(generation))]
        async for piece in generation:
            pieces.append(piece)
        assert "".join(pieces) == whole and generation.finish_reason == "length"

    asyncio.run(main())
