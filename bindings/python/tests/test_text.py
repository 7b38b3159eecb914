"""Text to token ids and back."""

import json
import os
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest
from conftest import FIXTURES
from tqdm import tqdm

import anser


def test_encode_gives_the_official_ids(demo: anser.Model) -> None:
    n = 0
    for line in (FIXTURES / "tokenizer" / "vectors.jsonl").read_text().splitlines():
        case = json.loads(line)
        text = case["text"] if "text" in case else bytes.fromhex(case["hex"])
        ids = demo.encode(text)
        assert ids.dtype == np.uint32 and ids.tolist() == case["ids"], text
        assert demo.decode_bytes(ids) == (text.encode() if isinstance(text, str) else text)
        if isinstance(text, str):
            assert demo.decode(ids) == text
        n += 1
    assert n > 500


def test_a_batch_equals_texts_one_by_one(demo: anser.Model) -> None:
    texts: list[Union[str, bytes]] = ["Once upon a time", b"\xff\xfe", "", "世界"]
    for ids, text in zip(demo.encode_batch(texts), texts):
        np.testing.assert_array_equal(ids, demo.encode(text))


def test_bytes_that_are_no_utf8_are_told_or_replaced(demo: anser.Model) -> None:
    ids = demo.encode("é".encode()[:1])
    assert demo.decode_bytes(ids) == b"\xc3"
    assert demo.decode(ids, errors="replace") == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        demo.decode(ids)
    tokenizer = anser.Tokenizer()
    assert tokenizer.decode_bytes(ids) == b"\xc3" and tokenizer.decode(ids, "ignore") == ""


def test_ids_may_come_as_any_iterable_of_ints(demo: anser.Model) -> None:
    ids = demo.encode("Hello, world!").tolist()
    for form in (ids, tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint16), np.array(ids, np.uint32)[::1]):
        assert demo.decode(form) == "Hello, world!"
    assert demo.decode(np.array([ids, ids], np.uint32).ravel()[::-1][len(ids) :]) == demo.decode(ids[::-1])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([70000], anser.TokenError, "70000"),
        ([1, -1], anser.TokenError, "token 1: expected an id from 0, found -1"),
        ([1.5], TypeError, "float"),
        (["a"], TypeError, "str"),
        (7, TypeError, "found int"),
    ],
)
def test_bad_ids_are_refused(demo: anser.Model, ids: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        demo.decode(ids)


def test_other_types_are_refused(demo: anser.Model) -> None:
    with pytest.raises(TypeError, match="expected str or bytes"):
        demo.encode(17)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        demo.encode("\ud800")


def test_a_model_without_tokenizer_says_so(tiny: anser.Model) -> None:
    with pytest.raises(anser.ModelError, match="tiny-v7.st: the file has no tokenizer"):
        tiny.encode("a")


def test_loading(tmp_path: Path) -> None:
    path = FIXTURES / "tiny" / "tiny-v7.st"
    for form in (path, os.fspath(path)):
        model = anser.load(form, "cpu", threads=1)
        assert (model.n_layer, model.n_embd, model.n_head, model.head_size, model.n_vocab) == (3, 192, 3, 64, 300)
    assert "tiny-v7.st" in repr(model) and "CPU" in repr(model)
    with pytest.raises(FileNotFoundError, match="missing.gguf"):
        anser.load("missing.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(anser.ModelError, match="text.gguf"):
        anser.load(tmp_path / "text.gguf")
    with pytest.raises(anser.OptionError, match="device"):
        anser.load(path, device="abacus")
    with pytest.raises(TypeError):
        anser.load(17)  # type: ignore[arg-type]


def test_a_damaged_model_is_refused_by_tensor(tmp_path: Path) -> None:
    data = (FIXTURES / "tiny" / "tiny-v7.st").read_bytes()
    (tmp_path / "cut.st").write_bytes(data[: len(data) // 2])
    with pytest.raises(anser.ModelError, match="cut.st"):
        anser.load(tmp_path / "cut.st")


def test_a_vocabulary_file_replaces_the_models_own(tmp_path: Path, tiny: anser.Model) -> None:
    lines = [f"{id} {bytes([id - 1])!r} 1\n" for id in range(1, 257)] + ["257 'Hello' 5\n"]
    (tmp_path / "vocab.txt").write_text("".join(lines))
    model = anser.load(FIXTURES / "tiny" / "tiny-v7.st", "cpu", vocabulary=tmp_path / "vocab.txt")
    assert model.encode("Hello!").tolist() == [257, ord("!") + 1]


@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_progress_of_loading_is_told(device: str) -> None:
    calls: list[tuple[int, int]] = []
    anser.load(device=device, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls) and calls[-1][0] == calls[-1][1] > 1_000_000
    with tqdm(disable=False, file=open("/dev/null", "w")) as bar:
        anser.load(device=device, progress=bar)
        assert bar.n == bar.total and bar.n > 1_000_000

    def fail(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        anser.load(device=device, progress=fail)
