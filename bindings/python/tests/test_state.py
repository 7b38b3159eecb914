"""States: their numbers, their memory, and that they go on bit for bit."""

import copy
import pickle
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, cosine
from numpy.typing import NDArray

import anser

PARTS = ("att_shift", "wkv", "ffn_shift")


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_states_equal_those_of_torch(demo_f16: anser.Model, prompts: Any, vectors: dict[str, NDArray[Any]]) -> None:
    state = demo_f16.state(prompts["chat-memory"]["feed"])
    assert (state.att_shift.shape, state.wkv.shape, state.ffn_shift.shape) == ((6, 256), (6, 4, 64, 64), (6, 256))
    for part, oracle in (("att_shift", "att_x"), ("wkv", "wkv"), ("ffn_shift", "ffn_x")):
        expected = np.stack([vectors[f"state.chat-memory.{layer}.{oracle}"] for layer in range(6)])
        assert cosine(getattr(state, part), expected.reshape(getattr(state, part).shape)) >= 1 - 1e-6, part


def test_parts_are_views_of_one_buffer_of_the_engine(demo: anser.Model) -> None:
    state = demo.state("Once upon a time")
    assert type(state.buffer.base).__name__ == "PySliceContainer" and not state.buffer.flags.owndata
    at = address(state.buffer)
    for part in PARTS:
        array = getattr(state, part)
        assert address(array) == at == address(getattr(state, part))
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
        assert np.shares_memory(array, state.buffer)
        assert memoryview(array).nbytes == array.nbytes
        assert address(np.from_dlpack(array)) == at
        at += array.nbytes
    assert at == address(state.buffer) + state.buffer.nbytes


def test_reading_a_state_makes_nothing_in_python(demo: anser.Model) -> None:
    session = demo.session()
    session.feed("Once upon a time")
    session.state()
    tracemalloc.start()
    state = session.state()
    assert state.wkv.nbytes > 390_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


def test_assignment_copies_once_into_the_buffer(demo: anser.Model) -> None:
    state = demo.new_state()
    assert not state.buffer.any()
    at = address(state.wkv)
    wkv = np.random.default_rng(1).standard_normal(state.wkv.shape, np.float32)
    state.wkv = wkv  # imports numpy's machinery once, before it is measured
    tracemalloc.start()
    state.wkv = wkv
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < wkv.nbytes / 20
    assert address(state.wkv) == at
    np.testing.assert_array_equal(state.wkv, wkv)
    state.att_shift[2] = 1
    assert state.buffer[2 * 256] == 1
    state.ffn_shift = np.ones((6, 256))
    assert state.ffn_shift.sum() == 6 * 256
    with pytest.raises(anser.StateError, match=r"wkv: expected shape \(6, 4, 64, 64\), found \(4, 64, 64\)"):
        state.wkv = wkv[0]


def continuation(session: anser.Session, ids: list[int]) -> NDArray[np.float32]:
    """Logits after every one of some tokens."""
    logits = session.feed(ids, logits="all").logits
    assert logits is not None
    return logits


