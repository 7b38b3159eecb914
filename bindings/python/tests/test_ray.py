"""Ray Data and Ray Serve on a small cluster of this machine's, with Ray itself."""

import json
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import pytest
import ray
from ray import serve

import anser
import anser.ray

GREEDY: "dict[str, Any]" = {"temperature": 0, "presence_penalty": 0, "frequency_penalty": 0}
TEXTS = [f"From: user{i}@example.com\n\nMy order {7000 + i} of {i % 9 + 1} lamps has not arrived." for i in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


def test_a_process_that_is_no_worker_is_granted_nothing() -> None:
    assert anser.ray.granted() == {}


def test_callables_work_without_a_cluster(demo: anser.Model) -> None:
    cpu = {"device": "cpu"}
    batch = {"text": np.array(TEXTS[:3], dtype=object)}
    embedded = anser.ray.Embed(load_options=cpu, pooling="mean", output_column="e")(batch)
    np.testing.assert_allclose(embedded["e"], demo.embed(TEXTS[:3], "mean"), rtol=1e-3, atol=1e-3)
    read = anser.ray.State(load_options=cpu)(batch)
    generate = anser.ray.Generate(load_options=cpu, state_column="state", text_column="prompt", max_tokens=8, **GREEDY)
    written = generate({**read, "prompt": np.array(["\n\nOrder number:"] * 3)})["generated"]
    state = demo.state(TEXTS[2])
    assert written[2] == demo.generate("\n\nOrder number:", state=state, max_tokens=8, **GREEDY).text()


def test_wrong_options_and_columns_are_told() -> None:
    cpu = {"device": "cpu"}
    with pytest.raises(TypeError, match="pool"):
        anser.ray.Embed(load_options=cpu, pool="mean")
    with pytest.raises(TypeError, match="unexpected keyword argument n_predict"):
        anser.ray.Generate(load_options=cpu, n_predict=3)
    embed = anser.ray.Embed(load_options=cpu)
    with pytest.raises(KeyError, match="expected a column 'text', found \\['mail'\\]"):
        embed({"mail": np.array(["a"])})
    with pytest.raises(TypeError, match='batch_format="numpy"'):
        embed([1])  # type: ignore[arg-type]


def test_a_row_is_a_state_of_its_model_alone(demo: anser.Model, tiny: anser.Model) -> None:
    state = demo.state("Hello")
    numbers = state.buffer.copy()
    numbers.flags.writeable = False
    again = anser.ray.to_state(demo, numbers, demo.fingerprint)
    assert np.shares_memory(again.wkv, numbers) and np.array_equal(again.wkv, state.wkv)
    with pytest.raises(anser.StateError, match="a state of another model"):
        anser.ray.to_state(tiny, numbers, demo.fingerprint)
    with pytest.raises(anser.StateError, match="the parts have"):
        anser.ray.to_state(demo, numbers[:-1], demo.fingerprint)


def test_a_data_set_is_embedded_read_and_continued(cluster: None, demo: anser.Model) -> None:
    one = ray.data.ActorPoolStrategy(size=1)
    data: ray.data.Dataset = ray.data.from_items([{"text": text, "prompt": "\n\nOrder number:"} for text in TEXTS], override_num_blocks=3)
    arguments = {"pooling": "mean", "normalize": True}
    data = data.map_batches(anser.ray.Embed, fn_constructor_kwargs=arguments, batch_size=4, num_cpus=0.5, compute=one)
    data = data.map_batches(anser.ray.State, batch_size=4, num_cpus=0.5, compute=one)
    arguments = {"text_column": "prompt", "state_column": "state", "max_tokens": 8, "stop": "\n", **GREEDY}
    data = data.map_batches(anser.ray.Generate, fn_constructor_kwargs=arguments, batch_size=4, num_cpus=0.5, compute=one)
    rows = {row["text"]: row for row in data.take_all()}
    assert set(rows) == set(TEXTS)
    expected = demo.embed(TEXTS, "mean", normalize=True)
    for text, embedding in zip(TEXTS, expected):
        row = rows[text]
        np.testing.assert_allclose(row["embedding"], embedding, rtol=1e-3, atol=1e-4)
        state = anser.ray.to_state(demo, row["state"], row["state_fingerprint"])
        np.testing.assert_allclose(state.buffer, demo.state(text).buffer, rtol=1e-3, atol=2e-3)
        alone = demo.generate("\n\nOrder number:", state=state, max_tokens=8, stop="\n", **GREEDY).text()
        assert row["generated"] == alone


@pytest.mark.parametrize(("num_cpus", "n_threads"), [(1, 1), (2, 2), (0.5, 1), (0, 1)])
def test_threads_are_the_processors_that_ray_grants(cluster: None, num_cpus: float, n_threads: int) -> None:
    @ray.remote(num_cpus=num_cpus)
    class Asked:
        def granted(self) -> "dict[str, Any]":
            return anser.ray.granted()

    asked = Asked.remote()  # type: ignore[attr-defined]
    assert ray.get(asked.granted.remote()) == {"device": "cpu", "threads": n_threads}
    ray.kill(asked)


class Context:
    """What Ray tells a worker, in place of Ray: this machine need not have GPUs."""

    def __init__(self, gpus: "list[str]") -> None:
        self.worker = type("Worker", (), {"mode": ray.WORKER_MODE})
        self.gpus = gpus

    def get_assigned_resources(self) -> "dict[str, float]":
        return {"CPU": 4.0, "GPU": float(len(self.gpus))}

    def get_accelerator_ids(self) -> "dict[str, list[str]]":
        return {"GPU": self.gpus}


def test_the_gpu_is_the_one_that_ray_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: Context(["3"]))
    assert anser.ray.granted() == {"device": "gpu:3", "threads": 4}
    monkeypatch.setattr(ray, "get_runtime_context", lambda: Context(["0", "1"]))
    with pytest.raises(anser.OptionError, match="num_gpus: a model runs on one GPU: expected at most 1, found GPUs 0, 1"):
        anser.ray.granted()
    monkeypatch.setattr(ray, "get_runtime_context", lambda: Context(["MIG-4f1c"]))
    with pytest.raises(anser.OptionError, match="CUDA_VISIBLE_DEVICES: expected a number, found MIG-4f1c"):
        anser.ray.granted()


