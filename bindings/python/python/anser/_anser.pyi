"""
RWKV inference; import `anser`, not this module.
"""

from anser._types import GenerateOptions, Head, LoraDict, Messages, Pooling, Progress, Prompt, StrPath, Text, Thinking, ToolChoice, Which
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import GenericAlias, TracebackType
from typing import Any, Generic, overload
from typing_extensions import TypeVar, Unpack
from anser._types import FinishReason
from collections.abc import Awaitable
from numpy import float32, uint32
from numpy.typing import ArrayLike, NDArray
from typing import Final, final

__all__ = ["__version__", "CacheStats", "Fed", "Generation", "MemoryUse", "Model", "PrefixCache", "Reranker", "Session", "State", "Tokenizer", "load", "run_command"]

__version__: Final[str]
"""
The package's version.
"""

@final
class CacheStats:
    """
    The counts of a cache.
    """
    def __repr__(self, /) -> str: ...
    @property
    def hit_rate(self, /) -> float:
        """
        The fraction of look-ups that found an entry; 0 before the first one.
        """
    @property
    def n_bytes(self, /) -> int:
        """
        The number of bytes now.
        """
    @property
    def n_entries(self, /) -> int:
        """
        The number of entries now.
        """
    @property
    def n_hits(self, /) -> int:
        """
        The number of look-ups that found an entry.
        """
    @property
    def n_misses(self, /) -> int:
        """
        The number of look-ups that found none.
        """

_Logits = TypeVar("_Logits", covariant=True, default=NDArray[float32] | None)
_Hidden = TypeVar("_Hidden", covariant=True, default=NDArray[float32] | None)

@final
class Fed(Generic[_Logits, _Hidden]):
    """
    The outputs of fed tokens; None for those that were not asked for.
    """
    def __repr__(self, /) -> str: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    @property
    def hidden(self, /) -> _Hidden:
        """
        Hidden rows after the final norm, [C] of the last token or [T, C] of all.
        """
    @property
    def logits(self, /) -> _Logits:
        """
        Logits, [V] of the last token or [T, V] of all.
        """

@final
class Generation:
    """
    A text that is being generated: iterate for its pieces, with `for` or `async for`.

    The prompt is read when the first piece is asked for. Generations of one model that run at the same time, in threads or
    in tasks, share the steps of the model; each then runs at most a few tokens ahead of its reader. close() ends the
    generation early; so do Ctrl-C, leaving a `with` or `async with` block, cancelling the task that iterates, and dropping it.
    """
    def __aenter__(self, /) -> Coroutine[Any, Any, Generation]: ...
    def __aexit__(self, /, exc_type: type | None, exc_value: BaseException | None, traceback: TracebackType | None) -> Coroutine[Any, Any, None]: ...
    def __aiter__(self, /) -> Generation: ...
    def __anext__(self, /) -> Awaitable[str]: ...
    def __enter__(self, /) -> Generation: ...
    def __exit__(self, /, exc_type: type | None, exc_value: BaseException | None, traceback: TracebackType | None) -> None: ...
    def __iter__(self, /) -> Generation: ...
    def __next__(self, /) -> str: ...
    def __repr__(self, /) -> str: ...
    def _call_when_there(self, /, call: Callable[[], object]) -> bool:
        """
        Has call called once, in another thread, when _poll() has something; False if it has already.
        """
    def _is_served(self, /) -> bool:
        """
        Whether the model's engine serves it, so that pieces come without a thread that waits.
        """
    def _poll(self, /) -> tuple[str | None] | None:
        """
        The next piece in a tuple, (None,) at the end, or None if it has to be waited for.
        """
    def aclose(self, /) -> Coroutine[Any, Any, None]:
        """
        close() without blocking the event loop.
        """
    def cancel(self, /) -> None:
        """
        Asks the generation to end before its next token. Any thread may call this.
        """
    def close(self, /) -> None:
        """
        Ends the generation after the token that is being drawn, and gives the session back.
        """
    @property
    def finish_reason(self, /) -> FinishReason | None:
        """
        The reason for which the generation ended: "stop", "length" or "cancelled"; None while it goes on.
        """
    @property
    def logprobs(self, /) -> list[tuple[int, float, list[tuple[int, float]]]] | None:
        """
        For each token drawn so far its log-probability and the most likely tokens in its place, most likely first, as (token,
        logprob, [(token, logprob), ...]); None unless logprobs was given.
        """
    @property
    def reasoning(self, /) -> str:
        """
        The thought of the model so far, in a chat.
        """
    def text(self, /) -> str:
        """
        Runs to the end and returns the rest of the text.
        """
    @property
    def tokens(self, /) -> NDArray[uint32]:
        """
        Ids of all tokens drawn so far, but for a stop token.
        """
    @property
    def usage(self, /) -> dict[str, int] | None:
        """
        The numbers of tokens once the text has ended: "prompt", "cached" (those of the prompt that were not read again) and
        "generated"; None before, and for a generation in a session or with progress.
        """

