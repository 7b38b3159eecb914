"""Sessions: what is fed comes back, threads and signals are heard."""

import _thread
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tqdm import tqdm

import anser


def test_logits_equal_those_of_torch(
    demo_f16: anser.Model, prompts: Any, vectors: dict[str, NDArray[Any]]
) -> None:
    session = demo_f16.session()
    for name in ("story", "mail", "long-600"):
        session.reset()
        fed = session.feed(prompts[name]["feed"])
        assert fed.logits is not None and fed.hidden is None
        assert np.abs(fed.logits - vectors[f"logits.{name}"]).max() <= 0.01
        np.testing.assert_array_equal(session.logits(), fed.logits)
        assert session.n_tokens == len(prompts[name]["feed"])


def test_what_is_wanted_comes_back(demo_f16: anser.Model) -> None:
    ids = demo_f16.encode("Once upon a time")
    session = demo_f16.session()
    nothing = session.feed(ids, logits=None)
    assert nothing.logits is None and nothing.hidden is None and session.logits().size == 0
    session.reset()
    last = session.feed(ids, hidden="last")
    session.reset()
    every = session.feed(ids, logits="all", hidden="all")
    assert last.logits is not None and last.hidden is not None and every.logits is not None and every.hidden is not None
    assert every.logits.shape == (len(ids), 65536) and every.hidden.shape == (len(ids), 256)
    np.testing.assert_allclose(last.logits, every.logits[-1], atol=1e-3)
    np.testing.assert_allclose(last.hidden, every.hidden[-1], atol=1e-3)
    assert f"({len(ids)}, 65536)" in repr(every)
    assert "None" in repr(nothing)
    with pytest.raises(anser.OptionError, match="hidden: expected \"last\", \"all\" or None, found 'first'"):
        session.feed(ids, hidden="first")  # type: ignore[call-overload]


def test_bad_ids_leave_the_session_as_it_was(demo: anser.Model) -> None:
    session = demo.session()
    session.feed("Once")
    state = session.state()
    with pytest.raises(anser.TokenError, match="65536"):
        session.feed([1, 65536])
    np.testing.assert_array_equal(session.state().buffer, state.buffer)
    with pytest.raises(TypeError, match="found float"):
        session.feed(1.5)  # type: ignore[call-overload]


def test_progress_callbacks_and_bars(demo: anser.Model, long_text: str) -> None:
    ids = demo.encode(long_text)[:600]
    calls: list[tuple[int, int]] = []
    demo.session().feed(ids, logits=None, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 2 and calls == sorted(calls) and calls[-1] == (600, 600)
    with tqdm(disable=False, file=open("/dev/null", "w")) as bar:
        demo.state(ids, progress=bar)
        assert bar.n == bar.total == 600

    session = demo.session()

    def fail(done: int, total: int) -> None:
        if done >= 128:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        session.feed(ids, progress=fail)
    assert 128 <= session.n_tokens < 600


def test_a_session_in_use_is_busy_even_for_its_own_callback(demo: anser.Model, long_text: str) -> None:
    session = demo.session()
    with pytest.raises(anser.BusyError, match="another call is using this session"):
        session.feed(long_text[:2000], progress=lambda done, total: session.state())
    assert "in use" not in repr(session)


def test_calls_that_read_nothing_wait_for_each_other(demo: anser.Model) -> None:
    session = demo.session()
    session.feed("Hello, where is my order 73920?")
    expected, n_tokens = session.logits(), session.n_tokens
    together = threading.Barrier(8)

    def ask(number: int) -> None:
        together.wait()
        for _ in range(20):
            with session.fork() as fork:
                np.testing.assert_array_equal(fork.logits(), expected)
            np.testing.assert_array_equal(session.logits(), expected)
            assert session.n_tokens == n_tokens
            session.state()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))

    # Beside a feed or a generation they do not wait, since these may take long.
    reading = threading.Thread(target=lambda: session.feed([1] * 20_000, logits=None))
    reading.start()
    with pytest.raises(anser.BusyError, match="another call is using this session"):
        for _ in range(100_000):
            session.fork()
    reading.join()
    generation = session.generate("a")
    with pytest.raises(anser.BusyError, match="the session is generating"):
        session.fork()
    generation.close()
    assert session.fork().n_tokens == n_tokens + 20_000


