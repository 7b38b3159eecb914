"""Memory: states cost their numbers once, and nothing is left behind."""

import gc
import os
import sys
import weakref

import pytest

import anser
from conftest import FIXTURES

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")


def resident_n_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_kept_state_costs_its_numbers_once(demo: anser.Model) -> None:
    session = demo.session()
    session.feed("Once upon a time")
    session.state()
    before = resident_n_bytes()
    states = [session.state() for _ in range(200)]
    n_bytes = sum(state.buffer.nbytes for state in states)
    assert n_bytes > 80_000_000
    # A Python list of the numbers would take eight times as much, a second copy twice.
    assert resident_n_bytes() - before < 1.2 * n_bytes


def test_ten_thousand_cycles_leave_nothing_behind() -> None:
    model = anser.load(FIXTURES / "tiny" / "tiny-v7mini.st", device="cpu", threads=1)

    def cycles(n: int) -> None:
        for i in range(n):
            ids = [i % 300, 1]
            model.embed([ids])
            session = model.session()
            session.feed(ids)
            state = session.state()
            fork = session.fork()
            fork.restore(state)
            if i % 10 == 0:
                with pytest.raises(anser.TokenError):
                    fork.feed([300])
            del session, state, fork

    cycles(1_000)
    before = resident_n_bytes()
    cycles(9_000)
    # A state is 33 kB: one left behind in a hundred cycles would be 3 MB.
    assert resident_n_bytes() - before < 2_000_000


def test_a_generation_in_a_cycle_is_collected(demo: anser.Model) -> None:
    class View:
        """Holds a generation that calls it back."""

        def __init__(self) -> None:
            self.session = demo.session()
            self.of_session = self.session.generate("Once upon a time", progress=self.on_progress)
            self.of_model = demo.generate("Once upon a time", max_tokens=2, progress=self.on_progress)

        def on_progress(self, done: int, total: int) -> None:
            self.done = done

    views = [weakref.ref(View()) for _ in range(20)]
    kept = View()
    gc.collect()
    assert [view() for view in views] == [None] * 20
    # What is in use stays: the callback is called, and let go once the prompt is read.
    assert kept.of_model.text() and kept.done == 4