@final
class MemoryUse:
    """
    The memory that a model takes, in bytes.
    """
    def __repr__(self, /) -> str: ...
    @property
    def embeddings(self, /) -> int:
        """
        Cached embeddings (embedding_cache of load()).
        """
    @property
    def file(self, /) -> int:
        """
        The model file, mapped into memory: its pages are shared with the system's file cache, which drops them when memory
        is short. A model on a GPU reads few of them.
        """
    @property
    def gpu_allocated(self, /) -> int | None:
        """
        All memory that this process has allocated on the GPU, also for other models; None on the CPU, or if the driver does
        not tell.
        """
    @property
    def gpu_states(self, /) -> int | None:
        """
        States on the GPU, with room for the next ones; None on the CPU.
        """
    @property
    def gpu_weights(self, /) -> int | None:
        """
        Weights on the GPU, the embedding table of generations included; None on the CPU.
        """
    @property
    def scratch(self, /) -> int:
        """
        Values of a step and memory kept for the next states, in main memory.
        """
    @property
    def states(self, /) -> int:
        """
        States of sessions, in main memory.
        """

@final
class Model:
    """
    A loaded model. It may be used from several threads.

    A model that load() returned can be pickled, by its path and options: another process opens the same file, once for all copies that
    it unpickles, and refuses another model there. In this process the copy is the model itself.
    """
    def __reduce__(self, /) -> tuple[Callable[..., object], tuple[object, ...]]: ...
    def __repr__(self, /) -> str: ...
    @overload
    def chat(self, messages: Messages, /, **options: float | None) -> Generation: ...
    @overload
    def chat(self, /, messages: Messages, *, thinking: Thinking = "off", tools: Sequence[str] = (), tool_choice: ToolChoice = "required", state: State | None = None, progress: Progress | None = None, **options: Unpack[GenerateOptions]) -> Generation:
        """
        Generates the answer to a conversation, given as messages {"role": …, "content": …} with the roles system, user,
        assistant and tool, in the format of RWKV-7 G1, or of G1h and later if the model's name says so, or in ChatML if its vocabulary has the marks.

        thinking is "off", "on" (and "short", "normal" or "long", which G1c models know), "fake" or "fake-inline" (an
        empty thought, after which models answer better than without one). The pieces are those of the answer; the
        thought is in reasoning. With state_cache of load() the states after turns are kept, so that the next turn of a conversation reads
        its own tokens and the last answer only. tools lists functions by their signatures (see anser.tools). With tool_choice "required"
        the answer is the JSON of a call; with "auto" it is words, or a call that begins with ```json.

        Options (None means the default):

        - max_tokens: the most tokens to generate; default: no limit.
        - stop: a text, or several, that end the generation and are no part of it; default: none.
        - stop_tokens: token ids that end the generation; default: those that end a document, 0 in RWKV's own vocabularies.
        - seed: the same seed, options and prompt give the same text; default: a fresh one.
        - temperature: flattens the distribution above 1 and sharpens it below; 0 takes the most likely token; default: 1.
        - top_k: keeps this many of the most likely tokens; default: 0 = off.
        - top_p: keeps the most likely tokens that together reach this probability; default: 0.3; 1 = off.
        - min_p: keeps the tokens at least this likely relative to the most likely one; default: 0 = off.
        - typical_p: keeps the tokens whose information content is closest to the expected one and that together reach this
          probability; default: 1 = off.
        - presence_penalty: subtracted from the logits of tokens that occurred; default: 0.5, with a grammar 0.
        - frequency_penalty: subtracted from the logits of tokens, times how often they occurred; default: 0.5, with a grammar 0.
        - penalty_decay: multiplies the counts of occurrences at every token; default: 0.996.
        - repetition_penalty: divides the logits of tokens that occurred; default: 1 = off.
        - logit_bias: a dict from token id to a number that is added to its logit; -inf forbids the token.
        - order: "rwkv" applies the temperature after the filters, "common" before them; default: "rwkv".
        - json_schema: the text is JSON that is valid by this JSON schema: a dict, or a str of JSON. Keywords that cannot be followed, such
          as not and uniqueItems, are an error.
        - regex: the text matches this regular expression (of Rust's crate regex) from its beginning to its end.
        - grammar: the text is one of this grammar, in the notation of Lark.

        - lookup: whether the processor proposes tokens that followed the last ones earlier in the prompt or the text, and verifies several in one
          step: the same text in less time, if it repeats much of its prompt; default: False.
        - draft: a smaller Model with the same vocabulary that proposes tokens where lookup proposes none, of which the processor verifies several
          in one step: the same text. It rests where texts would take longer with it; default: None.

          At most one of json_schema, regex and grammar. The generation ends where the text is complete; max_tokens may end it earlier.
        """
    def decode(self, /, ids: Iterable[int], errors: str = "strict") -> str:
        """
        The text of token ids. Ids need not begin and end with whole characters: errors says how to treat bytes that are not
        UTF-8, as in bytes.decode: "strict" raises UnicodeDecodeError, "replace" writes U+FFFD. decode_bytes() returns
        the bytes.
        """
    def decode_bytes(self, /, ids: Iterable[int]) -> bytes:
        """
        The bytes of token ids.
        """
    @property
    def device(self, /) -> str:
        """
        The device that the model runs on, and the reason for it.
        """
    def embed(self, /, texts: Prompt | Iterable[Prompt], pooling: Pooling = "last", layer: int = -1, normalize: bool = False, *, eos_token: int = 65535, progress: Progress | None = None, head: Head | None = None) -> NDArray[float32]:
        """
        Embeddings [n, C] of several texts (or token ids), read side by side: hidden rows of a layer, pooled over each
        text.

        pooling is "last" (the last token's row), "mean" (of all rows) or "eos-mean" (of the rows of eos_token, which
        embedding models are trained to end texts with; it is appended where there is none). layer -1 is the output of
        the final norm, 0 to L-1 the residual stream after that layer. normalize scales rows to length 1. progress is
        called as (texts done, total), or is a bar such as tqdm's.

        An embedding model has heads, which make the embedding of rows pooled by "eos-mean": head is "cls" (classification), "sts" (similarity),
        "retr" (retrieval), or "none" for the pooled row. Without pooling and head, such a model embeds as it was trained: a text gets
        eos_token at the end of every 512 tokens, and the head is "retr"; other models have no heads.
        """
    @property
    def embedding_cache(self, /) -> CacheStats:
        """
        The counts of the cache of embeddings.
        """
    def encode(self, /, text: Text) -> NDArray[uint32]:
        """
        Token ids of text: a str, or bytes of any kind.
        """
    def encode_batch(self, /, texts: Iterable[Text]) -> list[NDArray[uint32]]:
        """
        Token ids of several texts.
        """
    @overload
    def feed_batch(self, /, sessions: Iterable[Session], prompts: Iterable[Prompt], *, logits: Which = "last", hidden: None = None, progress: Progress | None = None) -> list[Fed[NDArray[float32], None]]: ...
    @overload
    def feed_batch(self, /, sessions: Iterable[Session], prompts: Iterable[Prompt], *, logits: Which = "last", hidden: Which, progress: Progress | None = None) -> list[Fed[NDArray[float32], NDArray[float32]]]: ...
    @overload
    def feed_batch(self, /, sessions: Iterable[Session], prompts: Iterable[Prompt], *, logits: None, hidden: None = None, progress: Progress | None = None) -> list[Fed[None, None]]: ...
    @overload
    def feed_batch(self, /, sessions: Iterable[Session], prompts: Iterable[Prompt], *, logits: None, hidden: Which, progress: Progress | None = None) -> list[Fed[None, NDArray[float32]]]: ...
    @overload
    def feed_batch(self, /, sessions: Iterable[Session], prompts: Iterable[Prompt], *, logits: Which | None = "last", hidden: Which | None = None, progress: Progress | None = None) -> list[Fed[NDArray[float32] | None, NDArray[float32] | None]]:
        """
        Reads a text or token ids into each of several sessions of this model, side by side: in far less time than one feed() after the other.
        Returns what Session.feed() returns for each; logits and hidden are those of feed(). prompts has one for each session.

        progress is called as (tokens read, total) of all sessions. An exception in it, or Ctrl-C, ends the call; the sessions then hold
        the tokens that were read until then. BusyError if another call or a generation uses one of the sessions: nothing is read then.
        """
    @property
    def fingerprint(self, /) -> str:
        """
        A name for the model, which is the same for all its file types and quantizations.
        """
    @overload
    def generate(self, prompt: Prompt, /, **options: float | None) -> Generation: ...
    @overload
    def generate(self, /, prompt: Prompt, *, state: State | None = None, progress: Progress | None = None, logprobs: int | None = None, **options: Unpack[GenerateOptions]) -> Generation:
        """
        Generates the text that follows prompt, from a fresh state or from another.

        Calls from several threads or tasks are batched: the model's steps are shared by all that run at the same time. A generation
        with progress takes its own steps. logprobs is the number of most likely tokens to report, in the generation's logprobs, with
        the log-probability of each token; 0 reports the token's own alone.

        Options (None means the default):

        - max_tokens: the most tokens to generate; default: no limit.
        - stop: a text, or several, that end the generation and are no part of it; default: none.
        - stop_tokens: token ids that end the generation; default: those that end a document, 0 in RWKV's own vocabularies.
        - seed: the same seed, options and prompt give the same text; default: a fresh one.
        - temperature: flattens the distribution above 1 and sharpens it below; 0 takes the most likely token; default: 1.
        - top_k: keeps this many of the most likely tokens; default: 0 = off.
        - top_p: keeps the most likely tokens that together reach this probability; default: 0.3; 1 = off.
        - min_p: keeps the tokens at least this likely relative to the most likely one; default: 0 = off.
        - typical_p: keeps the tokens whose information content is closest to the expected one and that together reach this
          probability; default: 1 = off.
        - presence_penalty: subtracted from the logits of tokens that occurred; default: 0.5, with a grammar 0.
        - frequency_penalty: subtracted from the logits of tokens, times how often they occurred; default: 0.5, with a grammar 0.
        - penalty_decay: multiplies the counts of occurrences at every token; default: 0.996.
        - repetition_penalty: divides the logits of tokens that occurred; default: 1 = off.
        - logit_bias: a dict from token id to a number that is added to its logit; -inf forbids the token.
        - order: "rwkv" applies the temperature after the filters, "common" before them; default: "rwkv".
        - json_schema: the text is JSON that is valid by this JSON schema: a dict, or a str of JSON. Keywords that cannot be followed, such
          as not and uniqueItems, are an error.
        - regex: the text matches this regular expression (of Rust's crate regex) from its beginning to its end.
        - grammar: the text is one of this grammar, in the notation of Lark.

        - lookup: whether the processor proposes tokens that followed the last ones earlier in the prompt or the text, and verifies several in one
          step: the same text in less time, if it repeats much of its prompt; default: False.
        - draft: a smaller Model with the same vocabulary that proposes tokens where lookup proposes none, of which the processor verifies several
          in one step: the same text. It rests where texts would take longer with it; default: None.

          At most one of json_schema, regex and grammar. The generation ends where the text is complete; max_tokens may end it earlier.
        """
    @overload
    def generate_batch(self, prompts: Prompt | Iterable[Prompt], /, **options: float | None) -> list[str]: ...
    @overload
    def generate_batch(self, /, prompts: Prompt | Iterable[Prompt], *, state: State | Iterable[State | None] | None = None, progress: Progress | None = None, each: Iterable[GenerateOptions | None] | None = None, **options: Unpack[GenerateOptions]) -> list[str]:
        """
        Generates the text that follows each of several prompts. Returns the texts.

        state is the state from which all begin, or a list with a state or None for each; each is a list with a dict of options or None
        for each prompt, which change those of all. They are generated side by side, 64 at a time, which takes far less time than one after the other, and are those that
        generate() gives for each prompt with these options. progress is called as (texts done, total), or is a bar such as tqdm's; an
        exception in it, or Ctrl-C, ends the call.

        Options (None means the default):

        - max_tokens: the most tokens to generate; default: no limit.
        - stop: a text, or several, that end the generation and are no part of it; default: none.
        - stop_tokens: token ids that end the generation; default: those that end a document, 0 in RWKV's own vocabularies.
        - seed: the same seed, options and prompt give the same text; default: a fresh one.
        - temperature: flattens the distribution above 1 and sharpens it below; 0 takes the most likely token; default: 1.
        - top_k: keeps this many of the most likely tokens; default: 0 = off.
        - top_p: keeps the most likely tokens that together reach this probability; default: 0.3; 1 = off.
        - min_p: keeps the tokens at least this likely relative to the most likely one; default: 0 = off.
        - typical_p: keeps the tokens whose information content is closest to the expected one and that together reach this
          probability; default: 1 = off.
        - presence_penalty: subtracted from the logits of tokens that occurred; default: 0.5, with a grammar 0.
        - frequency_penalty: subtracted from the logits of tokens, times how often they occurred; default: 0.5, with a grammar 0.
        - penalty_decay: multiplies the counts of occurrences at every token; default: 0.996.
        - repetition_penalty: divides the logits of tokens that occurred; default: 1 = off.
        - logit_bias: a dict from token id to a number that is added to its logit; -inf forbids the token.
        - order: "rwkv" applies the temperature after the filters, "common" before them; default: "rwkv".
        - json_schema: the text is JSON that is valid by this JSON schema: a dict, or a str of JSON. Keywords that cannot be followed, such
          as not and uniqueItems, are an error.
        - regex: the text matches this regular expression (of Rust's crate regex) from its beginning to its end.
        - grammar: the text is one of this grammar, in the notation of Lark.

        - lookup: whether the processor proposes tokens that followed the last ones earlier in the prompt or the text, and verifies several in one
          step: the same text in less time, if it repeats much of its prompt; default: False.
        - draft: a smaller Model with the same vocabulary that proposes tokens where lookup proposes none, of which the processor verifies several
          in one step: the same text. It rests where texts would take longer with it; default: None.

          At most one of json_schema, regex and grammar. The generation ends where the text is complete; max_tokens may end it earlier.
        """
    @property
    def head_size(self, /) -> int:
        """
        N, size of a head.
        """
    def import_state(self, /, source: StrPath | ArrayLike) -> State:
        """
        The state that another program made: an array in web-rwkv's layout, [L, N + 2, C] (row 0 the attention's shift,
        row 1 + k key column k of all heads' matrices, row N + 1 the feed-forward layer's shift), or a state-tuned
        safetensors file of web-rwkv's converter (blocks.L.att.time_state), as an initial state.
        """
    def load_state(self, /, path: StrPath) -> State:
        """
        Reads a state of this model that save_state() or Session.save() wrote, or a state-tuned file. A state of
        another file of the model, or of a fine-tune, is taken with a UserWarning.
        """
    def memory(self, /) -> MemoryUse:
        """
        The memory that the model takes now, in bytes.
        """
    @property
    def n_embd(self, /) -> int:
        """
        C, width of the residual stream and of embeddings.
        """
    @property
    def n_ffn(self, /) -> int:
        """
        F, width of the feed-forward layers.
        """
    @property
    def n_head(self, /) -> int:
        """
        H, number of heads.
        """
    @property
    def n_layer(self, /) -> int:
        """
        L, number of layers.
        """
    @property
    def n_vocab(self, /) -> int:
        """
        V, number of tokens.
        """
    @property
    def name(self, /) -> str:
        """
        Name of the file.
        """
    def new_state(self, /) -> State:
        """
        The state before any token: zeros, to be filled by assignment.
        """
    @property
    def ranks(self, /) -> dict[str, int]:
        """
        R, the widths of the low-rank pairs of time mixing, by the value that each makes: w (the decay), a, v and g.
        """
    def save_state(self, /, state: State, path: StrPath) -> None:
        """
        Writes a state to a safetensors file that names this model.
        """
    def score(self, /, text: Prompt, *, state: State | None = None) -> NDArray[float32]:
        """
        The log-probabilities [T] of the tokens of a text (or of token ids), each after those before it: natural logarithms of the
        model's own distribution. That of the first token is NaN from a fresh state, since nothing is before it.
        """
    def session(self, /) -> Session:
        """
        A session with a fresh state.
        """
    def state(self, /, prompt: Prompt, *, progress: Progress | None = None) -> State:
        """
        The state after a text or token ids.
        """
    def states(self, /, texts: Prompt | Iterable[Prompt], *, progress: Progress | None = None) -> list[State]:
        """
        The states after each of several texts (or token ids), which are read side by side: in far less time than one after the other.

        progress is called as (texts done, total), or is a bar such as tqdm's. The calls of other threads and tasks share the steps.
        """
    def with_lora(self, /, lora: StrPath | LoraDict | Sequence[StrPath | LoraDict] | None) -> Model:
        """
        The same model with other adapters, which are given as to load(); None: without any. The other options are those of load().

        On the CPU both models use one mapping of the file, so that the other one takes the memory of its states, its adapters, and the
        matrices into which they are merged; pairs beside quantized matrices take little. On a GPU each has its weights there. Calls
        that are batched take steps in turns with those of the other one, so that threads and tasks may use several adapters at the
        same time. States and sessions are each model's own.
        """

