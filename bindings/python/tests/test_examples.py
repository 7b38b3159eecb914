"""The READMEs' examples give what it says, and the examples run."""

import doctest
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

import anser
import anser.sentence
import anser.tools

PACKAGE = ROOT / "bindings" / "python"


@pytest.mark.parametrize(("readme", "n"), [(ROOT / "README.md", 7), (PACKAGE / "README.md", 40)], ids=["root", "package"])
def test_the_readmes(readme: Path, n: int) -> None:
    failed, run = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert run >= n and failed == 0


@pytest.mark.parametrize(("module", "n"), [(anser, 3), (anser.tools, 3), (anser.sentence, 3)], ids=["anser", "tools", "sentence"])
def test_the_docstrings(module: ModuleType, n: int) -> None:
    failed, run = doctest.testmod(module)
    assert run >= n and failed == 0


@pytest.mark.parametrize("name", ["email_fields.py", "semantic_search.py"])
def test_example(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(PACKAGE / "examples" / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if name == "email_fields.py":
        assert "Sender: Nora Lind" in done.stdout and "Order number: 73920" in done.stdout, done.stdout
    else:
        assert "200 texts, 256 numbers each" in done.stdout and (tmp_path / "semantic_search.png").stat().st_size > 5000
