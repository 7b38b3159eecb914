"""PrefixCache, and texts that are read side by side: states() and feed_batch()."""

import threading
from typing import Any

import numpy as np
import pytest

import anser

BEGIN = "The following e-mail was sent to the support of a shop that sells lamps. Read it, and then answer the questions that follow it. " * 2
GREEDY: "dict[str, Any]" = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0}


def test_what_texts_begin_with_is_read_once(demo: anser.Model) -> None:
    cache = anser.PrefixCache(demo, 1 << 24)
    texts = [BEGIN + end for end in ("Who wrote it?", "What was ordered?", "When was it sent?")]
    n_read = []
    for text in texts:
        session, n_cached = cache.read(text)
        # Independent of any cache: the same text in a session of its own.
        alone = demo.session()
        expected = alone.feed(text).logits
        np.testing.assert_allclose(session.logits(), expected, rtol=1e-3, atol=1e-3)
        assert session.generate(max_tokens=5, **GREEDY).text() == alone.generate(max_tokens=5, **GREEDY).text()
        n_read.append(len(demo.encode(text)) - n_cached)
    # The second text shows which beginning is shared, and the third goes on from there.
    assert n_read[:2] == [len(demo.encode(text)) for text in texts[:2]]
    assert 0 < n_read[2] < 10
    again, n_cached = cache.read(texts[0])
    assert n_cached == len(demo.encode(texts[0])) and again.logits().shape == (demo.n_vocab,)
    assert cache.stats.n_entries == 4 and cache.stats.n_hits == 2 and cache.stats.n_misses == 2
    assert "4 states" in repr(cache)


def test_sessions_of_the_cache_do_not_change_it(demo: anser.Model) -> None:
    cache = anser.PrefixCache(demo, 1 << 24)
    first, _ = cache.read("User: What is 2 + 3?\n\nAssistant:")
    first.feed(" something else")
    second, n_cached = cache.read("User: What is 2 + 3?\n\nAssistant:")
    assert n_cached == len(demo.encode("User: What is 2 + 3?\n\nAssistant:"))
    assert second.generate(stop="\n", **GREEDY).text() == " 2 + 3 = 5."
    longest, n_found = cache.longest("User: What is 2 + 3?\n\nAssistant: no")
    assert n_found == n_cached
    assert longest.generate(stop="\n", **GREEDY).text() == " 2 + 3 = 5."
    assert cache.longest("Nothing like it")[1] == 0


def test_the_cache_keeps_to_its_bytes(demo: anser.Model) -> None:
    n_bytes = 4 * (demo.new_state().buffer.size + demo.n_vocab + 100)
    cache = anser.PrefixCache(demo, 2 * n_bytes)
    for text in ("One", "Two", "Three", "Four"):
        cache.read(text)
    assert cache.stats.n_entries == 2 and cache.stats.n_bytes <= 2 * n_bytes
    assert cache.longest("Four")[1] > 0 and cache.longest("One")[1] == 0
    small = anser.PrefixCache(demo, 0)
    assert small.read("One")[0].n_tokens == 1 and small.stats.n_entries == 0


def test_threads_share_a_cache(demo: anser.Model) -> None:
    cache = anser.PrefixCache(demo, 1 << 26)
    found: "dict[int, str]" = {}

    def work(number: int) -> None:
        session, _ = cache.read(f"{BEGIN}User: What is {number} + 3?\n\nAssistant:")
        found[number] = session.generate(stop="\n", max_tokens=12, **GREEDY).text()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, text in found.items():
        alone = demo.session()
        alone.feed(f"{BEGIN}User: What is {number} + 3?\n\nAssistant:")
        assert text == alone.generate(stop="\n", max_tokens=12, **GREEDY).text()
    assert len(found) == 6


def test_wrong_arguments_of_a_cache_are_refused(demo: anser.Model) -> None:
    with pytest.raises(TypeError, match="max_bytes: expected a whole number"):
        anser.PrefixCache(demo, "1G")  # type: ignore[arg-type]
    with pytest.raises(anser.OptionError, match="max_bytes"):
        anser.PrefixCache(demo, -1)
    with pytest.raises(TypeError, match="on_device: expected True or False"):
        anser.PrefixCache(demo, 1, on_device="yes")  # type: ignore[arg-type]
    with pytest.raises(anser.TokenError):
        anser.PrefixCache(demo, 1 << 20).read([70000])


