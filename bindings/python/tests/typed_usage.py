"""How programs are written, for the type checkers: test_types.py has mypy read this file, and nothing runs it."""

from typing import Union

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from typing_extensions import assert_type

import anser

Floats = NDArray[np.float32]


def bars(model: anser.Model) -> None:
    with tqdm() as bar:
        model.state("a", progress=bar)
        model.embed("a", progress=lambda done, total: bar.set_postfix(done=done))


def options_of_numbers(model: anser.Model) -> str:
    greedy = dict(temperature=0, presence_penalty=0, frequency_penalty=0)
    model.generate_batch(["a"], **greedy)
    model.session().generate("a", **dict(top_p=0.5, max_tokens=3))
    model.chat([{"role": "user", "content": "hi"}], **greedy)
    return model.generate("a", **greedy).text()


def options_of_all_kinds(model: anser.Model) -> str:
    options: anser.GenerateOptions = {"stop": ["\n"], "max_tokens": 5, "logit_bias": {1: -1.0}}
    return model.generate("a", state=model.new_state(), **options).text()


def what_feed_gives(session: anser.Session) -> None:
    assert_type(session.feed("a").logits, Floats)
    assert_type(session.feed("a").hidden, None)
    assert_type(session.feed("a", hidden="last").hidden, Floats)
    assert_type(session.feed("a", logits=None).logits, None)
    assert_type(session.feed("a", logits=None, hidden="all").hidden, Floats)
    which: Union[anser._types.Which, None] = "last" if session.n_tokens else None
    assert_type(session.feed("a", logits=which).logits, Union[Floats, None])


def texts(model: anser.Model) -> str:
    assert_type(model.decode_bytes([1]), bytes)
    return model.decode(model.encode(bytearray(b"a")))


def conversations(model: anser.Model) -> None:
    plain = [{"role": "user", "content": "hi"}]
    model.chat(plain)
    typed: list[anser.Message] = [{"role": "user", "content": "hi"}]
    model.chat(typed)
