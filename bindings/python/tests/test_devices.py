"""The GPU: the same numbers as on the CPU. Runs on the first adapter, Mesa's software one where there is no other."""

import re
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, cosine
from numpy.typing import NDArray

import anser

# The GPU may pass activations through f16 in tiles of matrix products (11 bits), which leaves up to 1e-5 after six layers.
BOUND = 1 - 1e-5


@pytest.fixture(scope="module")
def gpu() -> anser.Model:
    """The demo model in F16, on a GPU."""
    return anser.load(FIXTURES / "unpacked" / "demo-f16.gguf", device="gpu:0")


def test_both_devices_give_the_same_states_and_embeddings(
    demo_f16: anser.Model, gpu: anser.Model, prompts: Any, hidden: dict[str, NDArray[Any]]
) -> None:
    ids = prompts["mail"]["feed"]
    ours, theirs = gpu.state(ids), demo_f16.state(ids)
    for part in ("att_shift", "wkv", "ffn_shift"):
        assert cosine(getattr(ours, part), getattr(theirs, part)) >= BOUND, part
    names = ["story", "chat", "mail"]
    texts = [prompts[name]["feed"] for name in names]
    for name, row, of_cpu in zip(names, gpu.embed(texts), demo_f16.embed(texts)):
        assert cosine(row, of_cpu) >= BOUND and cosine(row, hidden[f"hidden_last.{name}"]) >= BOUND, name


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


def test_a_budget_of_gpu_memory_changes_no_bit(gpu: anser.Model, prompts: Any) -> None:
    path = FIXTURES / "unpacked" / "demo-f16.gguf"
    with pytest.raises(anser.DeviceError, match="bytes of GPU memory are too few: .* at least [0-9]+") as refused:
        anser.load(path, device="gpu:0", gpu_memory=1000)
    found = re.search("at least ([0-9]+)", str(refused.value))
    assert found is not None
    least = int(found[1])
    small = anser.load(path, device="gpu:0", gpu_memory=least)
    ids = prompts["mail"]["feed"]
    np.testing.assert_array_equal(small.state(ids).buffer, gpu.state(ids).buffer)