def test_a_state_in_the_object_store_is_not_copied(cluster: None, demo: anser.Model) -> None:
    state = demo.state(TEXTS[0])
    found = ray.get(ray.put(state))
    assert not found.buffer.flags.owndata and not found.buffer.flags.writeable
    assert np.array_equal(found.buffer, state.buffer)
    text = demo.generate("\n\nOrder number:", state=found, max_tokens=8, **GREEDY).text()
    assert text == demo.generate("\n\nOrder number:", state=state, max_tokens=8, **GREEDY).text()


@pytest.fixture(scope="module")
def handle(cluster: None) -> Any:
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    handle = serve.run(anser.ray.app(ray_actor_options={"num_cpus": 1}, max_tokens=16), route_prefix="/")
    return handle, f"http://127.0.0.1:{port}/"


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def post(url: str, body: object) -> "tuple[int, str]":
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_app_streams_by_http_and_by_its_handle(handle: Any, demo: anser.Model) -> None:
    handle, url = handle
    expected = demo.generate("Once upon a time", max_tokens=16, **GREEDY).text()
    assert post(url, {"prompt": "Once upon a time", **GREEDY}) == (200, expected)
    question = [{"role": "user", "content": "What is 17 + 26?"}]
    assert post(url, {"messages": question, **GREEDY}) == (200, "17 + 26 = 43.")
    streaming = handle.options(stream=True)
    pieces = list(streaming.generate.remote("Once upon a time", **GREEDY))
    assert "".join(pieces) == expected and len(pieces) > 4
    assert "".join(streaming.chat.remote(question, **GREEDY)) == "17 + 26 = 43."
    state = handle.state.remote(TEXTS[0]).result()
    assert state.fingerprint == demo.fingerprint and not state.buffer.flags.owndata
    pieces = streaming.generate.remote("\n\nOrder number:", state=state, max_tokens=8, **GREEDY)
    assert "".join(pieces) == demo.generate("\n\nOrder number:", state=state, max_tokens=8, **GREEDY).text()
    rows = handle.embed.remote(TEXTS[:2], pooling="mean").result()
    np.testing.assert_allclose(rows, demo.embed(TEXTS[:2], "mean"), rtol=1e-3, atol=1e-3)
    scores = handle.score.remote("Once upon").result()
    np.testing.assert_allclose(scores, demo.score("Once upon"), rtol=1e-3)


def test_wrong_requests_are_answered_with_a_reason(handle: Any) -> None:
    _, url = handle
    for body, reason in [
        (b"{", "Expecting property name"),
        ([], "either"),
        ({"prompt": "a", "messages": []}, "either"),
        ({"prompt": "a", "n_predict": 3}, "unexpected keyword argument n_predict"),
        ({"prompt": "a", "state": 1}, "state: no option"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
    ]:
        status, text = post(url, body)
        assert status == 400 and reason in text, (body, text)


def test_a_client_that_leaves_ends_its_text(handle: Any) -> None:
    handle, url = handle
    port = int(url.rsplit(":", 1)[1].strip("/"))
    body = json.dumps({"prompt": "Once", "max_tokens": 10**9, "stop_tokens": []}).encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert handle.n_running.remote().result() == 1
    # The engine draws tokens for as long as it is not told; Serve tells it that the client has left.
    n_tries = 0
    while handle.n_running.remote().result() > 0:
        n_tries += 1
        assert n_tries < 300, "the text of a client that has left goes on"
        time.sleep(0.1)
