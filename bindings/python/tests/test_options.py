"""Options: what they are called, what they take, and what is said of other values."""

import inspect
import subprocess
import sys
from typing import Any, Callable

import numpy as np
import pytest
from conftest import FIXTURES

import anser

Call = Callable[[anser.Model], Any]
USER = {"role": "user", "content": "hi"}


def generate(**options: Any) -> Call:
    return lambda model: model.generate("a", **options)


def load(**options: Any) -> Call:
    return lambda model: anser.load(**{"device": "cpu", **options})


def chat(messages: Any, **options: Any) -> Call:
    return lambda model: model.chat(messages, **options)


def state(parts: Any, buffer: Any) -> Call:
    return lambda model: anser.State("", "", parts, buffer)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (generate(max_tokens=-1), anser.OptionError, r"max_tokens: expected a whole number from 0 to \d+, found -1"),
        (generate(max_tokens=10**30), anser.OptionError, "max_tokens: .* found 10{30}"),
        (generate(max_tokens=1.5), TypeError, "max_tokens: expected a whole number .*, found float 1.5"),
        (generate(max_tokens=True), TypeError, "max_tokens: .* found bool True"),
        (generate(seed=-1), anser.OptionError, "seed: expected a whole number from 0 to 18446744073709551615, found -1"),
        (generate(top_k="x"), TypeError, "top_k: .*, found str 'x'"),
        (generate(temperature="hot"), TypeError, "temperature: expected a number, found str 'hot'"),
        (generate(temperature=-1), anser.OptionError, "temperature"),
        (generate(order=3), TypeError, 'order: expected "rwkv" or "common", found int 3'),
        (generate(order="x"), anser.OptionError, "order: expected \"rwkv\" or \"common\", found 'x'"),
        (generate(stop=b"x"), TypeError, "stop: expected a str, or a list or tuple of str, found bytes b'x'"),
        (generate(stop={"x"}), TypeError, "stop: .* found set"),
        (generate(stop_tokens=5), TypeError, "stop_tokens: expected token ids.* found int 5"),
        (generate(stop_tokens=[-1]), anser.TokenError, "stop_tokens: token 0: expected an id from 0, found -1"),
        (generate(logit_bias=[(1, 2.0)]), TypeError, "logit_bias: expected a dict from token id to number, found list"),
        (generate(logit_bias={-1: 2.0}), anser.OptionError, "logit_bias: expected a whole number .*, found -1"),
        (generate(logit_bias={1: "x"}), TypeError, r"logit_bias\[1\]: expected a number, found str 'x'"),
        (generate(progress=3), TypeError, "progress: expected a callback .*, found int 3"),
        (load(threads=-1), anser.OptionError, r"threads: expected a whole number from 1 to \d+, found -1"),
        (load(threads=0), anser.OptionError, r"threads: expected a whole number from 1 to \d+, found 0"),
        (load(threads=20_000), anser.OptionError, r"threads: expected a whole number from 1 to \d+, found 20000"),
        (load(threads="two"), TypeError, "threads: expected a whole number .* found str 'two'"),
        (load(device=3), TypeError, "device: expected a str, found int 3"),
        (load(progress=3), TypeError, "progress: expected a callback .*, found int 3"),
        (load(gpu_memory=-1), anser.OptionError, "gpu_memory: .*, found -1"),
        (load(embedding_cache=None), TypeError, "embedding_cache: .*, found None"),
        (load(path=17), TypeError, "path: expected a str or os.PathLike, found int 17"),
        (load(exact="yes"), TypeError, "exact: expected True or False, found str 'yes'"),
        (lambda m: m.embed("a", pooling="eos-mean", eos_token=-1), anser.OptionError, "eos_token: .*, found -1"),
        (lambda m: m.embed("a", pooling=3), TypeError, 'pooling: expected "last", "mean" or "eos-mean", found int 3'),
        (lambda m: m.embed("a", layer=-2), anser.OptionError, "layer: expected -1 or a layer from 0, found -2"),
        (lambda m: m.embed("a", layer="last"), TypeError, "layer: expected -1 or a layer from 0, found str 'last'"),
        (lambda m: m.embed("a", normalize="x"), TypeError, "normalize: expected True or False"),
        (lambda m: m.session().feed("a", logits="first"), anser.OptionError, 'logits: expected "last", "all" or None, found'),
        (lambda m: m.session().feed("a", hidden=True), TypeError, 'hidden: expected "last", "all" or None, found bool True'),
        (chat("hi"), TypeError, "messages: expected a list of dicts with role and content, found str 'hi'"),
        (chat(USER), TypeError, "messages: expected a list of dicts with role and content, found dict"),
        (chat([USER, {"role": "user"}]), anser.OptionError, r"messages\[1\]: expected the keys role and content, found \['role'\]"),
        (chat([{**USER, "content": [{"type": "text"}]}]), TypeError, r'messages\[0\]\["content"\]: expected a str, found list'),
        (chat([{**USER, "role": "bot"}]), anser.OptionError, r'messages\[0\]\["role"\]: expected "system", .* found \'bot\''),
        (chat([USER], thinking=True), TypeError, 'thinking: expected "off", .* or "fake-inline", found bool True'),
        (chat([USER], tools="f()"), TypeError, "tools: expected a list or tuple of str, found str"),
        (state([("wkv", [5])], np.zeros(5)), TypeError, "buffer: expected a contiguous .* found an array of float64"),
        (state([("wkv", [5])], np.zeros(10, "f4")[::2]), anser.StateError, "buffer: expected a contiguous .* with gaps"),
        (state([("wkv", [5])], [0.0] * 5), TypeError, "buffer: expected a contiguous .* found list"),
        (lambda m: m.state(np.array([[1, 2]], np.uint32)), anser.TokenError, r"prompt: .* one dimension, .* shape \(1, 2\)"),
        (lambda m: m.decode(np.array([[1]])), anser.TokenError, r"ids: .* one dimension, .* shape \(1, 1\)"),
        (lambda m: m.state(np.array([1.0])), TypeError, "prompt: expected token ids as integers, .* float64"),
    ],
)
def test_an_error_names_the_option_and_says_what_was_expected_and_found(
    demo: anser.Model, call: Call, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(demo)


@pytest.mark.parametrize(
    "options", [{"n": 5}, {"gramar": "x"}, {"logits_processor": None}, {"temperature": "hot", "response_format": {}}]
)
def test_unknown_names_are_told_before_any_value(demo: anser.Model, options: dict[str, Any]) -> None:
    name = [*options][-1]
    for call in (demo.generate, demo.generate_batch, demo.session().generate):
        with pytest.raises(TypeError, match=f"unexpected keyword argument {name}; the options are max_tokens, stop, "):
            call("a", **options)


def test_ids_are_a_prompt_wherever_a_text_is(demo: anser.Model) -> None:
    text = "Once upon a time"
    ids = demo.encode(text)
    greedy = dict(max_tokens=4, temperature=0)
    row, (told,) = demo.embed(text), demo.generate_batch(text, **greedy)
    buffer = demo.state(text).buffer
    forms: list[Any] = [ids, ids.tolist(), tuple(ids), ids.astype(np.int64), [np.int64(id) for id in ids], bytearray(text.encode())]
    for prompt in forms:
        np.testing.assert_array_equal(demo.embed(prompt), row)
        assert demo.generate_batch(prompt, **greedy) == [told]
        np.testing.assert_array_equal(demo.state(prompt).buffer, buffer)
    np.testing.assert_array_equal(demo.state(memoryview(text.encode())).buffer, buffer)
    np.testing.assert_array_equal(demo.encode(memoryview(text.encode())), ids)
    # Several prompts, in any mixture; rows of an array; none.
    both: list[anser.Prompt] = [ids, text]
    assert demo.generate_batch(both, **greedy) == [told, told]
    assert demo.embed(np.stack([ids, ids])).shape == (2, demo.n_embd)
    assert demo.embed([]).shape == (0, demo.n_embd)
    session = demo.session()
    session.feed(bytearray(text.encode()))
    assert session.n_tokens == len(ids)


@pytest.mark.parametrize("wrong", [{3, 1}, frozenset([1]), {5: "a"}, {5: "a"}.keys(), 7, None, 1.5])
def test_what_has_no_order_is_no_prompt(demo: anser.Model, wrong: Any) -> None:
    for call in (demo.embed, demo.generate_batch, demo.state, demo.session().feed, demo.decode):
        with pytest.raises(TypeError, match="(prompts?|ids): expected .*token ids.*, found"):
            call(wrong)


def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSER_", "OMP_"))}
    command = [sys.executable, "-c", program, str(FIXTURES / "tiny" / "tiny-v7.st")]
    return subprocess.run(command, env={**keep, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environment", "device"),
    [
        ({"ANSER_THREADS": "3", "OMP_NUM_THREADS": "2"}, "CPU, 3 threads: asked for"),
        ({"OMP_NUM_THREADS": "2"}, "CPU, 2 threads: asked for"),
        ({"ANSER_THREADS": "", "OMP_NUM_THREADS": "4,2"}, "CPU, 4 threads: asked for"),
    ],
)
def test_the_environment_says_how_many_threads(environment: dict[str, str], device: str) -> None:
    program = "import sys, anser; print(anser.load(sys.argv[1], device='cpu').device)"
    assert run(program, **environment).stdout.strip() == device
    told = "import sys, anser; print(anser.load(sys.argv[1], device='cpu', threads=1).device)"
    assert run(told, **environment).stdout.strip() == "CPU, 1 threads: asked for"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ANSER_THREADS", "0", "ANSER_THREADS: expected a number of threads from 1 to"),
        ("OMP_NUM_THREADS", "many", "OMP_NUM_THREADS: expected a number of threads from 1 to"),
        ("ANSER_DEVICE", "abacus", "ANSER_DEVICE: device: \"abacus\" is none of auto, cpu"),
        ("ANSER_GPU_MEMORY", "much", "ANSER_GPU_MEMORY: expected a number of bytes, like 500M or 4G, found \"much\""),
        ("ANSER_EXACT", "perhaps", "ANSER_EXACT: expected 1, true"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str) -> None:
    device = "None" if name == "ANSER_DEVICE" else "'cpu'"
    done = run(f"import sys, anser; anser.load(sys.argv[1], device={device})", **{name: value})
    assert f"OptionError: {message}" in done.stderr, done.stderr


def test_the_environment_says_where_and_how_to_run() -> None:
    program = """
import sys, anser
ids = list(range(40))
model = anser.load(sys.argv[1])
print(model.device.split(",")[0], (model.state(ids).buffer == anser.load(sys.argv[1], "cpu", exact=True).state(ids).buffer).all())
print(anser.load(sys.argv[1], "cpu").device.split(",")[0])
"""
    done = run(program, ANSER_DEVICE="cpu", ANSER_EXACT="1")
    assert done.stdout.split() == ["CPU", "True", "CPU"], done.stderr


def test_help_shows_every_option_with_its_default() -> None:
    assert str(inspect.signature(anser.Session.feed)) == "(self, /, prompt, *, logits='last', hidden=None, progress=None)"
    defaults: dict[tuple[Callable[..., Any], str], Any] = {
        (anser.Model.embed, "pooling"): "last",
        (anser.Model.embed, "layer"): -1,
        (anser.Model.embed, "eos_token"): 65535,
        (anser.Model.chat, "thinking"): "off",
        (anser.Model.decode, "errors"): "strict",
        (anser.load, "embedding_cache"): 0,
        (anser.load, "state_cache"): 0,
    }
    for (function, name), default in defaults.items():
        assert inspect.signature(function).parameters[name].default == default, name
    names = anser.GenerateOptions.__annotations__
    assert len(names) == 20
    functions: list[Callable[..., Any]] = [anser.Model.generate, anser.Model.generate_batch, anser.Model.chat, anser.Session.generate]
    for function in functions:
        for name in names:
            assert f"- {name}: " in (function.__doc__ or ""), name
    documented = anser.load.__doc__ or ""
    for name in inspect.signature(anser.load).parameters:
        assert f"- {name}: " in documented, name
    for name in ("ANSER_DEVICE", "ANSER_GPU_MEMORY", "ANSER_EXACT", "ANSER_THREADS", "OMP_NUM_THREADS", "ANSER_GPU_NO_F16"):
        assert name in documented, name


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert anser.__version__ == version("anser")


def test_memory_is_told(tiny: anser.Model) -> None:
    before = tiny.memory()
    sessions = [tiny.session() for _ in range(3)]
    after = tiny.memory()
    n_bytes = tiny.new_state().buffer.nbytes
    assert after.states - before.states == 3 * n_bytes
    assert after.file == (FIXTURES / "tiny" / "tiny-v7.st").stat().st_size
    assert after.gpu_weights is None and after.gpu_states is None and "states" in repr(after)
    del sessions
    assert tiny.memory().states == before.states
    gpu = anser.load(FIXTURES / "tiny" / "tiny-v7.st", device="gpu:0")
    session = gpu.session()
    session.feed([1])
    used = gpu.memory()
    assert used.states == 0 and used.gpu_states is not None and used.gpu_states >= n_bytes
    assert used.gpu_weights is not None and used.gpu_weights > 100_000
