"""Functions as JSON schemas: signatures, schemas of calls, and what reads them."""

import json
from typing import Any

import pytest

import anser
from anser import tools

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": " The sum. ",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"$ref": "#/$defs/B"}, "unit": {"enum": ["m", 2]}},
            "required": ["a", "b", "unit"],
            "$defs": {"B": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
    },
}
NOW = {"name": "now"}


def test_signatures_are_in_the_words_of_python() -> None:
    assert tools.signature(ADD) == 'add(a: int, b: any, unit: "m" | 2): The sum.'
    assert tools.signature(NOW) == "now()"
    with pytest.raises(ValueError, match="expected a dict with a name"):
        tools.signature({"type": "function"})


@pytest.mark.parametrize("seed", range(6))
def test_a_required_call_is_valid_by_its_schema(demo: anser.Model, seed: int) -> None:
    generation = demo.chat(
        [{"role": "user", "content": "What is 3 + 4?"}],
        tools=[tools.signature(ADD), tools.signature(NOW)],
        json_schema=tools.call_schema([ADD, NOW]),
        max_tokens=200,
        seed=seed,
    )
    words, calls = tools.CallReader(["add", "now"], must_call=True).read(generation.text())
    assert words == "" and len(calls) == 1 and generation.finish_reason == "stop"
    if calls[0].name == "now":
        assert calls[0].arguments == {}
    else:
        arguments = calls[0].arguments
        assert set(arguments) == {"a", "b", "unit"}
        assert arguments["a"] <= 99 and 0 <= arguments["b"] <= 9 and arguments["unit"] in ("m", 2)


def test_parallel_calls_are_one_or_a_list(demo: anser.Model) -> None:
    schema = tools.call_schema([NOW], parallel=True)
    texts = {
        demo.chat([{"role": "user", "content": "now!"}], tools=["now()"], json_schema=schema, max_tokens=400, seed=seed).text()
        for seed in range(8)
    }
    for text in texts:
        _, calls = tools.CallReader(["now"], must_call=True).read(text)
        assert calls == [tools.Call("now", {})] * len(calls) and 1 <= len(calls) <= tools.MAX_CALLS
    with pytest.raises(ValueError, match="expected at least one"):
        tools.call_schema([])


@pytest.mark.parametrize(
    ("answer", "words", "calls"),
    [
        ("Hello.", "Hello.", []),
        ("``", "``", []),
        ("```rust\nfn", "```rust\nfn", []),
        ('```json\n{"a": 1}\n```', '```json\n{"a": 1}\n```', []),
        ('```json\n{"name": "other", "arguments": {}}\n```', '```json\n{"name": "other", "arguments": {}}\n```', []),
        ('```json\n{"name": "f", "argum', '```json\n{"name": "f", "argum', []),
        ('```json\n{"name": "f", "arguments": {"a": "}```"}}\n``` and more', "", [("f", {"a": "}```"})]),
        ('```json\n[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]\n```', "", [("f", {}), ("g", {})]),
        ('Hi {"name": "f", "arguments": {}}', 'Hi {"name": "f", "arguments": {}}', []),
    ],
)
def test_calls_are_found_however_the_answer_comes(answer: str, words: str, calls: "list[Any]") -> None:
    for size in (1, 3, len(answer)):
        reader = tools.CallReader(["f", "g"])
        shown = "".join(reader.push(answer[at : at + size]) for at in range(0, len(answer), size))
        rest, found = reader.finish()
        assert (shown + rest, found) == (words, calls)


def test_calls_are_told_as_models_write_them(demo: anser.Model) -> None:
    call = tools.Call("add", {"a": 1})
    text = tools.called("", [call])["content"]
    assert tools.CallReader(["add"]).read(text) == ("", [call])
    assert tools.called("So: ", [call, call])["content"].startswith("So:\n```json\n[{")
    assert tools.called("Hello", []) == {"role": "assistant", "content": "Hello"}


def test_closed_schemas_have_the_properties_that_they_name() -> None:
    schema = {
        "properties": {"a": {"properties": {}}, "properties": {"type": "object"}},
        "$defs": {"B": {"properties": {"x": {}}, "additionalProperties": True}},
        "const": {"properties": {}},
    }
    before = json.dumps(schema)
    assert tools.closed(schema) == {
        "properties": {"a": {"properties": {}, "additionalProperties": False}, "properties": {"type": "object"}},
        "$defs": {"B": {"properties": {"x": {}}, "additionalProperties": True}},
        "const": {"properties": {}},
        "additionalProperties": False,
    }
    assert json.dumps(schema) == before
    parts: "dict[str, Any]" = {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    assert tools.closed(parts) == parts


def test_tool_choice_says_whether_the_answer_opens_a_call(demo: anser.Model) -> None:
    question = [{"role": "user", "content": "What is 17 + 26?"}]
    greedy = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 12}
    n_prompt = {}
    for choice in ("auto", "required"):
        generation = demo.chat(question, tools=["now()"], tool_choice=choice, **greedy)  # type: ignore[call-overload]
        generation.text()
        n_prompt[choice] = generation.usage["prompt"]
    assert n_prompt["required"] > n_prompt["auto"]
    with pytest.raises(anser.OptionError, match='tool_choice: expected "required" or "auto"'):
        demo.chat(question, tools=["now()"], tool_choice="maybe")  # type: ignore[call-overload]


def test_a_grammar_begins_with_the_first_word_of_the_answer(demo: anser.Model) -> None:
    question = [{"role": "user", "content": "What is 17 + 26?"}]
    # The grammar has no space after "Assistant:", which is part of the prompt then.
    regex, greedy = "(17|18) \\+ [0-9]{2} = [0-9]{2}\\.", {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0}
    generation = demo.chat(question, regex=regex, **greedy)  # type: ignore[call-overload]
    prompt = "User: What is 17 + 26?\n\nAssistant: "
    assert generation.text() == demo.generate(prompt, regex=regex, **greedy).text()  # type: ignore[call-overload]
    assert generation.usage["prompt"] == len(demo.encode(prompt)) > len(demo.encode(prompt[:-1]))
    with pytest.raises(anser.OptionError, match="thinking: a text that follows a grammar has no thought"):
        demo.chat(question, regex="[0-9]+", thinking="on")
