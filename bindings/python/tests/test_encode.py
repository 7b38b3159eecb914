"""anser.sentence.Encoder, which programs for sentence-transformers take."""

from typing import Any

import numpy as np
import pytest
from conftest import cosine

import anser
from anser.sentence import Encoder

TEXTS = ["The fox ran into the wood.", "Hi", "A fox was running through the trees and over the hills.", "What is 17 + 26?", ""]


def test_rows_are_those_of_embed_in_the_order_of_the_texts(demo: anser.Model) -> None:
    # Texts are read in the order of their lengths, in batches: each row must come back to its text.
    rows = Encoder(demo).encode(TEXTS[:4], batch_size=3)
    assert rows.shape == (4, demo.n_embd) and rows.dtype == np.float32
    for row, text in zip(rows, TEXTS):
        assert cosine(row, demo.embed(text, pooling="mean")[0]) > 0.9999


def test_one_text_gives_one_row_and_a_list_gives_rows(demo: anser.Model) -> None:
    encoder = Encoder(demo, pooling="last")
    row = encoder.encode("Hi", normalize_embeddings=True)
    assert row.shape == (demo.n_embd,) and np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    rows = encoder.encode(TEXTS[:2], convert_to_numpy=False)
    assert isinstance(rows, list) and [r.shape for r in rows] == [(demo.n_embd,)] * 2
    assert encoder.encode([]).shape == (0, demo.n_embd)
    assert encoder.encode(np.array(TEXTS[:2])).shape == (2, demo.n_embd)
    assert encoder.get_sentence_embedding_dimension() == demo.n_embd


def test_prompts_come_before_texts(demo: anser.Model) -> None:
    encoder = Encoder(demo, prompts={"query": "Query: ", "text": ""}, default_prompt_name="text")
    np.testing.assert_array_equal(encoder.encode("fox", prompt_name="query"), encoder.encode("Query: fox"))
    np.testing.assert_array_equal(encoder.encode("fox", prompt="Query: "), encoder.encode("Query: fox"))
    with pytest.raises(anser.OptionError, match="prompt_name: expected one of .*'query'.*found 'q'"):
        encoder.encode("fox", prompt_name="q")
    with pytest.raises(anser.OptionError, match="found 'query'"):
        Encoder(demo, default_prompt_name="query")


def test_similarity_is_the_cosine(demo: anser.Model) -> None:
    rows = Encoder(demo).encode(TEXTS[:3])
    found = Encoder(demo).similarity(rows, rows[:2])
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows[:2]] for a in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_wrong_options_are_refused(demo: anser.Model, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder(demo)
    wrong: "list[Any]" = [0, -1, "many"]
    for batch_size in wrong:
        with pytest.raises(anser.OptionError, match="batch_size"):
            encoder.encode(TEXTS, batch_size=batch_size)
    with pytest.raises(TypeError, match="precision"):
        encoder.encode(TEXTS, precision="int8")  # type: ignore[call-overload]
    assert capsys.readouterr().err == ""
    encoder.encode(TEXTS[:4], batch_size=1, show_progress_bar=True)
    assert "4/4" in capsys.readouterr().err
