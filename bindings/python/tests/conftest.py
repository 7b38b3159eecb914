"""Models and the values that independent programs expect of them; see fixtures/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import anser

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "fixtures"


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a safetensors file."""
    data = path.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    dtypes = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + n_header]).items():
        if name != "__metadata__" and entry["dtype"] in dtypes:
            start, end = (8 + n_header + at for at in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[start:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Cosine of two arrays taken as vectors, in float64."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.fixture(scope="session")
def demo() -> anser.Model:
    """The demo model of the package (Q8_0)."""
    return anser.load(device="cpu")


@pytest.fixture(scope="session")
def demo_f16() -> anser.Model:
    """The demo model in F16: the numbers that the oracle computes with."""
    return anser.load(FIXTURES / "unpacked" / "demo-f16.gguf", device="cpu")


@pytest.fixture(scope="session")
def tiny() -> anser.Model:
    """Random weights, 300 tokens, no tokenizer."""
    return anser.load(FIXTURES / "tiny" / "tiny-v7.st", device="cpu")


@pytest.fixture(scope="session")
def vectors() -> dict[str, NDArray[Any]]:
    """Vectors from package rwkv on torch and from llama.cpp."""
    return read_safetensors(FIXTURES / "expected" / "vectors.safetensors")


@pytest.fixture(scope="session")
def hidden() -> dict[str, NDArray[Any]]:
    """Hidden rows of the F16 demo model, in float64; fixtures/expected/make_hidden.py."""
    return read_safetensors(FIXTURES / "expected" / "hidden.safetensors")


@pytest.fixture(scope="session")
def prompts() -> dict[str, Any]:
    """Prompts with their ids and greedy continuations, by name."""
    expected = json.loads((FIXTURES / "expected" / "expected.json").read_text())
    return {prompt["name"]: prompt for prompt in expected["prompts"]}


@pytest.fixture(scope="session")
def long_text() -> str:
    """4,000 tokens."""
    return (FIXTURES / "expected" / "perplexity.txt").read_text()
