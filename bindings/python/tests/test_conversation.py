"""Conversations keep their messages, whatever ends an answer."""

import asyncio
from typing import Any

import pytest

import anser

OPTIONS: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


def test_answers_are_those_of_chat(demo: anser.Model) -> None:
    conversation = anser.Conversation(demo, "You are kind.", **OPTIONS)
    messages: list[Any] = [{"role": "system", "content": "You are kind."}]
    for text in ("Hello!", "Tell me a story."):
        messages.append({"role": "user", "content": text})
        expected = demo.chat(messages, **OPTIONS).text()
        pieces = list(conversation.say(text))
        assert len(pieces) > 1 and "".join(pieces) == expected
        messages.append({"role": "assistant", "content": expected})
        assert conversation.messages == messages
    answer = conversation.say("More!", max_tokens=3)
    next(answer)
    assert len(answer.text()) > 0 and len(answer.generation.tokens) == 3 and answer.generation.finish_reason == "length"


def test_an_answer_that_ends_early_is_part_of_the_conversation(demo: anser.Model) -> None:
    conversation = anser.Conversation(demo, **OPTIONS)
    answer = conversation.say("Hello!")
    first = next(answer)
    with pytest.raises(anser.BusyError, match="the last answer has not ended"):
        conversation.say("Hello?")
    answer.close()
    assert conversation.messages[1:] == [{"role": "assistant", "content": first}]
    with pytest.raises(anser.OptionError):
        conversation.say("Hello?", temperature=-1)
    assert len(conversation.messages) == 2, "a refused message is none"
    assert conversation.say("Hello?").text() and len(conversation.messages) == 4


def test_conversations_side_by_side(demo: anser.Model) -> None:
    async def talk(name: str) -> "list[Any]":
        conversation = anser.Conversation(demo, f"You are {name}.", **OPTIONS)
        for text in ("Hello!", "Bye!"):
            assert "".join([piece async for piece in conversation.say(text)])
        return conversation.messages

    async def all_of(*names: str) -> "list[list[Any]]":
        return list(await asyncio.gather(*map(talk, names)))

    talks = asyncio.run(all_of("Ann", "Bob", "Cleo"))
    alone = [asyncio.run(talk(name)) for name in ("Ann", "Bob", "Cleo")]
    assert [[message["role"] for message in messages] for messages in talks] == [["system", *["user", "assistant"] * 2]] * 3
    assert [messages[0] for messages in talks] == [messages[0] for messages in alone]
