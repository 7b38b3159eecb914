"""Conversations: the messages so far, and answers that join them."""

from typing import Any, Union

from ._anser import Generation, Model
from ._errors import BusyError
from ._types import Message


class Answer:
    """An answer that is being generated: iterate for its pieces, with `for` or `async for`.

    It joins the conversation when it ends, also one that close() or an error ends early.
    """

    def __init__(self, conversation: "Conversation", generation: Generation) -> None:
        self._conversation = conversation
        self._generation = generation
        self._pieces: "list[str]" = []
        self._has_ended = False

    def __iter__(self) -> "Answer":
        return self

    def __next__(self) -> str:
        try:
            piece = next(self._generation)
        except BaseException:
            self._end()
            raise
        self._pieces.append(piece)
        return piece

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> str:
        try:
            piece = await self._generation.__anext__()
        except BaseException:
            self._end()
            raise
        self._pieces.append(piece)
        return piece

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._conversation.messages.append({"role": "assistant", "content": "".join(self._pieces)})

    def text(self) -> str:
        """Runs to the end and returns the whole answer, with the pieces that were read before."""
        for _ in self:
            pass
        return "".join(self._pieces)

    @property
    def generation(self) -> Generation:
        """The generation that gives the pieces, with its reasoning, tokens, finish_reason and usage."""
        return self._generation

    @property
    def has_ended(self) -> bool:
        """Whether the answer has joined the conversation."""
        return self._has_ended

    def close(self) -> None:
        """Ends the answer after the token that is being drawn."""
        self._generation.close()
        self._end()

    async def aclose(self) -> None:
        """close() without blocking the event loop."""
        await self._generation.aclose()
        self._end()


class Conversation:
    """A conversation with a model, whose turns follow one another.

    system is the text of instructions; options are those of Model.chat (thinking, tools, temperature, ...) for all answers. The turns of a
    model with state_cache (see load()) are read once. Conversations of one model may run side by side, in threads or tasks; the turns of one
    come one after the other.
    """

    def __init__(self, model: Model, system: Union[str, None] = None, **options: Any) -> None:
        self.model = model
        self.options = options
        self.messages: "list[Message]" = [] if system is None else [{"role": "system", "content": system}]
        self._answer: Union[Answer, None] = None

    def say(self, text: str, **options: Any) -> Answer:
        """The answer to a message of the user; options change those of the conversation for this answer."""
        if self._answer is not None and not self._answer.has_ended:
            raise BusyError("the last answer has not ended: read it to its end, or close it")
        messages: "list[Message]" = [*self.messages, {"role": "user", "content": text}]
        generation = self.model.chat(messages, **{**self.options, **options})
        self.messages = messages
        self._answer = Answer(self, generation)
        return self._answer

    def __repr__(self) -> str:
        return f"<anser.Conversation: {len(self.messages)} messages>"