def test_states_are_those_of_texts_one_by_one(demo: anser.Model) -> None:
    texts = [f"From: user{i}@example.com\n\nMy order {7000 + i} is missing. " * (1 + i % 3) for i in range(12)]
    calls: "list[tuple[int, int]]" = []
    states = demo.states(texts, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 12) for i in range(1, 13)]
    for state, text in zip(states, texts):
        np.testing.assert_allclose(state.buffer, demo.state(text).buffer, rtol=1e-3, atol=2e-3)
    assert demo.states([]) == []
    (only,) = demo.states("Hello")
    np.testing.assert_allclose(only.buffer, demo.state("Hello").buffer, rtol=1e-3, atol=2e-3)


def test_more_states_than_the_engine_reads_at_a_time(tiny: anser.Model) -> None:
    texts = [[1 + i % 250, 2, 3] for i in range(300)]
    states = tiny.states(texts)
    for i in (0, 127, 128, 299):
        np.testing.assert_allclose(states[i].buffer, tiny.state(texts[i]).buffer, rtol=1e-3, atol=1e-3)

    def fail(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        tiny.states(texts, progress=fail)
    with pytest.raises(anser.TokenError):
        tiny.states([[1], [5000]])


@pytest.mark.parametrize("hidden", [None, "last", "all"])
def test_feed_batch_gives_what_feed_gives(hidden: "anser._types.Which | None") -> None:
    # Without the rounding of activations to 8 bits, which multiplies differences of the last bits.
    demo = anser.load(device="cpu", exact=True)
    texts = ["Hello Ann,", "your order 48213 of 3 lamps was sent on 12 May. Kind regards", "Tom"]
    sessions = [demo.session() for _ in texts]
    sessions[1].feed("Dear customer, ")
    alone = [session.fork() for session in sessions]
    fed = demo.feed_batch(sessions, texts, hidden=hidden)
    for session, other, text, found in zip(sessions, alone, texts, fed):
        expected = other.feed(text, hidden=hidden)
        assert found.logits is not None and expected.logits is not None
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(session.logits(), found.logits)
        if hidden is None:
            assert found.hidden is None
        else:
            assert found.hidden is not None and expected.hidden is not None
            np.testing.assert_allclose(found.hidden, expected.hidden, rtol=1e-4, atol=1e-4)
        assert session.n_tokens == other.n_tokens
    everything = demo.feed_batch(sessions, texts, logits="all")
    assert [rows.logits.shape for rows in everything] == [(len(demo.encode(text)), demo.n_vocab) for text in texts]
    assert demo.feed_batch(sessions, ["a"] * 3, logits=None)[0].logits is None
    assert demo.feed_batch([demo.session()], [""])[0].logits.shape == demo.session().feed("").logits.shape


def test_feed_batch_reads_nothing_if_it_cannot_read_all(demo: anser.Model, tiny: anser.Model) -> None:
    free, busy = demo.session(), demo.session()
    generation = busy.generate("Once", max_tokens=3)
    with pytest.raises(anser.BusyError):
        demo.feed_batch([free, busy], ["a", "b"])
    generation.close()
    with pytest.raises(anser.OptionError, match="sessions: expected each session once, found that at 0 again at 1"):
        demo.feed_batch([free, free], ["a", "b"])
    with pytest.raises(anser.OptionError, match="prompts: expected one for each of 2 sessions, found 1"):
        demo.feed_batch([free, busy], ["a"])
    with pytest.raises(TypeError, match="sessions: expected an iterable of Session"):
        demo.feed_batch(["a"], ["a"])  # type: ignore[list-item]
    with pytest.raises(anser.OptionError, match="a session of .*tiny-v7.st, not of this demo"):
        demo.feed_batch([free, tiny.session()], ["a", [1]])
    with pytest.raises(anser.TokenError):
        demo.feed_batch([free, busy], ["a", [70000]])
    assert free.n_tokens == busy.n_tokens == 0
    assert demo.feed_batch([free, busy], ["a", "b"])[0].logits.shape == (demo.n_vocab,)


def test_progress_of_feed_batch_counts_tokens(demo: anser.Model, long_text: str) -> None:
    calls: "list[tuple[int, int]]" = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        raise KeyError("enough")

    sessions = [demo.session(), demo.session()]
    with pytest.raises(KeyError, match="enough"):
        demo.feed_batch(sessions, [long_text, "Hello"], progress=stop)
    assert calls[0][1] == len(demo.encode(long_text)) + 1
    assert sum(session.n_tokens for session in sessions) == calls[0][0] < calls[0][1]
    sessions[0].feed("The session was given back.")
