"""Times what an e-mail agent does in Python: Anser, and other engines beside it. JSON lines out.

    python email_flow.py MODEL.gguf                                   # Anser
    python email_flow.py MODEL.gguf --llama WRAPPER.py LIBDIR         # llama.cpp, through a ctypes wrapper with classes
                                                                      # Lib(libdir) and Llama(lib, path, **options)
    python email_flow.py MODEL.pth --rwkv                             # package rwkv (torch)

Every row is the median of --repeat runs after a warm-up, with the fastest beside it. The flow: read a mail and keep its
state as an array, embed six short queries, go on from the state with a question and 32 greedy tokens. The load average
is printed: figures of a busy machine say little.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from typing import Any

MAIL = """From: Nora Lind <nora.lind@example.com>
Subject: Order 73920 has not arrived

Hello,

on 3 March I ordered two desk lamps and a shelf for 148.50 euros in your shop. The order number is 73920, and the invoice
came on the same day. They should have been here last week, but nothing has come, and the page that you sent me for the
parcel says only that it has left Hamburg. I have written twice before, on 12 March and on 17 March, to the address on the
invoice, and nobody has answered.

Please tell me when I can expect the lamps and the shelf. If they cannot be here before 2 April, please cancel the order
and send the money back to the account that it came from. I am at home on weekdays after five, and on Saturdays until
noon; the neighbours on the ground floor, Bergmann, take parcels too.

One more thing: the shelf should be the white one, 80 cm wide, as in my second message, not the black one that the
invoice names. If that is not possible, please leave it out.