def test_every_way_to_keep_a_state_goes_on_bit_for_bit(demo: anser.Model, prompts: Any, tmp_path: Path) -> None:
    head, tail = prompts["long-600"]["feed"][:200], prompts["long-600"]["feed"][200:260]
    session = demo.session()
    session.feed(head)
    fork = session.fork()
    state = session.state()
    session.save(tmp_path / "session.st")
    demo.save_state(state, tmp_path / "state.st")
    expected = continuation(session, tail)

    np.testing.assert_array_equal(continuation(fork, tail), expected)
    copies = [
        state,
        state.copy(),
        copy.deepcopy(state),
        *(pickle.loads(pickle.dumps(state, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        demo.load_state(tmp_path / "session.st"),
        demo.load_state(tmp_path / "state.st"),
        demo.state(head),
    ]
    for kept in copies:
        session.restore(kept)
        assert session.n_tokens == 0 and session.logits().size == 0
        np.testing.assert_array_equal(continuation(session, tail), expected)
    session.load(tmp_path / "session.st")
    np.testing.assert_array_equal(session.logits(), fork_logits(demo, head))
    np.testing.assert_array_equal(continuation(session, tail), expected)
    session.reset()
    session.feed(head)
    np.testing.assert_array_equal(continuation(session, tail), expected)


def fork_logits(model: anser.Model, ids: list[int]) -> NDArray[np.float32]:
    session = model.session()
    session.feed(ids)
    return session.fork().logits()


def test_a_copy_has_a_buffer_of_its_own(demo: anser.Model) -> None:
    state = demo.state("Once upon a time")
    for other in (state.copy(), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        np.testing.assert_array_equal(other.buffer, state.buffer)
        assert not np.shares_memory(other.buffer, state.buffer)
        assert (other.model, other.fingerprint) == (state.model, state.fingerprint)
    assert "wkv [6, 4, 64, 64]" in repr(state)


def test_states_of_other_models_and_broken_ones_are_refused(
    demo: anser.Model, tiny: anser.Model, tmp_path: Path
) -> None:
    state = demo.state("Once upon a time")
    session = tiny.session()
    with pytest.raises(anser.StateError, match="a state of another model: expected .*, found .*6"):
        session.restore(state)
    with pytest.raises(anser.StateError, match="another model"):
        tiny.save_state(state, tmp_path / "x.st")
    demo.save_state(state, tmp_path / "state.st")
    with pytest.raises(anser.StateError, match="state.st: a state of another model"):
        session.load(tmp_path / "state.st")
    data = (tmp_path / "state.st").read_bytes()
    (tmp_path / "cut.st").write_bytes(data[:-100])
    with pytest.raises(anser.StateError, match="cut.st"):
        demo.load_state(tmp_path / "cut.st")
    with pytest.raises(FileNotFoundError, match="none.st"):
        demo.load_state(tmp_path / "none.st")
    state.wkv[3, 1, 2, 7] = np.nan
    with pytest.raises(anser.StateError, match="wkv, layer 3: element .* is NaN"):
        demo.session().restore(state)
    with pytest.raises(anser.StateError, match="the parts have 12 numbers, the buffer 3"):
        anser.State("m", "f", [("wkv", [3, 4])], np.zeros(3, np.float32))
    with pytest.raises(anser.StateError, match="too many"):
        anser.State("m", "f", [("wkv", [2**40, 2**40])], np.zeros(3, np.float32))
    with pytest.raises(anser.StateError, match="has no wkv"):
        anser.State("m", "f", [("aa", [3])], np.zeros(3, np.float32)).wkv


def test_the_same_model_in_another_file_type_takes_the_state(demo: anser.Model, demo_f16: anser.Model) -> None:
    demo_f16.session().restore(demo.state("Once upon a time"))


def test_web_rwkvs_layout_is_imported(demo: anser.Model, prompts: Any) -> None:
    ids = prompts["mail"]["feed"]
    state = demo.state(ids)
    # [L, N + 2, C]: the attention's shift, a row for every key column, the feed-forward layer's shift.
    rows = state.wkv.transpose(0, 3, 1, 2).reshape(6, 64, 256)
    theirs = np.concatenate([state.att_shift[:, None], rows, state.ffn_shift[:, None]], axis=1)
    for form in (theirs, theirs.ravel(), theirs[None]):
        np.testing.assert_array_equal(demo.import_state(form).buffer, state.buffer)
    with pytest.raises(anser.StateError, match="101376"):
        demo.import_state(theirs[1:])


def test_state_tuned_files_are_imported(demo: anser.Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    matrices = rng.standard_normal((6, 4, 64, 64), np.float32)
    write_time_states(tmp_path / "tuned.st", matrices)
    state = demo.import_state(tmp_path / "tuned.st")
    np.testing.assert_array_equal(state.wkv, matrices.transpose(0, 1, 3, 2))
    assert not state.att_shift.any() and not state.ffn_shift.any()
    # It is where a generation starts.
    session = demo.session()
    fresh = session.feed("Once upon").logits
    session.restore(state)
    tuned = session.feed("Once upon").logits
    assert fresh is not None and tuned is not None and np.abs(fresh - tuned).max() > 0.1
    text = demo.generate("Once upon", state=state, max_tokens=1, temperature=0).text()
    assert text == demo.decode([int(tuned.argmax())])
    write_time_states(tmp_path / "short.st", matrices[:5])
    with pytest.raises(anser.StateError, match="short.st: tensor blocks.5.att.time_state is missing"):
        demo.import_state(tmp_path / "short.st")
    with pytest.raises(anser.StateError, match="GGUF"):
        demo.import_state(FIXTURES / "unpacked" / "demo-f16.gguf")


def write_time_states(path: Path, matrices: NDArray[np.float32]) -> None:
    import json

    header, at = {}, 0
    for layer, matrix in enumerate(matrices):
        offsets = [at, at + matrix.nbytes]
        header[f"blocks.{layer}.att.time_state"] = {"dtype": "F32", "shape": matrix.shape, "data_offsets": offsets}
        at += matrix.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + matrices.tobytes())


def test_a_state_of_another_file_is_taken_with_a_warning(
    demo: anser.Model, demo_f16: anser.Model, tmp_path: Path
) -> None:
    state = demo.state("Once upon a time")
    demo.save_state(state, tmp_path / "s.st")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demo.load_state(tmp_path / "s.st")
    with pytest.warns(UserWarning, match="s.st: this state was made with another model file"):
        loaded = demo_f16.load_state(tmp_path / "s.st")
    assert np.array_equal(loaded.buffer, state.buffer)
    with pytest.warns(UserWarning, match="another quantization"):
        demo_f16.session().load(tmp_path / "s.st")


def test_a_model_is_not_overwritten_by_a_state(demo_f16: anser.Model, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(FIXTURES / "unpacked" / "demo-f16.gguf")
    with pytest.raises(anser.FileError, match="this is the model that is read"):
        demo_f16.session().save(link)