def test_a_session_closed_while_it_reads_stays_closed(demo: anser.Model) -> None:
    session = demo.session()
    session.feed([1] * 500, progress=lambda done, total: session.close())
    with pytest.raises(anser.ClosedError):
        session.logits()


def test_the_gil_is_free_while_a_long_text_is_encoded(demo: anser.Model) -> None:
    text = "All the world's a stage. " * 400_000
    stamps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    demo.encode(text)
    end = time.perf_counter()
    done.set()
    thread.join()
    assert len([t for t in stamps if begin < t < end]) > 1


def test_a_closed_session_says_so(demo: anser.Model) -> None:
    with demo.session() as session:
        session.feed("a")
    assert "closed" in repr(session)
    for use in (session.state, session.logits, session.fork, session.generate, lambda: session.feed("a")):
        with pytest.raises(anser.ClosedError, match="the session is closed"):
            use()
    session.close()


def test_threads_run_several_sessions(demo: anser.Model, prompts: Any) -> None:
    names = ["story", "mail", "chat", "chat-memory"]

    def read(name: str) -> NDArray[np.float32]:
        session = demo.session()
        for chunk in np.array_split(np.array(prompts[name]["feed"], np.uint32), 5):
            session.feed(chunk)
        return session.logits()

    expected = [read(name) for name in names]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, logits in zip(pool.map(read, names), expected):
                np.testing.assert_array_equal(found, logits)


def test_the_gil_is_free_while_a_text_is_read(demo: anser.Model, long_text: str) -> None:
    ids = np.tile(demo.encode(long_text), 2)
    stamps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    demo.session().feed(ids[:2000], logits=None)
    end = time.perf_counter()
    done.set()
    thread.join()
    # With the GIL held the thread would tick between chunks only: 2,000 tokens are 16 of them.
    assert len([t for t in stamps if begin < t < end]) > 32


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Python ignores Ctrl-C where its parent does, as for a shell's background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("what", ["feed", "embed", "embed-one", "state", "generate", "for", "batch", "batch-prompts", "chat", "encode", "encode-batch"])
def test_ctrl_c_interrupts(demo: anser.Model, long_text: str, what: str) -> None:
    ids = np.tile(demo.encode(long_text), 100)
    session = demo.session()
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        if what == "feed":
            session.feed(ids)
        elif what == "embed":
            demo.embed(np.array_split(ids, 20_000))
        elif what == "embed-one":
            demo.embed([ids])
        elif what == "state":
            demo.state(ids)
        elif what == "encode":
            demo.encode("All the world's a stage. " * (200 << 20 >> 5))
        elif what == "encode-batch":
            demo.encode_batch(itertools.repeat("a", 2_000_000))  # Takes seconds, and ends where nothing interrupts it.
        elif what == "for":
            for _ in session.generate("a", stop_tokens=[]):
                pass
        elif what == "batch":
            demo.generate_batch(["a", "b", "c"], stop_tokens=[])
        elif what == "batch-prompts":
            demo.generate_batch([ids, ids])
        elif what == "chat":
            # A turn that takes long to read, however soon the reply to it ends.
            demo.chat([{"role": "user", "content": long_text * 100}]).text()
        else:
            session.generate(ids).text()
    timer.join()
    assert session.n_tokens < len(ids) / 2
    # The session has read whole chunks and goes on from there.
    session.feed("Once upon a time")


def test_saving_where_nothing_can_be_written(demo: anser.Model, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        demo.session().save(tmp_path / "missing" / "state.st")
