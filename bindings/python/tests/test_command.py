"""The command in the package: the program `anser` beside the interpreter, and `python -m anser`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import anser

PROGRAMS = [[sys.executable, "-m", "anser"], [str(Path(sys.executable).parent / "anser")]]


@pytest.fixture(params=PROGRAMS, ids=["module", "program"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """A way to call the command."""
    way: list[str] = request.param
    return way


def run(program: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    return subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)


def test_its_version_is_that_of_the_package(program: list[str]) -> None:
    done = run(program, "-V")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"anser {anser.__version__}\n", "")
    assert "features embedded-model, hub, serve\n" in run(program, "--version").stdout


def test_it_computes_what_the_package_does(program: list[str], demo: anser.Model) -> None:
    done = run(program, "generate", "--device", "cpu", "--temperature", "0", "-n", "12", "--json", "Once upon a time")
    assert done.returncode == 0, done.stderr
    expected = demo.generate("Once upon a time", max_tokens=12, temperature=0).text()
    assert json.loads(done.stdout)["text"] == expected


def test_arguments_that_are_wrong_are_named_with_exit_code_2(program: list[str]) -> None:
    done = run(program, "generate", "--temprature", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--temperature" in done.stderr and done.stderr.count("\n") == 1
    assert run(program).returncode == 2


def test_arguments_may_be_any_bytes(program: list[str]) -> None:
    done = subprocess.run([*program, "tokenize", "caf\u00e9".encode("latin-1")], capture_output=True, check=False)
    # The prompt's bytes: c, a and f are one token, the last one is a byte of its own.
    again = subprocess.run([*program, "tokenize", "--decode", "-"], input=done.stdout, capture_output=True, check=False)
    assert (done.returncode, again.stdout) == (0, b"caf\xe9")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of this kind")
def test_an_interrupt_ends_it_after_what_was_generated(program: list[str]) -> None:
    arguments = ["generate", "--device", "cpu", "--seed", "1", "-n", "-1", "--logit-bias", "0=-100", "Once"]
    with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.read(10)
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
