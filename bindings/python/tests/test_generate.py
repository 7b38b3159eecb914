"""Generation: text, options, ends; in an event loop; conversations."""

import asyncio
import json
import re
import threading
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES

import anser

GREEDY: dict[str, Any] = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0}


def test_greedy_text_is_the_oracles(demo_f16: anser.Model, prompts: Any) -> None:
    for prompt in prompts.values():
        generation = demo_f16.generate(prompt["feed"], max_tokens=48, stop_tokens=[], **GREEDY)
        text = generation.text()
        assert generation.tokens.tolist() == prompt["pip"]["greedy"], prompt["name"]
        assert generation.tokens.dtype == np.uint32 and generation.finish_reason == "length"
        assert text == demo_f16.decode(prompt["pip"]["greedy"], errors="replace")


def test_pieces_make_the_text(demo: anser.Model) -> None:
    pieces = list(demo.generate("Once upon a time", max_tokens=20, **GREEDY))
    assert len(pieces) > 10 and all(isinstance(piece, str) and piece for piece in pieces)
    assert "".join(pieces) == demo.generate("Once upon a time", max_tokens=20, **GREEDY).text()


def test_options_reach_the_sampler(demo: anser.Model) -> None:
    def text(**options: Any) -> str:
        return demo.generate("Once upon a time", max_tokens=30, **options).text()

    drawn = text(seed=1, top_p=1, temperature=1.5)
    assert drawn == text(seed=1, top_p=1, temperature=1.5) != text(seed=2, top_p=1, temperature=1.5)
    greedy = text(**GREEDY)
    assert greedy == text(top_k=1, presence_penalty=0, frequency_penalty=0)
    assert greedy == text(top_p=0, presence_penalty=0, frequency_penalty=0, order="common", seed=None)
    assert text(**GREEDY, repetition_penalty=5) != greedy
    first = demo.encode(greedy)[0]
    assert demo.encode(text(**GREEDY, logit_bias={int(first): float("-inf")}))[0] != first
    assert text(**GREEDY, stop="was") == greedy.split("was")[0]
    assert text(**GREEDY, stop=["zzz", "was"]) == greedy.split("was")[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": -1}, anser.OptionError, "temperature: expected 0"),
        ({"top_p": 2}, anser.OptionError, "top_p"),
        ({"stop": [""]}, anser.OptionError, "stop"),
        ({"logit_bias": {65536: 1}}, anser.OptionError, "65536"),
        ({"order": "random"}, anser.OptionError, "order"),
        ({"temprature": 1}, TypeError, "temprature.*the options are .*temperature"),
        ({"max_tokens": "many"}, TypeError, "str"),
        ({"stop_tokens": [-1]}, anser.TokenError, "-1"),
        ({"json_schema": {"not": {}}}, anser.OptionError, "JSON schema: .*not"),
        ({"json_schema": "{"}, anser.OptionError, "no JSON"),
        ({"json_schema": 3}, TypeError, "json_schema"),
        ({"regex": "("}, anser.OptionError, "unclosed"),
        ({"grammar": "start: none"}, anser.OptionError, "none"),
        ({"regex": "a", "grammar": 'start: "a"'}, anser.OptionError, "several"),
    ],
)
def test_bad_options_are_refused_at_once(
    demo: anser.Model, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    session = demo.session()
    with pytest.raises(error, match=message):
        session.generate("a", **options)
    session.feed("the session is still here")
    with pytest.raises(anser.TokenError, match="token 1 of the prompt is 65536"):
        demo.generate([1, 65536])


def test_a_session_is_lent_and_comes_back(demo: anser.Model) -> None:
    session = demo.session()
    with session.generate("Once upon a time", max_tokens=5, **GREEDY) as generation:
        assert "not started" in repr(generation)
        first = next(generation)
        with pytest.raises(anser.BusyError, match="the session is generating"):
            session.feed("more")
        assert generation.finish_reason is None and "running" in repr(generation)
    assert generation.finish_reason == "cancelled" and "cancelled" in repr(generation)
    assert list(generation) == []
    rest = session.generate(max_tokens=4, **GREEDY).text()
    assert first + rest == demo.generate("Once upon a time", max_tokens=5, **GREEDY).text()
    # Dropped without close().
    next(session.generate("x"))
    session.feed("more")


def test_a_generation_that_never_ran_leaves_the_session_alone(demo: anser.Model) -> None:
    session = demo.session()
    session.generate("Once upon a time").close()
    assert session.n_tokens == 0
    with pytest.raises(anser.OptionError, match="prompt: a restored state needs at least one token"):
        session.restore(demo.state("a"))
        session.generate("").text()
    session.feed("the session is still here")


def test_cancel_from_another_thread(demo: anser.Model) -> None:
    generation = demo.generate("Once upon a time", stop_tokens=[])
    threading.Timer(0.1, generation.cancel).start()
    assert generation.text()
    assert generation.finish_reason == "cancelled"


def test_async_for_equals_for(demo: anser.Model) -> None:
    async def collect(prompt: str) -> str:
        return "".join([piece async for piece in demo.generate(prompt, max_tokens=20, **GREEDY)])

    async def both() -> list[str]:
        return list(await asyncio.gather(*[collect(prompt) for prompt in prompts]))

    # The two likeliest tokens are never closer than 0.1 after these prompts, so that rounding side by side draws no other.
    prompts = ["In the morning", "A little"]
    assert asyncio.run(both()) == [demo.generate(prompt, max_tokens=20, **GREEDY).text() for prompt in prompts]


def test_a_cancelled_task_cancels_its_generation(demo: anser.Model) -> None:
    generation = demo.generate("Once upon a time", stop_tokens=[])

    async def run() -> None:
        async def consume() -> None:
            async for _ in generation:
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await generation.aclose()

    asyncio.run(run())
    assert generation.finish_reason == "cancelled"


def test_texts_side_by_side_are_the_oracles(demo_f16: anser.Model, prompts: Any) -> None:
    feeds = [prompt["feed"] for prompt in prompts.values()]
    texts = demo_f16.generate_batch(feeds, max_tokens=48, stop_tokens=[], **GREEDY)
    assert texts == [demo_f16.decode(prompt["pip"]["greedy"], errors="replace") for prompt in prompts.values()]


def test_texts_side_by_side_are_those_of_generate(demo_f16: anser.Model) -> None:
    texts = ["Once upon a time", b"Dear", demo_f16.encode("User: What is 17 + 26?\n\nAssistant:"), ""]
    state = demo_f16.state("User: My name is Zelda.\n\nAssistant: Hello Zelda.\n\n")
    for options in ({"seed": 3, "top_p": 0.9}, {"stop": [".", "\n"], **GREEDY}, {"max_tokens": 2}):
        options = {"max_tokens": 25, "seed": 1, **options}
        expected = [demo_f16.generate(text, **options).text() for text in texts]
        assert demo_f16.generate_batch(texts, **options) == expected
        expected = [demo_f16.generate(text, state=state, **options).text() for text in texts[:3]]
        assert demo_f16.generate_batch(iter(texts[:3]), state=state, **options) == expected
    one = demo_f16.generate("Once upon a time", max_tokens=5, **GREEDY).text()
    assert demo_f16.generate_batch("Once upon a time", max_tokens=5, **GREEDY) == [one]
    assert demo_f16.generate_batch([]) == []


def test_progress_of_texts_side_by_side(demo: anser.Model) -> None:
    calls: list[tuple[int, int]] = []
    prompts = ["Once upon a time", "Dear", "A"]
    demo.generate_batch(prompts, max_tokens=9, progress=lambda done, total: calls.append((done, total)), **GREEDY)
    assert calls[0] == (0, 3) and calls[-1] == (3, 3) and calls == sorted(calls)

    def fail(done: int, total: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError, match="0"):
        demo.generate_batch(prompts, progress=fail)
    # More than are generated at a time.
    calls.clear()
    texts = demo.generate_batch(["A"] * 70, max_tokens=2, progress=lambda done, total: calls.append((done, total)), **GREEDY)
    assert len(texts) == 70 and texts[0] == texts[69] and calls[-1] == (70, 70) and (64, 70) in calls


def test_bad_prompts_side_by_side_are_refused(demo: anser.Model) -> None:
    beyond: list[anser.Prompt] = ["a", [1, 65536]]
    with pytest.raises(anser.TokenError, match="token 1 of the prompt is 65536"):
        demo.generate_batch(beyond)
    with pytest.raises(TypeError, match="prompt: token 1: expected an int, found str 'a'"):
        demo.generate_batch([1, "a", 3])  # type: ignore[arg-type]
    with pytest.raises(anser.OptionError, match="temperature"):
        demo.generate_batch(["a", "b"], temperature=-1)
    with pytest.raises(anser.OptionError, match="prompt: a restored state needs at least one token"):
        demo.generate_batch(["a", ""], state=demo.state("a"))


def test_chat_equals_its_format_in_plain_text(demo: anser.Model) -> None:
    question: anser.Message = {"role": "user", "content": "What is 17 + 26?\n\n"}
    answer = demo.chat([question], **GREEDY)
    text = answer.text()
    assert answer.finish_reason == "stop" and answer.reasoning == ""
    plain = demo.generate("User: What is 17 + 26?\n\nAssistant:", stop="\n\n", **GREEDY).text()
    assert text == plain.strip() and "43" in text
    messages: list[anser.Message] = [
        {"role": "system", "content": "Be brief."},
        question,
        {"role": "assistant", "content": "<think>hm</think>43"},
        {"role": "user", "content": "And 2 + 2?"},
    ]
    rendered = "System: Be brief.\n\nUser: What is 17 + 26?\n\nAssistant: 43\n\nUser: And 2 + 2?\n\nAssistant:"
    assert demo.chat(messages, **GREEDY).text() == demo.generate(rendered, stop="\n\n", **GREEDY).text().strip()


def test_thoughts_are_kept_apart(demo: anser.Model) -> None:
    answer = demo.chat([{"role": "user", "content": "Hi"}], thinking="on", max_tokens=10, **GREEDY)
    assert answer.text() == ""
    assert answer.reasoning and answer.finish_reason == "length"
    tool = demo.chat([{"role": "user", "content": "Hi"}], tools=["weather(city: str)"], max_tokens=3, **GREEDY)
    tool.text()
    assert tool.tokens.size


@pytest.mark.parametrize(
    ("messages", "options", "error", "message"),
    [
        ([{"role": "robot", "content": ""}], {}, anser.OptionError, "found 'robot'"),
        ([{"role": "user"}], {}, anser.OptionError, "expected the keys role and content, found"),
        (["hi"], {}, TypeError, r"messages\[0\]: expected a dict .*, found str 'hi'"),
        ([{"role": "user", "content": "x"}], {"thinking": "hard"}, anser.OptionError, "found 'hard'"),
    ],
)
def test_bad_conversations_are_refused(
    demo: anser.Model, messages: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        demo.chat(messages, **options)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"名": {"enum": ["北京", "🎉"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["名", "n"],
    "additionalProperties": False,
}


def test_texts_follow_their_grammar(demo: anser.Model) -> None:
    def check(text: str) -> None:
        value = json.loads(text)
        assert set(value) == {"名", "n"} and value["名"] in ("北京", "🎉") and 0 <= value["n"] <= 99

    for schema in (SCHEMA, json.dumps(SCHEMA)):
        generation = demo.generate("As JSON:", json_schema=schema, max_tokens=60, top_p=1, seed=1)
        check(generation.text())
        assert generation.finish_reason == "stop"
    for text in demo.generate_batch(["As JSON:"] * 3, json_schema=SCHEMA, max_tokens=60, top_p=1):
        check(text)
    check(demo.session().generate("As JSON:", json_schema=SCHEMA, max_tokens=60).text())
    check(demo.chat([{"role": "user", "content": "JSON!"}], json_schema=SCHEMA, max_tokens=60).text())
    assert re.fullmatch("[0-9]{3}-[a-f]{2}", demo.generate("A code:", regex="[0-9]{3}-[a-f]{2}").text())
    assert demo.generate("Yes or no?", grammar='start: "yes" | "no"').text() in ("yes", "no")

    async def collect() -> str:
        return "".join([piece async for piece in demo.generate("As JSON:", json_schema=SCHEMA, max_tokens=60)])

    check(asyncio.run(collect()))


def test_a_text_of_a_grammar_that_is_cut_short_is_a_beginning(demo: anser.Model) -> None:
    generation = demo.generate("As JSON:", json_schema=SCHEMA, max_tokens=3)
    text = generation.text()
    assert text.startswith('{"') and generation.finish_reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_prompts_side_by_side_have_options_and_states_of_their_own(demo: anser.Model) -> None:
    prompts = ["Once upon a time", "Dear", "Once upon a time", " there"]
    state = demo.state("Once upon a time")
    states = [None, state, state, None]
    each: list[Any] = [None, {"max_tokens": 3}, {"temperature": 1, "seed": 5, "top_p": 1}, {"regex": "[a-c]{4}"}]
    common: dict[str, Any] = {**GREEDY, "max_tokens": 8}
    texts = demo.generate_batch(prompts, state=states, each=each, **common)
    for prompt, start, own, text in zip(prompts, states, each, texts):
        assert text == demo.generate(prompt, state=start, **{**common, **(own or {})}).text()
    assert len(texts[3]) == 4 and set(texts[3]) <= set("abc")
    # A grammar of one prompt replaces that of all.
    digits, letters = demo.generate_batch(["a", "b"], each=[None, {"regex": "[xy]{2}"}], regex="[0-9]{2}")
    assert digits.isdigit() and set(letters) <= set("xy")
    with pytest.raises(anser.OptionError, match="each: expected one for each of 2 prompts, found 1"):
        demo.generate_batch(["a", "b"], each=[None])
    with pytest.raises(anser.OptionError, match="state: expected one for each of 2 prompts, found 1"):
        demo.generate_batch(["a", "b"], state=[None])
    wrong: Any = [1, 2]
    with pytest.raises(TypeError, match="each"):
        demo.generate_batch(["a", "b"], each=wrong)
    with pytest.raises(TypeError, match="state"):
        demo.generate_batch(["a", "b"], state=wrong)


def test_look_up_changes_no_text() -> None:
    model = anser.load(device="cpu", exact=True)
    line = " the ferry left the harbour at nine.\n"
    prompt = f"1:{line}2:{line}3:{line}4:"
    options: dict[str, Any] = {"max_tokens": 30, "seed": 1, "regex": f"({line.replace('.', '[.]')}[0-9]:){{3}}"}
    assert model.generate(prompt, lookup=True, **options).text() == model.generate(prompt, **options).text()


def test_a_draft_model_changes_no_text() -> None:
    model = anser.load(device="cpu", exact=True)
    draft = anser.load(FIXTURES / "unpacked" / "demo-q4_k_m.gguf", device="cpu", exact=True)
    options: dict[str, Any] = {"max_tokens": 30, "seed": 1, "top_p": 1}
    texts = [model.generate(prompt, **options).text() for prompt in ("Once upon a time", "Dear")]
    assert [model.generate(prompt, draft=draft, **options).text() for prompt in ("Once upon a time", "Dear")] == texts
    assert model.generate_batch(["Once upon a time", "Dear"], draft=draft, **options) == texts
    assert model.generate_batch(["Once upon a time", "Dear"], each=[{"draft": model}, None], **options) == texts
    messages = [{"role": "user", "content": "Hello!"}]
    assert model.chat(messages, draft=draft, **options).text() == model.chat(messages, **options).text()
    session = model.session()
    session.feed("Once upon")
    assert session.generate(" a time", draft=draft, **options).text() == texts[0]
    other = anser.load(FIXTURES / "tiny" / "tiny-v7.st", device="cpu")
    with pytest.raises(anser.OptionError, match="draft: .*tiny-v7.st.* vocabulary .*65536 tokens and the draft model 300"):
        model.generate("Once", draft=other)
    wrong: Any = "demo"
    with pytest.raises(TypeError, match="draft: expected a Model, found str 'demo'"):
        model.generate("Once", draft=wrong)