@final
class PrefixCache:
    """
    A bounded cache of states after beginnings of texts, so that what many texts begin with is read once.

    read() keeps the state at the end of each text. When a text shares only a beginning of at least 32 tokens with an earlier one, it also keeps
    the state after that beginning, from which the third such text goes on. A state is used only after exactly the tokens that led to
    it. The states take at most max_bytes bytes, the least recently used ones are dropped first; they lie in main memory, or on the
    model's device if on_device is True, which saves copies. Several threads may use a cache at a time.
    """
    def __new__(cls, /, model: Model, max_bytes: int, *, on_device: bool = False) -> PrefixCache: ...
    def __repr__(self, /) -> str: ...
    def longest(self, /, prompt: Prompt) -> tuple[Session, int]:
        """
        A session that has read the longest beginning of a text or of token ids after which the cache has a state, and the length of that
        beginning in tokens. Nothing is read.
        """
    def read(self, /, prompt: Prompt) -> tuple[Session, int]:
        """
        A session that has read a text or token ids from a fresh state, and the number of tokens that it did not need to read, since the
        cache had the state after them. Ctrl-C ends the call.
        """
    @property
    def stats(self, /) -> CacheStats:
        """
        The counts of the cache.
        """

@final
class Reranker:
    """
    An embedding model with a reranker that was trained with it: it tells how well documents answer a query.

    path is the reranker's file, with tensors reranker.*; device as for load(). The states after documents are kept in main memory, at most
    cache bytes of them, so that the next query reads itself alone. Several threads may use a reranker at a time.
    """
    def __new__(cls, /, model: Model, path: StrPath, *, device: str | None = None, cache: int = 1073741824) -> Reranker: ...
    def __repr__(self, /) -> str: ...
    def rerank(self, /, query: str, documents: Sequence[str], top_n: int | None = None, *, progress: Progress | None = None) -> list[tuple[int, float]]:
        """
        The documents by how well they answer the query, the best one first: pairs of a document's index and its score, from 0 to 1; all, or
        the top_n best ones. Documents are read side by side; the state after each is kept. progress is called as (documents done, total), or
        is a bar such as tqdm's.
        """
    @property
    def stats(self, /) -> CacheStats:
        """
        The counts of the cache of documents' states.
        """

