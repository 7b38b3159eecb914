"""Generates python/anser/_anser.pyi from the compiled module. Needs maturin; --check compares instead of writing."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STUBS = HERE / "python" / "anser" / "_anser.pyi"

# Where the names come from that Rust gives as texts.
SOURCES = {
    "collections.abc": ["Coroutine", "Iterable", "Sequence"],
    "types": ["TracebackType"],
    "typing": ["Any", "overload"],
    "anser._types": ["GenerateOptions", "Message", "Pooling", "Progress", "Prompt", "StrPath", "Thinking", "Which"],
    "typing_extensions": ["Unpack"],
}
# PyO3 has no overloads: with a way to treat bytes that are not UTF-8 the result is a str.
DECODE = "    def decode(self, /, ids: Iterable[int], errors: str | None = None) -> str | bytes:"
DECODE_OVERLOADS = """\
    @overload
    def decode(self, /, ids: Iterable[int], errors: None = None) -> str | bytes: ...
    @overload
    def decode(self, /, ids: Iterable[int], errors: str) -> str:"""


def generate() -> str:
    """The stubs of the module as it is compiled from the sources."""
    with tempfile.TemporaryDirectory() as out:
        manifest = str(HERE / "Cargo.toml")
        command = ["maturin", "generate-stubs", "--profile", "dev", "--manifest-path", manifest, "--out", out, "--quiet"]
        subprocess.run(command, check=True)
        (file,) = Path(out).rglob("*.pyi")
        return file.read_text()


def complete(stubs: str) -> str:
    """Annotations without quotes, overloads, and imports of the names in them."""
    lines = stubs.splitlines()
    lines = [re.sub(r'"([^"]+)"', r"\1", line) if line.lstrip().startswith("def ") else line for line in lines]
    stubs = "\n".join(lines).replace(DECODE, DECODE_OVERLOADS) + "\n"
    code = re.sub(r'""".*?"""', "", stubs, flags=re.S)
    for module, names in sorted(SOURCES.items(), reverse=True):
        used = [name for name in names if re.search(rf"\b{name}\b", code)]
        stubs = stubs.replace("\nfrom ", f"\nfrom {module} import {', '.join(used)}\nfrom ", 1)
    return stubs


def main() -> None:
    text = complete(generate())
    if "--check" in sys.argv:
        if STUBS.read_text() != text:
            sys.exit(f"{STUBS.name} is not what the module says: run {Path(__file__).name}")
        return
    STUBS.write_text(text)


if __name__ == "__main__":
    main()
