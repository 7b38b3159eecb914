"""Times what an e-mail agent does in Python: Anser, and other engines beside it. Prints a table in Markdown.

    python email_flow.py MODEL.gguf                                   # Anser
    python email_flow.py MODEL.gguf --llama WRAPPER.py LIBDIR         # and llama.cpp, through a ctypes wrapper with classes
                                                                      # Lib(libdir) and Llama(lib, path, **options)
    python email_flow.py MODEL.gguf --rwkv MODEL.pth                  # and package rwkv (torch)
    python email_flow.py --cycles 10000                               # memory over embed/state/fork/drop cycles

Every engine runs in a process of its own, and the engines take turns, row by row and round by round, so that a busy
moment hits all of them. Figures are medians of --repeat rounds after a warm-up, with the fastest in brackets. Where other
work cannot be stopped, `--threads 1 --cpu-time` counts the processor time of one thread instead. The flow:
read a mail and keep its state as an array, embed six short sentences, go on from the state with a question and 32 greedy
tokens. `encode` is also asked of the packages pyrwkv_tokenizer and rwkv_tokenizer where they are installed. The load
average is printed: figures of a busy machine say little.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
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
FIELDS = ["Sender:", "Date:", "Amount:", "Order number:", "Subject:", "Recipient:"]  # 2 or 3 tokens each
QUERIES = [f"The {field[:-1].lower()} of this e-mail is" for field in FIELDS]  # 8 or 9
QUESTION = "\n\nUser: Write a short answer.\n\nAssistant:"
N_ANSWER = 32

# The rows that are timed: name, unit, and number of repetitions in a round.
ROWS = {
    "encode": ("encode a mail of 1,000 characters", "µs", 2000),
    "state_to_numpy": ("state to an array", "ms", 20),
    "mail": ("read the mail, state to an array", "ms", 1),
    "fields_one_call": ("embed six field names, one call", "ms", 1),
    "fields_six_calls": ("the same, six calls", "ms", 1),
    "one_call": ("embed six short sentences, one call", "ms", 1),
    "six_calls": ("the same, six calls", "ms", 1),
    "answer": ("answer from the state: question and 32 tokens", "ms", 1),
    "flow": ("the whole flow", "ms", 1),
}
Jobs = dict[str, Callable[[], Any]]


def anser_jobs(a: argparse.Namespace) -> Jobs:
    import anser

    model = anser.load(a.model, device=a.device, threads=a.threads)
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": N_ANSWER, "stop_tokens": []}
    session = model.session()
    session.feed(MAIL, logits=None)
    state = session.state()

    def answer() -> None:
        session.restore(state)
        session.generate(QUESTION, **greedy).text()

    def flow() -> None:
        session = model.session()
        session.feed(MAIL, logits=None)
        assert session.state().wkv.size and model.embed(QUERIES).size
        session.generate(QUESTION, **greedy).text()

    return {
        "encode": lambda: model.encode(MAIL),
        "state_to_numpy": lambda: session.state().wkv,
        "mail": lambda: model.state(MAIL).wkv,
        "fields_one_call": lambda: model.embed(FIELDS),
        "fields_six_calls": lambda: [model.embed([field]) for field in FIELDS],
        "one_call": lambda: model.embed(QUERIES),
        "six_calls": lambda: [model.embed([q]) for q in QUERIES],
        "answer": answer,
        "flow": flow,
    }


def llama_jobs(a: argparse.Namespace) -> Jobs:
    import numpy as np

    spec = importlib.util.spec_from_file_location("llama_wrapper", a.llama[0])
    assert spec and spec.loader
    wrapper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wrapper)
    lib = wrapper.Lib(a.llama[1])
    threads = a.threads or os.cpu_count()
    reader = wrapper.Llama(lib, a.model, n_threads=threads)
    # Of the two ways to embed six texts, the wrapper's contexts allow the faster one: one batch of six sequences.
    embedder = wrapper.Llama(
        lib, a.model, n_threads=threads, embeddings=True, pooling=wrapper.POOL_LAST, n_seq_max=len(QUERIES)
    )

    def read() -> Any:
        reader.reset()
        reader.decode(reader.tokenize(MAIL))
        return np.frombuffer(reader.state_get(0), np.uint8)

    def embed(queries: list[str]) -> Any:
        embedder.reset()
        embedder.decode_seqs([embedder.tokenize(q) for q in queries], all_logits=True)
        return np.array([embedder.embedding_seq(i) for i in range(len(queries))], np.float32)

    read()
    state = reader.state_get(0)

    def answer() -> None:
        reader.reset()
        reader.state_set(state, 0)
        reader.generate_greedy(reader.tokenize(QUESTION), N_ANSWER)

    def flow() -> None:
        assert read().size and embed(QUERIES).size
        reader.generate_greedy(reader.tokenize(QUESTION), N_ANSWER)

    return {
        "encode": lambda: reader.tokenize(MAIL),
        "state_to_numpy": lambda: np.frombuffer(reader.state_get(0), np.uint8),
        "mail": read,
        "fields_one_call": lambda: embed(FIELDS),
        "fields_six_calls": lambda: [embed([field]) for field in FIELDS],
        "one_call": lambda: embed(QUERIES),
        "six_calls": lambda: [embed([q]) for q in QUERIES],
        "answer": answer,
        "flow": flow,
    }


def rwkv_jobs(a: argparse.Namespace) -> Jobs:
    os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
    import torch
    from rwkv.model import RWKV
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER
    from rwkv.utils import __file__ as package

    torch.set_num_threads(a.threads or os.cpu_count())
    tokenizer = TRIE_TOKENIZER(os.path.join(os.path.dirname(package), "rwkv_vocab_v20230424.txt"))
    model = RWKV(model=a.rwkv.removesuffix(".pth"), strategy="cpu fp32")
    kept = model.forward(tokenizer.encode(MAIL), None)[1]

    def arrays(state: Any) -> Any:
        return [part.numpy().copy() for part in state]

    def read() -> Any:
        state = model.forward(tokenizer.encode(MAIL), None)[1]
        return state, arrays(state)

    def embed(queries: list[str]) -> Any:
        # It returns no hidden rows: the state's last shift stands for the embedding, which costs no more.
        return [model.forward(tokenizer.encode(q), None)[1][-1].numpy() for q in queries]

    def answer(state: Any) -> None:
        logits, state = model.forward(tokenizer.encode(QUESTION), [part.clone() for part in state])
        for _ in range(N_ANSWER):
            logits, state = model.forward(int(logits.argmax()), state)

    def flow() -> None:
        state = read()[0]
        embed(QUERIES)
        answer(state)

    return {
        "encode": lambda: tokenizer.encode(MAIL),
        "state_to_numpy": lambda: arrays(kept),
        "mail": read,
        "fields_six_calls": lambda: embed(FIELDS),
        "six_calls": lambda: embed(QUERIES),
        "answer": lambda: answer(kept),
        "flow": flow,
    }


def tokenizer_jobs(name: str, a: argparse.Namespace) -> Jobs:
    module = importlib.import_module(name)
    tokenizer = (getattr(module, "RWKVTokenizer", None) or module.WorldTokenizer)()
    return {"encode": lambda: tokenizer.encode(MAIL)}


ENGINES: dict[str, Callable[[argparse.Namespace], Jobs]] = {
    "Anser": anser_jobs,
    "llama.cpp": llama_jobs,
    "pip rwkv": rwkv_jobs,
    "pyrwkv_tokenizer": lambda a: tokenizer_jobs("pyrwkv_tokenizer", a),
    "rwkv_tokenizer": lambda a: tokenizer_jobs("rwkv_tokenizer", a),
}


def work(engine: str, a: argparse.Namespace) -> None:
    """Runs in an engine's process: reads names of rows, one a line, and times each row."""
    out, sys.stdout = sys.stdout, sys.stderr  # some engines print
    jobs = ENGINES[engine](a)
    clock = time.process_time if a.cpu_time else time.perf_counter
    print(json.dumps(list(jobs)), file=out, flush=True)
    for line in sys.stdin:
        name = line.strip()
        job, n = jobs[name], ROWS[name][2]
        begin = clock()
        for _ in range(n):
            job()
        print(json.dumps((clock() - begin) / n), file=out, flush=True)