Kind regards and many thanks,
Nora Lind
"""[:1000]
QUERIES = [f"The {field} of this e-mail is" for field in ("sender", "date", "amount", "order number", "subject", "place")]
QUESTION = "\n\nUser: Write a short answer.\n\nAssistant:"
N_ANSWER = 32


def median_ms(f: Callable[[], Any], repeat: int, inner: int = 1) -> list[float]:
    """[median, fastest] of the times of one call, in ms."""
    f()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(inner):
            f()
        times.append(1e3 * (time.perf_counter() - begin) / inner)
    return [round(sorted(times)[repeat // 2], 4), round(min(times), 4)]


def anser_rows(a: argparse.Namespace) -> dict[str, Any]:
    import anser

    begin = time.perf_counter()
    model = anser.load(a.model, device=a.device, threads=a.threads)
    load_ms = 1e3 * (time.perf_counter() - begin)
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": N_ANSWER, "stop_tokens": []}
    session = model.session()
    session.feed(MAIL, logits=None)

    def flow() -> None:
        session = model.session()
        session.feed(MAIL, logits=None)
        vector = session.state().wkv
        rows = model.embed(QUERIES)
        assert vector.size and rows.size
        session.generate(QUESTION, **greedy).text()

    return {
        "engine": "anser",
        "device": model.device,
        "load_ms": round(load_ms, 1),
        "mail_tokens": len(model.encode(MAIL)),
        "encode_us": [1e3 * t for t in median_ms(lambda: model.encode(MAIL), 15, 2000)],
        "state_to_numpy_ms": median_ms(lambda: session.state().wkv, 15, 10),
        "mail_state_ms": median_ms(lambda: model.state(MAIL), a.repeat),
        "six_queries_one_call_ms": median_ms(lambda: model.embed(QUERIES), a.repeat),
        "six_queries_six_calls_ms": median_ms(lambda: [model.embed([q]) for q in QUERIES], a.repeat),
        "flow_ms": median_ms(flow, a.repeat),
    }


def llama_rows(a: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    spec = importlib.util.spec_from_file_location("llama_wrapper", a.llama[0])
    assert spec and spec.loader
    wrapper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wrapper)
    lib = wrapper.Lib(a.llama[1])
    threads = a.threads or os.cpu_count()
    begin = time.perf_counter()
    reader = wrapper.Llama(lib, a.model, n_threads=threads)
    load_ms = 1e3 * (time.perf_counter() - begin)
    # Of the two ways to embed six texts, the wrapper's contexts allow the faster one: one batch of six sequences.
    embedder = wrapper.Llama(
        lib, a.model, n_threads=threads, embeddings=True, pooling=wrapper.POOL_LAST, n_seq_max=len(QUERIES)
    )
    queries = [embedder.tokenize(q) for q in QUERIES]
    mail, question = reader.tokenize(MAIL), reader.tokenize(QUESTION)

    def read() -> Any:
        reader.reset()
        reader.decode(mail)
        return np.frombuffer(reader.state_get(0), np.uint8)

    def embed(queries: list[Any]) -> Any:
        embedder.reset()
        embedder.decode_seqs(queries, all_logits=True)
        return np.array([embedder.embedding_seq(i) for i in range(len(queries))], np.float32)

    def flow() -> None:
        assert read().size
        assert embed(queries).size
        reader.generate_greedy(question, N_ANSWER)

    read()
    return {
        "engine": "llama.cpp",
        "load_ms": round(load_ms, 1),
        "mail_tokens": len(mail),
        "encode_us": [1e3 * t for t in median_ms(lambda: reader.tokenize(MAIL), 15, 500)],
        "state_to_numpy_ms": median_ms(lambda: np.frombuffer(reader.state_get(0), np.uint8), 15, 10),
        "mail_state_ms": median_ms(read, a.repeat),
        "six_queries_one_call_ms": median_ms(lambda: embed(queries), a.repeat),
        "six_queries_six_calls_ms": median_ms(lambda: [embed([q]) for q in queries], a.repeat),
        "flow_ms": median_ms(flow, a.repeat),
    }


def rwkv_rows(a: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
    import torch
    from rwkv.model import RWKV
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER
    from rwkv.utils import __file__ as package

    if a.threads:
        torch.set_num_threads(a.threads)
    tokenizer = TRIE_TOKENIZER(os.path.join(os.path.dirname(package), "rwkv_vocab_v20230424.txt"))
    begin = time.perf_counter()
    model = RWKV(model=a.model.removesuffix(".pth"), strategy="cpu fp32")
    load_ms = 1e3 * (time.perf_counter() - begin)
    mail, question = tokenizer.encode(MAIL), tokenizer.encode(QUESTION)
    queries = [tokenizer.encode(q) for q in QUERIES]

    def read() -> Any:
        state = model.forward(mail, None)[1]
        return state, [part.numpy().copy() for part in state]

    def embed() -> Any:
        # It returns no hidden rows: the state's last shift stands for the embedding, which costs no more.
        return [model.forward(q, None)[1][-1].numpy() for q in queries]

    def flow() -> None:
        state = read()[0]
        embed()
        logits, state = model.forward(question, state)
        for _ in range(N_ANSWER):
            logits, state = model.forward([int(torch.argmax(logits))], state)

    state = read()[0]
    return {
        "engine": "rwkv",
        "load_ms": round(load_ms, 1),
        "mail_tokens": len(mail),
        "encode_us": [1e3 * t for t in median_ms(lambda: tokenizer.encode(MAIL), 15, 50)],
        "state_to_numpy_ms": median_ms(lambda: [part.numpy().copy() for part in state], 15, 10),
        "mail_state_ms": median_ms(read, a.repeat),
        "six_queries_six_calls_ms": median_ms(embed, a.repeat),
        "flow_ms": median_ms(flow, a.repeat),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--llama", nargs=2, metavar=("WRAPPER", "LIBDIR"))
    parser.add_argument("--rwkv", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=5)
    a = parser.parse_args()
    load = os.getloadavg()[0]
    rows = llama_rows(a) if a.llama else rwkv_rows(a) if a.rwkv else anser_rows(a)
    load_average = [round(load, 2), round(os.getloadavg()[0], 2)]
    print(json.dumps({"model": os.path.basename(a.model), **rows, "load_average": load_average}))


if __name__ == "__main__":
    main()
