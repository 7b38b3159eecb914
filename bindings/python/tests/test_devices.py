"""The GPU: the same numbers as on the CPU. Runs on the first adapter, Mesa's software one where there is no other."""

from typing import Any

import numpy as np
import pytest
from conftest import cosine

import anser


@pytest.fixture(scope="module")
def gpu() -> anser.Model:
    """The demo model of the package, on a GPU."""
    return anser.load(device="gpu:0")


def test_both_devices_give_the_same_states_and_embeddings(demo: anser.Model, gpu: anser.Model, prompts: Any) -> None:
    ids = prompts["mail"]["feed"]
    # The CPU rounds activations to 8 bits, one scale per 32; see docs/performance-cpu.md.
    for part in ("att_shift", "wkv", "ffn_shift"):
        assert cosine(getattr(gpu.state(ids), part), getattr(demo.state(ids), part)) >= 1 - 1e-3, part
    texts = [prompts[name]["ids"] for name in ("story", "chat", "mail")]
    for ours, theirs in zip(gpu.embed(texts), demo.embed(texts)):
        assert cosine(ours, theirs) >= 1 - 1e-3


def test_a_state_on_the_gpu_goes_on_bit_for_bit(gpu: anser.Model, prompts: Any) -> None:
    head, tail = prompts["mail"]["feed"][:60], prompts["mail"]["feed"][60:]
    session = gpu.session()
    session.feed(head)
    fork, state = session.fork(), session.state()
    expected = session.feed(tail).logits
    assert expected is not None
    np.testing.assert_array_equal(fork.feed(tail).logits, expected)
    session.restore(state)
    np.testing.assert_array_equal(session.feed(tail).logits, expected)
