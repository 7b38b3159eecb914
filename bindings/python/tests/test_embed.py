"""Embeddings, against torch and llama.cpp and against rows read one by one."""

from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, cosine, read_safetensors
from numpy.typing import NDArray

import anser
from anser._types import Pooling

NAMES = ["story", "chat", "mail", "long-600"]


def test_embeddings_equal_the_float64_oracle(
    demo_f16: anser.Model, prompts: Any, hidden: dict[str, NDArray[Any]]
) -> None:
    texts = [prompts[name]["feed"] for name in NAMES]
    cases: list[tuple[str, Pooling]] = [("last", "last"), ("mean", "mean"), ("eos", "eos-mean")]
    for part, pooling in cases:
        for name, row in zip(NAMES, demo_f16.embed(texts, pooling)):
            assert cosine(row, hidden[f"hidden_{part}.{name}"]) >= 1 - 1e-6, (pooling, name)
    # Where a text has the token, its rows are what is averaged.
    row = demo_f16.embed([prompts["mail"]["feed"]], "eos-mean", eos_token=45)
    assert cosine(row, hidden["hidden_mean_of_commas.mail"]) >= 1 - 1e-6
    for layer in range(6):
        for name, row in zip(NAMES, demo_f16.embed(texts, layer=layer)):
            assert cosine(row, hidden[f"residual_last.{name}"][layer]) >= 1 - 1e-6, (layer, name)


def test_the_head_times_the_embedding_gives_the_logits_of_torch(
    demo_f16: anser.Model, prompts: Any, vectors: dict[str, NDArray[Any]]
) -> None:
    head = read_safetensors(FIXTURES / "unpacked" / "demo.st")["head.weight"].astype(np.float64)
    names = ["story", "mail", "long-600"]
    rows = demo_f16.embed([prompts[name]["feed"] for name in names])
    assert rows.shape == (3, 256) and rows.dtype == np.float32
    for name, row in zip(names, rows):
        # The head has more trained rows than the embedding has elements: only one embedding gives these logits.
        assert cosine(head @ row, vectors[f"logits.{name}"]) >= 1 - 1e-6, name
        assert np.abs(head @ row - vectors[f"logits.{name}"]).max() <= 0.01, name


def test_embeddings_equal_those_of_llama_cpp(
    demo_f16: anser.Model, prompts: Any, vectors: dict[str, NDArray[Any]]
) -> None:
    rows = demo_f16.embed([prompts[name]["feed"] for name in NAMES])
    for name, row in zip(NAMES, rows):
        # llama.cpp rounds activations to f16 before every product.
        assert cosine(row, vectors[f"f16.llama.hidden_last.{name}"]) >= 1 - 1e-5, name


def test_a_batch_equals_texts_one_by_one(demo: anser.Model, demo_f16: anser.Model, long_text: str) -> None:
    words = long_text.split()
    texts = [" ".join(words[:n]) for n in (1, 300, 7, 40, 2, 150, 90)] + ["", *(w for w in words[:33])]
    # Sums may run in another order. With Q8_0 that can round an activation, one of 8 bits, the other way.
    for model, bound in ((demo_f16, 1e-6), (demo, 1e-4)):
        batch = model.embed(texts)
        assert batch.shape == (len(texts), 256)
        for text, row in zip(texts, batch):
            assert cosine(model.embed([text]), row) >= 1 - bound, text