@final
class Session:
    """
    One sequence of tokens and its state.

    Sessions of a model share its weights and nothing else; different threads may run different sessions. While feed() reads
    into a session, or a generation uses it, its methods raise BusyError; other calls wait for each other.
    """
    def __enter__(self, /) -> Session: ...
    def __exit__(self, /, exc_type: type | None, exc_value: BaseException | None, traceback: TracebackType | None) -> None: ...
    def __repr__(self, /) -> str: ...
    def close(self, /) -> None:
        """
        Frees the state. A generation that uses the session goes on, and frees the state at its end.
        """
    @overload
    def feed(self, /, prompt: Prompt, *, logits: Which = "last", hidden: None = None, progress: Progress | None = None) -> Fed[NDArray[float32], None]: ...
    @overload
    def feed(self, /, prompt: Prompt, *, logits: Which = "last", hidden: Which, progress: Progress | None = None) -> Fed[NDArray[float32], NDArray[float32]]: ...
    @overload
    def feed(self, /, prompt: Prompt, *, logits: None, hidden: None = None, progress: Progress | None = None) -> Fed[None, None]: ...
    @overload
    def feed(self, /, prompt: Prompt, *, logits: None, hidden: Which, progress: Progress | None = None) -> Fed[None, NDArray[float32]]: ...
    @overload
    def feed(self, /, prompt: Prompt, *, logits: Which | None = "last", hidden: Which | None = None, progress: Progress | None = None) -> Fed[NDArray[float32] | None, NDArray[float32] | None]:
        """
        Reads a text or token ids, and returns the outputs that are asked for: logits and hidden rows (after the final norm)
        of the "last" token or of "all". Without logits the head is not computed. Afterwards logits() are those of the last
        token, if they were asked for.

        progress is called as (read, total) between chunks, or is a bar such as tqdm's. An exception in it, or Ctrl-C,
        ends the call; the state holds the tokens that were read until then.
        """
    def fork(self, /) -> Session:
        """
        A second session that continues from the same point.
        """
    @overload
    def generate(self, prompt: Prompt | None = None, /, **options: float | None) -> Generation: ...
    @overload
    def generate(self, /, prompt: Prompt | None = None, *, progress: Progress | None = None, **options: Unpack[GenerateOptions]) -> Generation:
        """
        Generates the text that follows prompt; without one, the text that follows the tokens read. The session belongs to the
        generation until that ends or is closed.

        Options (None means the default):

        - max_tokens: the most tokens to generate; default: no limit.
        - stop: a text, or several, that end the generation and are no part of it; default: none.
        - stop_tokens: token ids that end the generation; default: those that end a document, 0 in RWKV's own vocabularies.
        - seed: the same seed, options and prompt give the same text; default: a fresh one.
        - temperature: flattens the distribution above 1 and sharpens it below; 0 takes the most likely token; default: 1.
        - top_k: keeps this many of the most likely tokens; default: 0 = off.
        - top_p: keeps the most likely tokens that together reach this probability; default: 0.3; 1 = off.
        - min_p: keeps the tokens at least this likely relative to the most likely one; default: 0 = off.
        - typical_p: keeps the tokens whose information content is closest to the expected one and that together reach this
          probability; default: 1 = off.
        - presence_penalty: subtracted from the logits of tokens that occurred; default: 0.5, with a grammar 0.
        - frequency_penalty: subtracted from the logits of tokens, times how often they occurred; default: 0.5, with a grammar 0.
        - penalty_decay: multiplies the counts of occurrences at every token; default: 0.996.
        - repetition_penalty: divides the logits of tokens that occurred; default: 1 = off.
        - logit_bias: a dict from token id to a number that is added to its logit; -inf forbids the token.
        - order: "rwkv" applies the temperature after the filters, "common" before them; default: "rwkv".
        - json_schema: the text is JSON that is valid by this JSON schema: a dict, or a str of JSON. Keywords that cannot be followed, such
          as not and uniqueItems, are an error.
        - regex: the text matches this regular expression (of Rust's crate regex) from its beginning to its end.
        - grammar: the text is one of this grammar, in the notation of Lark.

        - lookup: whether the processor proposes tokens that followed the last ones earlier in the prompt or the text, and verifies several in one
          step: the same text in less time, if it repeats much of its prompt; default: False.
        - draft: a smaller Model with the same vocabulary that proposes tokens where lookup proposes none, of which the processor verifies several
          in one step: the same text. It rests where texts would take longer with it; default: None.

          At most one of json_schema, regex and grammar. The generation ends where the text is complete; max_tokens may end it earlier.
        """
    def load(self, /, path: StrPath) -> None:
        """
        Continues from a file that save() wrote, or begins with a state-tuned file as Model.import_state() reads it.
        A state of another file of the model, or of a fine-tune, is taken with a UserWarning.
        """
    def logits(self, /) -> NDArray[float32]:
        """
        Logits [V] of the token that follows; empty until tokens have been read for them.
        """
    @property
    def model(self, /) -> Model:
        """
        The model.
        """
    @property
    def n_tokens(self, /) -> int:
        """
        Tokens read since the fresh or restored state.
        """
    def reset(self, /) -> None:
        """
        Returns to a fresh state.
        """
    def restore(self, /, state: State) -> None:
        """
        Continues from state. The session has no logits until it has read a token.
        """
    def save(self, /, path: StrPath) -> None:
        """
        Writes the state, and the last logits if they are known, to a safetensors file that names this model.
        """
    def state(self, /) -> State:
        """
        A copy of the state, which Python owns.
        """

