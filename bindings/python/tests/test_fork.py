"""Processes forked after a model was loaded: they are told so, whatever the parent's threads hold, and end in silence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A hang would last for ever; the slowest of these takes some seconds, the compilation of kernels for the GPU included.
PATIENCE_S = 120

PROGRAM = """
import os, sys, threading, time
import anser

device, when = sys.argv[1:3]
model = anser.load(sys.argv[3], device=device, threads=2 if device == "cpu" else None)
session, fed = model.session(), model.session()
fed.feed([1, 2, 3])
started = model.session().generate([1, 2], stop_tokens=[], max_tokens=50)
if when != "fresh":
    model.embed([[1, 2]])
reading = model.session()
ids = list(range(300)) * 400
if when == "busy":
    # One thread holds the executor nearly always, another the lock of a session.
    threading.Thread(target=lambda: [model.embed([ids]) for _ in range(3)], daemon=True).start()
    threading.Thread(target=lambda: reading.feed(ids), daemon=True).start()
    time.sleep(0.3)

pid = os.fork()
if pid == 0:
    what = {
        "embed": lambda: model.embed([[1, 2]]),
        "state": lambda: model.state([1]),
        "session": model.session,
        "feed": lambda: session.feed([1]),
        "fork": fed.fork,
        "read_state": fed.state,
        "reading": lambda: reading.feed([1]),
        "memory": model.memory,
        "save": lambda: fed.save("/nonexistent/state"),
    }
    try:
        for name, call in what.items():
            try:
                call()
                print(name, "did not fail")
            except anser.DeviceError as error:
                assert str(error) == "this process was forked after the model was opened: load it here", error
        assert "anser.Model" in repr(model) and model.n_layer
        session.close()
        started.close()
        del started, session, fed, reading
        if when != "busy":
            fresh = anser.load(sys.argv[3], device="cpu", threads=2)
            assert fresh.embed([[1, 2]]).shape == (1, fresh.n_embd)
            del fresh
        del model, what, call
        print("child ends")
        sys.exit(0)
    except SystemExit:
        raise
    except BaseException as error:
        print("child failed", type(error), error)
        raise
_, status = os.waitpid(pid, 0)
print("status", status)
if when != "busy":  # There, the model is busy with other things for long.
    assert model.embed([[1, 2]]).shape == (1, model.n_embd)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("when", ["fresh", "used", "busy"])
@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_a_forked_child_is_refused_and_ends_in_silence(device: str, when: str, tmp_path: Path) -> None:
    path = str(FIXTURES / "unpacked" / "demo-q4_k_m.gguf")
    command = [sys.executable, "-u", "-c", PROGRAM, device, when, path]
    # Vulkan's loader complains where there is no such folder.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr, done.returncode) == ("child ends\nstatus 0\n", "", 0)
