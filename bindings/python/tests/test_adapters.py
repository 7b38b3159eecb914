"""Adapters merged at load, heads of embedding models, and rerankers, against the values of fixtures/formats."""

import itertools
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, read_safetensors
from numpy.typing import NDArray

import anser

FORMATS = FIXTURES / "unpacked" / "formats"
TUNED = FORMATS / "tuned"


@pytest.mark.parametrize(
    ("lora", "name"),
    [
        ({"path": TUNED / "f7-lora.pth", "alpha": 12}, "f7.lora"),
        (str(TUNED / "f7-lora.gguf"), "f7.lora"),
        ([{"path": TUNED / "f7-lora.gguf", "scale": 0.5}], "f7.lorahalf"),
        ({"path": TUNED / "f7-lora.gguf", "form": "beside"}, "f7.lora"),
        ({"path": TUNED / "f7-lora.pth", "init": TUNED / "f7-pissa-init.pth"}, "f7.pissa"),
    ],
)
def test_an_adapter_gives_the_logits_of_merged_weights(lora: Any, name: str) -> None:
    model = anser.load(FORMATS / "gguf" / "f7-f16.gguf", device="cpu", exact=True, lora=lora)
    expected = read_safetensors(FORMATS / "expected.safetensors")[f"{name}.p1.logits"]
    for loaded in (model, pickle.loads(pickle.dumps(model))):
        logits = loaded.session().feed([1, 2, 3, 50, 79]).logits
        assert np.abs(logits - expected).max() < 0.02


def test_models_with_other_adapters_share_the_file_and_answer_side_by_side() -> None:
    base = anser.load(FORMATS / "gguf" / "f7-f16.gguf", device="cpu", exact=True)
    lora = base.with_lora({"path": TUNED / "f7-lora.gguf", "form": "beside"})
    half = lora.with_lora([{"path": TUNED / "f7-lora.gguf", "scale": 0.5}])
    expected = read_safetensors(FORMATS / "expected.safetensors")
    ids = [1, 2, 3, 50, 79]

    def logits(model: anser.Model) -> "NDArray[np.float32]":
        return model.session().feed(ids).logits

    for model, name in ((lora, "f7.lora"), (half, "f7.lorahalf")):
        for loaded in (model, pickle.loads(pickle.dumps(model))):
            assert np.abs(logits(loaded) - expected[f"{name}.p1.logits"]).max() < 0.02
        # The adapter changes the logits by more than its bound, so that the base model has none of it.
        assert np.abs(logits(base) - expected[f"{name}.p1.logits"]).max() > 0.02
    assert (logits(lora.with_lora(None)) == logits(base)).all()
    assert lora.fingerprint != base.fingerprint != half.fingerprint

    # Each alone, then all at the same time: the engines take turns, and no request sees another one's weights.
    models = [base, lora, half]
    text = [*ids, *range(4, 68)]
    alone = [model.score(text)[1:] for model in models]
    assert all(np.abs(a - b).max() > 0.02 for a, b in itertools.combinations(alone, 2))
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda model: model.score(text)[1:], models * 4))
    for scores, expected_scores in zip(together, alone * 4):
        assert np.abs(scores - expected_scores).max() < 1e-4

    with pytest.raises(anser.StateError):
        lora.session().restore(base.state(ids))
    with pytest.raises(TypeError, match="a session's model takes no adapters"):
        base.session().model.with_lora(None)
    with pytest.raises(anser.OptionError, match="unknown key 'beta'"):
        base.with_lora({"path": "x", "beta": 1})  # type: ignore[arg-type]


def test_wrong_adapters_are_told() -> None:
    base = FORMATS / "gguf" / "f7-f16.gguf"
    with pytest.raises(anser.AnserError, match="alpha=A"):
        anser.load(base, device="cpu", lora=TUNED / "f7-lora.pth")
    with pytest.raises(anser.OptionError, match="unknown key 'beta'"):
        anser.load(base, device="cpu", lora={"path": "x", "beta": 1})  # type: ignore[arg-type]
    with pytest.raises(anser.OptionError, match="form: expected \"merge\" or \"beside\""):
        anser.load(base, device="cpu", lora={"path": "x", "form": "near"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lora: alpha: expected a number"):
        anser.load(base, device="cpu", lora={"path": "x", "alpha": "12"})  # type: ignore[arg-type]


def test_heads_and_the_reranker_give_the_authors_values() -> None:
    model = anser.load(FORMATS / "emb" / "e7-emb.pth", device="cpu", exact=True)
    cases = json.loads((FORMATS / "emb" / "e7.json").read_text())
    expected = read_safetensors(FORMATS / "emb" / "e7.expected.safetensors")
    for case in cases["embeddings"][:12]:
        head = case["task"].strip("[]").lower()
        row = model.embed([case["ids"]], head=head)[0]
        assert np.abs(row - expected[case["expect"]]).max() < 2e-4, case["expect"]
        if head == "retr":
            assert (model.embed([case["ids"]])[0] == row).all()
    with pytest.raises(anser.OptionError, match="head"):
        model.embed(["x"], "last", head="cls")

    reranker = anser.Reranker(model, FORMATS / "emb" / "e7-reranker.pth", device="cpu", cache=1 << 20)
    documents = ["Foxes live in the hills.", "17 + 26 = 43", "A dog"]
    ranked = reranker.rerank("Where do foxes live?", documents)
    assert sorted(index for index, _ in ranked) == [0, 1, 2]
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)
    assert reranker.rerank("Where do foxes live?", documents, 2) == ranked[:2]
    assert reranker.stats.n_hits == 3
