"""The stubs: generated from the module, true to it, and strict."""

import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "bindings" / "python"
STRICT = ["--config-file", str(ROOT / "pyproject.toml")]


@pytest.mark.parametrize(
    "command",
    [
        ["make_stubs.py", "--check"],
        ["-m", "mypy.stubtest", "anser._anser", "--concise"],
        ["-m", "mypy", *STRICT, "tests", "examples", "benches", "make_stubs.py"],
        ["-m", "mypy", *STRICT, "-p", "anser"],
    ],
    ids=["generated", "stubtest", "mypy-tests", "mypy-package"],
)
def test_types(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