def test_poolings_and_layers_equal_rows_read_one_by_one(demo_f16: anser.Model, prompts: Any) -> None:
    ids = prompts["mail"]["feed"]
    rows = demo_f16.session().feed(ids, logits=None, hidden="all").hidden
    assert rows is not None and rows.shape == (len(ids), 256)
    np.testing.assert_allclose(demo_f16.embed([ids])[0], rows[-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(demo_f16.embed([ids], "mean")[0], rows.mean(axis=0), rtol=1e-4, atol=1e-5)
    eos = ids[len(ids) // 2]
    of_eos = rows[np.array(ids) == eos].mean(axis=0)
    found = demo_f16.embed([ids], pooling="eos-mean", eos_token=eos)[0]
    np.testing.assert_allclose(found, of_eos, rtol=1e-4, atol=1e-5)
    # Without the token it is appended.
    found = demo_f16.embed([ids], pooling="eos-mean", eos_token=65535)
    assert cosine(found, demo_f16.embed([[*ids, 65535]])) >= 1 - 1e-6
    # The last layer's residual stream, normalised, is the final norm's output.
    x = demo_f16.embed([ids], layer=5)[0].astype(np.float64)
    norm = read_safetensors(FIXTURES / "unpacked" / "demo.st")
    y = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * norm["ln_out.weight"] + norm["ln_out.bias"]
    assert cosine(y, rows[-1]) >= 1 - 1e-6
    assert cosine(demo_f16.embed([ids], layer=0), x) < 0.9


def test_normalised_rows_have_length_one(demo: anser.Model) -> None:
    rows = demo.embed(["a", "Once upon a time"], normalize=True)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows, [r / np.linalg.norm(r) for r in demo.embed(["a", "Once upon a time"])], rtol=1e-5)


def test_forms_of_texts(demo: anser.Model) -> None:
    expected = demo.embed(["Once upon a time"])
    for texts in ("Once upon a time", b"Once upon a time", iter(["Once upon a time"]), [demo.encode("Once upon a time")]):
        np.testing.assert_array_equal(demo.embed(texts), expected)
    assert demo.embed([]).shape == (0, 256)


def test_arrays_own_the_engines_memory(demo: anser.Model) -> None:
    session = demo.session()
    fed = session.feed("ab", logits="all", hidden="last")
    assert fed.logits is not None and fed.hidden is not None
    # NumPy's stubs know the buffer protocol for Python 3.12 only: Any.
    arrays: list[Any] = [demo.encode("Once"), demo.embed(["a", "b"]), fed.logits, fed.hidden, session.logits()]
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            assert not base.flags.owndata
            base = base.base
        # A Rust vector: NumPy allocated nothing.
        assert type(base).__name__ == "PySliceContainer"
        assert array.flags.c_contiguous and array.flags.writeable
        assert np.shares_memory(np.from_dlpack(array), array)
        assert np.shares_memory(np.frombuffer(memoryview(array), array.dtype), array)
    assert fed.logits is fed.logits


def test_a_cache_gives_the_same_rows_and_counts_hits() -> None:
    model = anser.load(device="cpu", embedding_cache=1 << 20)
    texts = ["Once upon a time", "Dear", "Once upon a time"]
    first = model.embed(texts)
    assert (model.embedding_cache.n_hits, model.embedding_cache.n_misses) == (0, 3)
    np.testing.assert_array_equal(model.embed(texts), first)
    assert model.embedding_cache.n_hits == 3 and model.embedding_cache.n_entries == 2
    assert model.embedding_cache.hit_rate == 0.5 and "3 hits" in repr(model.embedding_cache)
    np.testing.assert_array_equal(anser.load(device="cpu").embed(texts), first)


def test_bad_options_are_refused(demo: anser.Model) -> None:
    with pytest.raises(anser.OptionError, match="pooling: expected .*found 'max'"):
        demo.embed(["a"], pooling="max")  # type: ignore[arg-type]
    for layer in (6, -2):
        with pytest.raises(anser.OptionError, match="layer"):
            demo.embed(["a"], layer=layer)
    with pytest.raises(anser.TokenError, match="65536"):
        demo.embed([[1, 65536]])
    with pytest.raises(TypeError, match="prompt: expected str, bytes or token ids, found int 2"):
        demo.embed(["a", 2])  # type: ignore[arg-type]


def test_progress_and_exceptions_in_it(demo: anser.Model, prompts: Any) -> None:
    calls: list[tuple[int, int]] = []
    demo.embed(["a"] * 70, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (70, 70) and len(calls) > 1

    def fail(done: int, total: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        demo.embed(["a"] * 70, progress=fail)
    # Within one text, too.
    with pytest.raises(KeyError, match="0"):
        demo.embed([prompts["long-600"]["ids"]], progress=fail)