@final
class State:
    """
    The state of a model after the tokens that it has read, as one float32 buffer.

    att_shift [L, C], wkv [L, H, N, N] (layer, head, value row, key column) and ffn_shift [L, C] are views of the buffer:
    writing to them changes the state, and assigning to them copies into the buffer. A state can be pickled and copied.
    """
    def __new__(cls, /, model: str, fingerprint: str, parts: list[tuple[str, list[int]]], buffer: NDArray[float32]) -> State:
        """
        A state from the values that pickling writes: name and fingerprint of the model, names and shapes of the parts, the buffer.
        """
    def __reduce__(self, /) -> tuple[type[State], tuple[str, str, list[tuple[str, list[int]]], NDArray[float32]]]: ...
    def __repr__(self, /) -> str: ...
    @property
    def att_shift(self, /) -> NDArray[float32]:
        """
        Normalised input of the last token's time mixing, [L, C].
        """
    @att_shift.setter
    def att_shift(self, /, values: ArrayLike) -> None: ...
    @property
    def buffer(self, /) -> NDArray[float32]:
        """
        All numbers, in one dimension.
        """
    def copy(self, /) -> State:
        """
        A state with a buffer of its own.
        """
    @property
    def ffn_shift(self, /) -> NDArray[float32]:
        """
        Normalised input of the last token's channel mixing, [L, C].
        """
    @ffn_shift.setter
    def ffn_shift(self, /, values: ArrayLike) -> None: ...
    @property
    def fingerprint(self, /) -> str:
        """
        A name for the model, which is the same for all its file types and quantizations.
        """
    @property
    def model(self, /) -> str:
        """
        The name of the model's kind, e.g. "rwkv7 6x256".
        """
    @property
    def wkv(self, /) -> NDArray[float32]:
        """
        The matrices, [L, H, N, N]: layer, head, value row, key column.
        """
    @wkv.setter
    def wkv(self, /, values: ArrayLike) -> None: ...

