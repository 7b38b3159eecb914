"""Calls from threads and tasks are batched by the model's engine, and each gets what it gets alone."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

import anser

PROMPTS = ["Once upon a time", "User: Hello!\n\nAssistant:", "The ferry left the harbour", "", "Dear Anna,", "1, 2, 3,"]
OPTIONS: "list[dict[str, Any]]" = [
    {"temperature": 0},
    {"seed": 3},
    {"seed": 4, "temperature": 1.5, "top_p": 1},
    {"temperature": 0, "stop": ["."]},
    {"seed": 5, "top_k": 4},
    {"temperature": 0, "logit_bias": {45: -100}},
]


@pytest.fixture(scope="module")
def exact() -> anser.Model:
    """The demo model in floats: rounding to 8 bits depends on what else is in a step, and texts part at the first near tie."""
    return anser.load(device="cpu", exact=True)


def alone(model: anser.Model) -> "list[str]":
    """The texts one after the other, in sessions, which take their own steps."""
    texts = []
    for prompt, options in zip(PROMPTS, OPTIONS):
        texts.append(model.session().generate(prompt, max_tokens=24, stop_tokens=[], **options).text())
    return texts


def test_threads_get_the_texts_that_they_get_alone(exact: anser.Model) -> None:
    expected = alone(exact)
    found = [""] * len(PROMPTS)

    def work(i: int) -> None:
        found[i] = exact.generate(PROMPTS[i], max_tokens=24, stop_tokens=[], **OPTIONS[i]).text()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_tasks_get_the_texts_that_they_get_alone_and_no_thread_waits_for_them(exact: anser.Model) -> None:
    expected = alone(exact)
    n_threads = []

    async def one(i: int) -> str:
        text = ""
        async for piece in exact.generate(PROMPTS[i], max_tokens=24, stop_tokens=[], **OPTIONS[i]):
            text += piece
            n_threads.append(threading.active_count())
        return text

    async def main() -> "list[str]":
        return list(await asyncio.gather(*[one(i) for i in range(len(PROMPTS))]))

    before = threading.active_count()
    assert asyncio.run(main()) == expected
    assert max(n_threads) <= before


def test_a_reader_that_stops_stops_no_other(exact: anser.Model) -> None:
    slow = exact.generate("Once upon a time", max_tokens=200, stop_tokens=[], temperature=0)
    first = next(slow)
    text = exact.generate("Dear Anna,", max_tokens=120, stop_tokens=[], temperature=0).text()
    assert text == exact.session().generate("Dear Anna,", max_tokens=120, stop_tokens=[], temperature=0).text()
    whole = exact.session().generate("Once upon a time", max_tokens=200, stop_tokens=[], temperature=0).text()
    assert first + slow.text() == whole
    # What the engine has drawn ahead is no part of a text that is cancelled.
    cancelled = exact.generate("Once upon a time", max_tokens=200, stop_tokens=[], temperature=0)
    assert next(cancelled) == first
    n = len(cancelled.tokens)
    cancelled.cancel()
    assert list(cancelled) == [] and len(cancelled.tokens) == n and cancelled.finish_reason == "cancelled"


def test_logprobs_and_scores_are_those_of_the_logits(exact: anser.Model) -> None:
    def log_softmax(logits: Any) -> Any:
        logits = logits.astype(np.float64)
        logits = logits - logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    tokens = exact.encode("Once upon a time there was a fox.")
    expected = log_softmax(exact.session().feed(tokens, logits="all").logits)
    scores = exact.score(tokens)
    assert scores.shape == tokens.shape and np.isnan(scores[0])
    rows = np.arange(len(tokens) - 1)
    np.testing.assert_allclose(scores[1:], expected[rows, tokens[1:]], atol=1e-3)
    # After a state every token follows on something.
    state = exact.state(tokens[:4])
    assert state is not None
    np.testing.assert_allclose(exact.score(tokens[4:], state=state)[1:], scores[5:], atol=1e-3)

    generation = exact.generate(tokens, max_tokens=5, stop_tokens=[], temperature=0, logprobs=3)
    assert generation.usage is None
    text = generation.text()
    assert text == exact.generate(tokens, max_tokens=5, stop_tokens=[], temperature=0).text()
    logprobs = generation.logprobs
    assert logprobs is not None and [token for token, _, _ in logprobs] == list(generation.tokens)
    token, logprob, top = logprobs[0]
    assert top[0] == (token, logprob) and len(top) == 3
    assert abs(logprob - expected[-1, token]) < 1e-3
    assert generation.usage == {"prompt": len(tokens), "cached": 0, "generated": 5}
    assert exact.generate("a", max_tokens=1).logprobs is None
    with pytest.raises(anser.OptionError, match="logprobs"):
        exact.generate("a", logprobs=-1)
    with pytest.raises(anser.OptionError, match="logprobs"):
        exact.generate("a", logprobs=1, progress=lambda done, total: None)


def test_states_of_many_threads_are_those_of_sessions(exact: anser.Model) -> None:
    texts = [prompt + " and so on" for prompt in PROMPTS]
    found: "dict[int, Any]" = {}

    def work(i: int) -> None:
        found[i] = exact.state(texts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, text in enumerate(texts):
        session = exact.session()
        session.feed(text)
        expected = session.state()
        np.testing.assert_allclose(found[i].buffer, expected.buffer, atol=1e-3, rtol=1e-3)


def test_a_conversation_reads_its_turns_once() -> None:
    options: dict[str, Any] = {"max_tokens": 12, "temperature": 0}
    model, plain = anser.load(state_cache=1 << 24, exact=True), anser.load(exact=True)
    messages = [{"role": "system", "content": "You are kind."}]
    n_read: list[int] = []
    for text in ("Hello!", "How are you?", "Tell me a story.", "And then?"):
        messages.append({"role": "user", "content": text})
        generation = model.chat(messages, **options)
        answer = generation.text()
        other = plain.chat(messages, **options)
        assert other.text() == answer
        assert generation.usage is not None and other.usage is not None and other.usage["cached"] == 0
        assert generation.usage["prompt"] == other.usage["prompt"]
        n_read.append(generation.usage["prompt"] - generation.usage["cached"])
        messages.append({"role": "assistant", "content": answer})
    assert all(n < 40 for n in n_read[1:]) and generation.usage["prompt"] > 60, n_read
    # Another conversation shares the turn of the system.
    generation = model.chat([messages[0], {"role": "user", "content": "Bye!"}], **options)
    generation.text()
    assert generation.usage is not None and 0 < generation.usage["cached"] < generation.usage["prompt"]
