"""Generates python/anser/_anser.pyi from the compiled module. Needs maturin; --check compares instead of writing."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STUBS = HERE / "python" / "anser" / "_anser.pyi"

# The modules of the names that the signatures in Rust contain as texts.
SOURCES = {
    "collections.abc": ["Callable", "Coroutine", "Iterable", "Sequence"],
    "types": ["GenericAlias", "TracebackType"],
    "typing": ["Any", "Generic", "overload"],
    "anser._types": [
        "GenerateOptions",
        "Head",
        "LoraDict",
        "Message",
        "Messages",
        "Pooling",
        "Progress",
        "Prompt",
        "StrPath",
        "Text",
        "Thinking",
        "ToolChoice",
        "Which",
    ],
    "typing_extensions": ["TypeVar", "Unpack"],
}
# The defaults of arguments whose values the module converts itself. The keys are the arguments as PyO3 writes them.
DEFAULTS = {
    "errors: str = ...": 'errors: str = "strict"',
    "pooling: Pooling = ...": 'pooling: Pooling = "last"',
    "layer: int = ...": "layer: int = -1",
    "normalize: bool = ...": "normalize: bool = False",
    "eos_token: int = ...": "eos_token: int = 65535",
    "thinking: Thinking = ...": 'thinking: Thinking = "off"',
    "tools: Sequence[str] = ...": "tools: Sequence[str] = ()",
    "tool_choice: ToolChoice = ...": 'tool_choice: ToolChoice = "required"',
    "on_device: bool = ...": "on_device: bool = False",
    "logits: Which | None = ...": 'logits: Which | None = "last"',
    "embedding_cache: int = ...": "embedding_cache: int = 0",
    "state_cache: int = ...": "state_cache: int = 0",
    " cache: int = ...": " cache: int = 1073741824",
}
# PyO3 has no type parameters, which say whether logits and hidden rows were asked for and so are arrays.
FED = [
    (
        "class Fed:",
        """_Logits = TypeVar("_Logits", covariant=True, default=NDArray[float32] | None)
_Hidden = TypeVar("_Hidden", covariant=True, default=NDArray[float32] | None)

@final
class Fed(Generic[_Logits, _Hidden]):""",
    ),
    (
        "    @property\n    def hidden(self, /) -> NDArray[float32] | None:",
        "    def __class_getitem__(cls, key: Any) -> GenericAlias: ...\n    @property\n    def hidden(self, /) -> _Hidden:",
    ),
    ("    def logits(self, /) -> NDArray[float32] | None:", "    def logits(self, /) -> _Logits:"),
]
# PyO3 has no overloads either.
FEED = re.compile(r"    def (feed|feed_batch)\(self, /, (\w+: .*?), \*, .*\) -> (list\[)?Fed(\])?:")
FEED_OVERLOADS = [
    ('logits: Which = "last", hidden: None = None', "NDArray[float32], None"),
    ('logits: Which = "last", hidden: Which', "NDArray[float32], NDArray[float32]"),
    ("logits: None, hidden: None = None", "None, None"),
    ("logits: None, hidden: Which", "None, NDArray[float32]"),
    ('logits: Which | None = "last", hidden: Which | None = None', "NDArray[float32] | None, NDArray[float32] | None"),
]
# Options may be unpacked from a dict of numbers, as in generate(text, **dict(temperature=0, top_k=5)), which type checkers
# do not match with the options by name.
GENERATE = re.compile(r"    def (generate|generate_batch|chat)\(self, /, (\w+: .*?), \*, .*\*\*options: .*\) -> (.*):")


def generate() -> str:
    """The stubs of the module as it is compiled from the sources."""
    # As scripts/test-python compiles it, so that nothing is compiled twice.
    with tempfile.TemporaryDirectory() as out:
        manifest = str(HERE / "Cargo.toml")
        command = ["maturin", "generate-stubs", "--profile", "dev", "--features", "test-features", "--manifest-path", manifest, "--out", out, "--quiet"]
        subprocess.run(command, check=True)
        (file,) = Path(out).rglob("*.pyi")
        return file.read_text()


def definition(line: str) -> str:
    """A function's first line, completed: without quotes around annotations, with defaults and overloads."""
    line = re.sub(r'"([^"]+)"', r"\1", line)
    for written, meant in DEFAULTS.items():
        line = line.replace(written, meant)
    if match := FEED.fullmatch(line):
        name, prompt, begin, end = match.groups(default="")
        variants = [
            f"    def {name}(self, /, {prompt}, *, {wanted}, progress: Progress | None = None) -> {begin}Fed[{given}]{end}"
            for wanted, given in FEED_OVERLOADS
        ]
        return "".join(f"    @overload\n{variant}: ...\n" for variant in variants[:-1]) + f"    @overload\n{variants[-1]}:"
    if match := GENERATE.fullmatch(line):
        name, prompt, result = match.groups()
        numbers = f"    def {name}(self, {prompt}, /, **options: float | None) -> {result}: ..."
        return f"    @overload\n{numbers}\n    @overload\n{line}"
    return line


def complete(stubs: str) -> str:
    """What PyO3 cannot say, and imports of the names in it."""
    lines = [definition(line) if line.lstrip().startswith("def ") else line for line in stubs.splitlines()]
    stubs = "\n".join(lines) + "\n"
    for written, meant in FED:
        assert written in stubs, written
        stubs = stubs.replace("@final\n" + written, meant) if written.startswith("class") else stubs.replace(written, meant)
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