@final
class Tokenizer:
    """
    Encodes text as token ids by greedy longest match, and decodes them.

    Without a path it is the RWKV World tokenizer; a path names a file like rwkv_vocab_v20230424.txt, or a
    vocabulary in JSON as web-rwkv reads it. Model.encode() and
    Model.decode() use the model's own. A tokenizer can be pickled; one of a file is opened again by its path, once in a process.
    """
    def __new__(cls, /, path: StrPath | None = None) -> Tokenizer: ...
    def __reduce__(self, /) -> tuple[Callable[..., object], tuple[object, ...]]: ...
    def __repr__(self, /) -> str: ...
    def decode(self, /, ids: Iterable[int], errors: str = "strict") -> str:
        """
        The text of token ids. Ids need not begin and end with whole characters: errors says how to treat bytes that are not
        UTF-8, as in bytes.decode: "strict" raises UnicodeDecodeError, "replace" writes U+FFFD. decode_bytes() returns
        the bytes.
        """
    def decode_bytes(self, /, ids: Iterable[int]) -> bytes:
        """
        The bytes of token ids.
        """
    def encode(self, /, text: Text) -> NDArray[uint32]:
        """
        Token ids of text: a str, or bytes of any kind.
        """
    @staticmethod
    def from_tokens(tokens: Iterable[bytes | None]) -> Tokenizer:
        """
        A tokenizer for tokens in the order of their ids; None is an id without text.
        """
    @property
    def n_vocab(self, /) -> int:
        """
        V, number of ids.
        """

