"""The old bindings' names."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, ROOT

import anser
import anser.compat.web_rwkv_py as wrp


@pytest.fixture(scope="module")
def old() -> wrp.Model:
    return wrp.Model(str(FIXTURES / "unpacked" / "demo.st"), quant=0, device="cpu")


def test_a_program_of_the_old_bindings_runs(old: wrp.Model, demo_f16: anser.Model, prompts: Any) -> None:
    ids = prompts["story"]["feed"]
    old.clear_state()
    logits = old.run(ids)
    assert isinstance(logits, list) and len(logits) == 65536
    session = demo_f16.session()
    expected = session.feed(ids, hidden="last")
    assert expected.logits is not None
    np.testing.assert_allclose(logits, expected.logits, atol=0.01)

    kept = old.back_state()
    assert kept.device() == wrp.StateDevice.Cpu
    after = old.run([11, 12])
    old.load_state(kept)
    assert old.run([11, 12]) == after
    old.load_state(kept.deep_clone().to(wrp.StateDevice.Gpu))
    assert old.run([11, 12], token_chunk_size=1, option=wrp.RnnOption.Last) == pytest.approx(after, abs=1e-3)

    old.clear_state()
    every = old.run_full(ids)
    assert len(every) == len(ids) * 65536
    assert every[-65536:] == pytest.approx(logits, abs=1e-3)


def test_states_lie_as_in_web_rwkv(old: wrp.Model, demo_f16: anser.Model, prompts: Any) -> None:
    ids = prompts["mail"]["feed"]
    old.clear_state()
    assert not old.back_state_numpy().any()
    old.run(ids)
    flat = old.back_state_numpy()
    assert flat.dtype == np.float32 and flat.shape == (6 * 66 * 256,)
    np.testing.assert_array_equal(flat, old.back_state().to_numpy())
    assert old.back_state().to_list() == flat.tolist()
    state = demo_f16.import_state(flat)
    np.testing.assert_allclose(state.wkv, demo_f16.state(ids).wkv, atol=0.01)
    np.testing.assert_allclose(flat.reshape(6, 66, 256)[:, 0], demo_f16.state(ids).att_shift, atol=0.01)
    old.load_state(flat)
    np.testing.assert_array_equal(old.back_state_numpy(), flat)


def test_embeddings_go_on_from_the_state_as_they_did(old: wrp.Model, prompts: Any) -> None:
    head, tail = prompts["story"]["feed"][:3], prompts["story"]["feed"][3:]
    old.clear_state()
    whole = old.embed(head + tail)
    assert whole.shape == (256,)
    old.clear_state()
    old.embed(head)
    np.testing.assert_allclose(old.embed(tail), whole, atol=1e-3)
    old.clear_state()
    rows = old.embed(head + tail, last_only=False)
    assert rows.shape == (256 * len(head + tail),)
    np.testing.assert_allclose(rows[-256:], whole, atol=1e-3)
    batch = old.embed_batch([head + tail, head])
    assert len(batch) == 2
    np.testing.assert_allclose(batch[0], whole, atol=1e-3)


def test_tokenizer_info_and_errors(old: wrp.Model, tmp_path: Path) -> None:
    text = "Hello, 世界! é"
    vocabulary = ROOT / "crates" / "anser-tokenizer" / "vocab" / "rwkv_vocab_v20230424.txt"
    tokenizer = wrp.Tokenizer(vocabulary)
    ids = tokenizer.encode(text)
    assert isinstance(ids, list) and bytes(tokenizer.decode(ids)).decode() == text

    # web-rwkv's own file is JSON: texts, and lists of bytes where they are not UTF-8.
    tokens = {}
    for line in vocabulary.read_text().splitlines():
        token = ast.literal_eval(line[line.index(" ") : line.rindex(" ")].strip())
        token = token.encode() if isinstance(token, str) else token
        try:
            tokens[line.split()[0]] = token.decode()
        except UnicodeDecodeError:
            tokens[line.split()[0]] = list(token)
    (tmp_path / "vocab.json").write_text(json.dumps(tokens))
    assert wrp.Tokenizer(tmp_path / "vocab.json").encode(text) == ids

    for damaged in ('{"1": "a", "2": [255, 0]}', '{"x": "a"}', "[1]", '{"1": [300]}', '{"1": 2}', '{"99999999999": ""}', "{"):
        (tmp_path / "vocab.json").write_text(damaged)
        with pytest.raises(ValueError, match="vocab.json"):
            wrp.Tokenizer(tmp_path / "vocab.json")
    with pytest.raises(FileNotFoundError):
        wrp.Tokenizer(tmp_path / "none.txt")
    info = old.info()
    assert (info.num_layer, info.num_emb, info.num_head, info.num_vocab) == (6, 256, 4, 65536)
    # The shapes of blocks.0.ffn.key.weight and blocks.0.att.w1 in demo.st.
    assert (info.num_hidden, info.time_mix_adapter_size, info.time_decay_adapter_size) == (1024, 0, 32)
    assert str(info.version) == "V7" and int(info.version) == 3 and int(wrp.ModelVersion.V6) == 2
    with pytest.raises(ValueError, match="input tokens cannot be empty"):
        old.run([])
    assert wrp.PyRnnOption is wrp.RnnOption


def test_states_say_where_they_were_asked_to_lie(old: wrp.Model) -> None:
    state = old.back_state()
    assert isinstance(state, wrp.State.Cpu) and isinstance(state, wrp.State) and not isinstance(state, wrp.State.Gpu)
    moved = old.back_state(wrp.StateDevice.Gpu)
    assert isinstance(moved, wrp.State.Gpu) and isinstance(moved.deep_clone(), wrp.State.Gpu)
    assert isinstance(moved.to(wrp.StateDevice.Cpu), wrp.State.Cpu)
    assert [int(device) for device in wrp.StateDevice] == [0, 1] and str(wrp.StateDevice.Gpu) == "StateDevice.Gpu"
