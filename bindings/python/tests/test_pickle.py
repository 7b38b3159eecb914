"""Models and tokenizers travel to other processes by path, options and fingerprint."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import FIXTURES

import anser

TINY = FIXTURES / "tiny" / "tiny-v7.st"

PROGRAM = """
import os, pickle, sys
os.chdir("/")
with open(sys.argv[1], "rb") as file:
    content = file.read()
first, second = pickle.loads(content), pickle.loads(content)
assert first is second, "a process has one copy"
session = first.session()
session.feed([1, 2, 3])
print(first.fingerprint, float(session.logits()[7]))
"""


def test_a_model_is_opened_again_in_another_process(tmp_path: Path) -> None:
    model = anser.load(TINY, device="cpu", threads=1, exact=True)
    assert pickle.loads(pickle.dumps(model)) is model
    pickled = tmp_path / "model.pickle"
    pickled.write_bytes(pickle.dumps(model))
    assert len(pickled.read_bytes()) < 2000, "the weights stay in their file"
    ran = subprocess.run([sys.executable, "-c", PROGRAM, pickled], capture_output=True, text=True, check=True, timeout=120)
    session = model.session()
    session.feed([1, 2, 3])
    assert ran.stdout.split() == [model.fingerprint, str(float(session.logits()[7]))]


def test_another_model_at_the_path_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.st"
    shutil.copy(TINY, path)
    pickled = pickle.dumps(anser.load(path, device="cpu"))
    shutil.copy(FIXTURES / "tiny" / "tiny-v7mini-f16.gguf", path)
    with pytest.raises(anser.ModelError, match="expected the model that was pickled"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(anser.MissingFileError):
        pickle.loads(pickled)


def test_the_demo_model_and_a_sessions_model(demo: anser.Model) -> None:
    copy = pickle.loads(pickle.dumps(demo))
    assert copy.fingerprint == demo.fingerprint
    with pytest.raises(TypeError, match="pickle the model that load"):
        pickle.dumps(demo.session().model)


def test_tokenizers_keep_their_tokens(tmp_path: Path) -> None:
    text = "Hello, 世界! 🎉"
    world = pickle.loads(pickle.dumps(anser.Tokenizer()))
    assert world.encode(text).tolist() == anser.Tokenizer().encode(text).tolist()
    tokens: list[Any] = [None, *(bytes([byte]) for byte in range(256)), b"Hello"]
    own = pickle.loads(pickle.dumps(anser.Tokenizer.from_tokens(tokens)))
    assert own.encode("Hello!").tolist() == [257, 34] and own.n_vocab == 258
    path = tmp_path / "vocabulary.txt"
    path.write_text("".join(f"{byte + 1} {bytes([byte])!r} 1\n" for byte in range(256)))
    pickled = pickle.dumps(anser.Tokenizer(path))
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first is second and first.encode("a").tolist() == [98]
    del first, second
    path.write_text(path.read_text() + "257 b'aa' 2\n")
    with pytest.raises(anser.ModelError, match="expected the vocabulary that was pickled"):
        pickle.loads(pickled)