def load(path: StrPath | None = None, device: str | None = None, gpu_memory: int | None = None, progress: Progress | None = None, *, threads: int | None = None, vocabulary: StrPath | None = None, embedding_cache: int = 0, exact: bool | None = None, read_file: bool | None = None, cache_folder: StrPath | None = None, state_cache: int = 0, lora: StrPath | LoraDict | Sequence[StrPath | LoraDict] | None = None) -> Model:
    """
    Opens a GGUF, safetensors or .pth file, or a folder of Hugging Face's; without a path, the demo model that is part of the package.

    - path: the file, or the name of a model on a hub, hf:OWNER/REPO[:FILE][@REVISION]: it is downloaded to the cache of Hugging
      Face's own tools unless it is there, resumed after a break (HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are followed);
      the logger "anser" tells which file was taken; default: the demo model.
    - device: "auto" (the best hardware GPU if there is one, else the processor; weights that do not fit in the GPU's memory
      stream from the file), "cpu", "gpu", or "gpu:1" or "gpu:NAME" for one of several; default: the environment variable
      ANSER_DEVICE, else "auto".
    - gpu_memory: the most bytes of weights that are kept on the GPU; other weights stream from the file in every step, with
      the same results; default: ANSER_GPU_MEMORY (a number like 500M or 4G), else all of the GPU's memory.
    - progress: called as (done, total) in bytes of weights, before that of each file that is downloaded, or a bar such as tqdm's. With it, load() returns when all
      weights are there; without it as soon as the model can be used, and a call waits for the weights that it needs.
    - threads: the number of threads on the CPU; default: ANSER_THREADS, else OMP_NUM_THREADS, else one per core.
    - vocabulary: a file like rwkv_vocab_v20230424.txt, or one in JSON as web-rwkv reads it, used instead of the model's own
      vocabulary.
    - lora: an adapter (LoRA, PiSSA, Bone) that the model has, or a list of them: a file or folder, or a dict of path, and scale,
      alpha, init and form where they are needed, such as {"path": "lora.pth", "alpha": 32}; default: none.
    - embedding_cache: the bytes of embeddings to cache, so that a text embedded again is not read again; default: 0.
    - exact: whether activations keep 32 bits: slower, and as close to the model's formulas as floats are; default:
      ANSER_EXACT, else False.
    - read_file: whether to read the file into memory instead of mapping it, for files on a network or that other programs
      write; it takes as much memory as the file has bytes; default: ANSER_READ_FILE, else False.
    - state_cache: the bytes of states after turns of chats that are kept in main memory, so that the next turn of a conversation does not
      read the ones before it again; default: 0.
    - cache_folder: a folder of your own for compiled GPU kernels, with which the next process starts faster; default: none
      are kept.

    An empty environment variable counts as unset. ANSER_GPU_NO_F16=1, ANSER_GPU_NO_SUBGROUPS=1, ANSER_GPU_NO_COOPMAT=1 and
    ANSER_GPU_NO_DRAWING=1 each turn a feature of GPUs off.

    A process that was forked after load() cannot use the model (DeviceError): call load() in the child.
    """

def run_command(arguments: Sequence[str], /) -> int:
    """
    Runs the command anser with these arguments, of which the first is the name of the program, and returns its exit code. Results are written
    to the process's standard output, and Ctrl-C is the command's from now on: this is for a process that does nothing else.
    """
