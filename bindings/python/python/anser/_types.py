"""Types of the functions' arguments."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Callable, Literal, Protocol, TypedDict, Union

if TYPE_CHECKING:
    from ._anser import Model

Text = Union[str, bytes, bytearray, memoryview]
"""A text: a str, or bytes of any kind."""

Prompt = Union[Text, Iterable[int]]
"""A text, or token ids: a list, a one-dimensional array, any iterable of ints that has an order."""

StrPath = Union[str, "os.PathLike[str]"]
"""A path."""


class LoraDict(TypedDict, total=False):
    """An adapter that a model is loaded with."""

    path: StrPath
    """The adapter's file or folder; it is required."""
    scale: float
    """1 is the adapter as it was trained, which is the default; 0.5 half of it."""
    alpha: Union[float, None]
    """By what RWKV-PEFT and web-rwkv trained it, which their files do not say."""
    init: Union[StrPath, None]
    """The file with the pairs that PiSSA began with."""
    form: Union[Literal["merge", "beside"], None]
    """Whether its low-rank pairs are merged into all weights or stay beside all of them; None, the default: beside quantized ones."""


Pooling = Literal["last", "mean", "eos-mean"]
"""The way in which the rows of a text's tokens are reduced to one row."""

Head = Literal["cls", "sts", "retr", "none"]
"""The head of an embedding model that makes an embedding of a pooled row."""

Which = Literal["last", "all"]
"""The tokens whose outputs are wanted."""

Thinking = Literal["off", "on", "short", "normal", "long", "fake", "fake-inline"]
"""Whether the model thinks before it answers."""

ToolChoice = Literal["required", "auto"]
"""Whether the model must call a function or may answer in words."""

FinishReason = Literal["stop", "length", "cancelled"]
"""The reason for which a generation ended."""


class Bar(Protocol):
    """A progress bar such as tqdm's."""

    @property
    def n(self) -> float:
        """The position of the bar."""
        ...

    @property
    def total(self) -> Union[float, None]:
        """The end of the bar, which the call that reports sets."""
        ...

    def update(self, n: int, /) -> object:
        """Moves the bar on by n."""


Progress = Union[Callable[[int, int], object], Bar]
"""A callback (done, total), or a bar."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


Messages = Iterable[Union[Message, Mapping[str, str]]]
"""A conversation: messages with the keys role and content."""


class GenerateOptions(TypedDict, total=False):
    """Options of generate, generate_batch and chat. None means the default; help(anser.Model.generate) lists them.

    The steps run in this order: logit_bias, repetition penalty, presence and frequency penalty, then softmax, the
    filters typical-p, top-k, top-p and min-p, and temperature (order "rwkv"), or temperature, softmax and filters
    (order "common").
    """

    max_tokens: Union[int, None]
    """The most tokens to generate; default: no limit."""
    stop: Union[str, "list[str]", "tuple[str, ...]", None]
    """Texts that end the generation; they are not part of the text."""
    stop_tokens: Union[Iterable[int], None]
    """Token ids that end the generation; default: those that end a document, 0 in RWKV's own vocabularies."""
    seed: Union[int, None]
    """The same seed, options and prompt give the same text; default: a fresh one."""
    order: Union[Literal["rwkv", "common"], None]
    """The point at which the temperature acts; default: "rwkv"."""
    temperature: Union[float, None]
    """Flattens the distribution above 1 and sharpens it below; 0 always takes the most likely token; default: 1."""
    top_k: Union[int, None]
    """Keeps this many of the most likely tokens; default: 0 = off."""
    top_p: Union[float, None]
    """Keeps the most likely tokens that together reach this probability; default: 0.3; 1 = off."""
    min_p: Union[float, None]
    """Keeps the tokens at least this likely relative to the most likely one; default: 0 = off."""
    typical_p: Union[float, None]
    """Keeps the tokens whose information content is closest to the expected one and that together reach this probability; default:
    1 = off."""
    presence_penalty: Union[float, None]
    """Subtracted from the logits of tokens that occurred; default: 0.5, with a grammar 0."""
    frequency_penalty: Union[float, None]
    """Subtracted from the logits of tokens, times how often they occurred; default: 0.5, with a grammar 0."""
    penalty_decay: Union[float, None]
    """Multiplies the counts at every token; default: 0.996."""
    repetition_penalty: Union[float, None]
    """Divides the logits of tokens that occurred; default: 1 = off."""
    logit_bias: Union[Mapping[int, float], None]
    """Added to the logits of single tokens; -inf forbids one."""
    json_schema: Union[Mapping[str, object], str, None]
    """The text is JSON that is valid by this JSON schema. At most one of this, regex and grammar."""
    regex: Union[str, None]
    """The text matches this regular expression from its beginning to its end."""
    grammar: Union[str, None]
    """The text is one of this grammar, in the notation of Lark."""
    lookup: Union[bool, None]
    """Whether the processor proposes tokens that followed the last ones before, and verifies several in one step; default: False."""
    draft: Union["Model", None]
    """A smaller model with the same vocabulary that proposes tokens, of which the processor verifies several in one step; default: none."""