class Worker:
    """The process of an engine."""

    def __init__(self, engine: str) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--engine", engine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rows: list[str] = self.answer()
        self.times: dict[str, list[float]] = {row: [] for row in self.rows}

    def answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit("an engine's process has ended")
        return json.loads(line)

    def run(self, row: str) -> float:
        assert self.process.stdin
        self.process.stdin.write(row + "\n")
        self.process.stdin.flush()
        seconds: float = self.answer()
        return seconds


def compare(a: argparse.Namespace) -> None:
    engines = ["Anser"]
    engines += ["llama.cpp"] if a.llama else []
    engines += ["pip rwkv"] if a.rwkv else []
    engines += [name for name in ("pyrwkv_tokenizer", "rwkv_tokenizer") if importlib.util.find_spec(name)]
    begin = os.getloadavg()[0]
    workers = {engine: Worker(engine) for engine in engines}
    for row in ROWS:
        for round in range(-1, a.repeat):
            for worker in workers.values():
                if row in worker.rows:
                    seconds = worker.run(row)
                    if round >= 0:
                        worker.times[row].append(seconds)
    for worker in workers.values():
        assert worker.process.stdin
        worker.process.stdin.close()
        worker.process.wait()

    threads = "1 thread" if a.threads == 1 else f"{a.threads or os.cpu_count()} threads"
    clock = "processor time" if a.cpu_time else "wall time"
    print(f"{Path(a.model or 'demo').name}, {a.device}, {threads}, {clock}, medians of {a.repeat} (fastest)", end="; ")
    print(f"load average {begin:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    print("| | " + " | ".join(engines) + " |\n|" + "---|" * (1 + len(engines)))
    for row, (title, unit, _) in ROWS.items():
        scale = 1e6 if unit == "µs" else 1e3
        cells = []
        for worker in workers.values():
            times = worker.times.get(row)
            cells.append(f"{figure(scale * statistics.median(times))} ({figure(scale * min(times))})" if times else "")
        print(f"| {title}, {unit} | " + " | ".join(cells) + " |")


def figure(x: float) -> str:
    """A number with three digits."""
    return f"{x:.3g}" if x < 999.5 else f"{x:,.0f}"


def resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def cycles(a: argparse.Namespace) -> None:
    """Measures memory before and after cycles of all calls that allocate memory."""
    import anser

    model = anser.load(a.model, device=a.device, threads=a.threads)

    def run(n: int) -> None:
        for i in range(n):
            ids = [i % 1000, 1]
            model.embed([ids])
            with model.session() as session:
                session.feed(ids)
                state = session.state()
                with session.fork() as fork:
                    fork.restore(state)

    run(500)
    before = resident_mib()
    run(a.cycles)
    state = model.new_state().buffer.nbytes / 2**20
    print(f"{a.cycles} cycles, states of {state:.2f} MiB: resident {before:.1f} MiB before, {resident_mib():.1f} after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="default: the demo model of the package")
    parser.add_argument("--llama", nargs=2, metavar=("WRAPPER", "LIBDIR"))
    parser.add_argument("--rwkv", metavar="MODEL.pth")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--cycles", type=int)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.llama and not a.model:
        parser.error("--llama needs a model file")
    if a.engine:
        work(a.engine, a)
    elif a.cycles:
        cycles(a)
    else:
        compare(a)


if __name__ == "__main__":
    main()
