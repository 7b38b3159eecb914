"""Functions that a model may call: how it is told of them, what makes its answer a valid call, and what reads the call.

A function is a JSON schema as OpenAI's API has it: {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}},
or what is in its "function".

>>> add = {"name": "add", "description": "The sum.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
>>> signature(add)
'add(a: int): The sum.'
>>> CallReader(["add"]).read('```json\\n{"name": "add", "arguments": {"a": 1}}\\n```')
('', [Call(name='add', arguments={'a': 1})])

A call that the model must make is `model.chat(messages, tools=[signature(add)], json_schema=call_schema([add]))`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from ._types import Message

Function = Mapping[str, Any]
"""A function as a JSON schema."""

Choice = Union[str, bool, Mapping[str, Any], None]
"""Which functions the model may call: see choose()."""

FENCE = "```json"
"""What a call begins with in an answer that might also be words."""

MAX_CALLS = 16
"""The most calls of one answer."""

_KINDS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}
# Where one of these stands, the properties of an object are named in several places, so that none of these may forbid further ones.
_ADDS_UP = {"allOf", "if", "dependentSchemas", "dependencies", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
_NAMED_SCHEMAS = {"properties", "patternProperties", "$defs", "definitions"}
_DATA = {"const", "enum", "default", "examples"}


class Call(NamedTuple):
    """A call of a function."""

    name: str
    arguments: "dict[str, Any]"


def signature(function: Function) -> str:
    """The function in one line, which Model.chat(tools=[...]) takes: `add(a: int, b: int): The sum.`"""
    function = _inner(function)
    properties = (function.get("parameters") or {}).get("properties") or {}
    arguments = ", ".join(f"{name}: {_kind(schema)}" for name, schema in properties.items())
    call = f"{function['name']}({arguments})"
    description = (function.get("description") or "").strip()
    return f"{call}: {description}" if description else call


def call_schema(functions: Iterable[Function], parallel: bool = False) -> "dict[str, Any]":
    """The JSON schema of a call of one of the functions: {"name": ..., "arguments": {...}}; with parallel, also of a list of 1 to 16 calls."""
    calls, definitions = [], {}
    for index, function in enumerate(map(_inner, functions)):
        place = f"tool_{index}"
        parameters = closed(function.get("parameters") or {"properties": {}})
        parameters = {key: value for key, value in parameters.items() if key not in ("$schema", "$id")}
        definitions[place] = {"type": "object", **_moved(parameters, f"#/$defs/{place}")}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{place}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    if not calls:
        raise ValueError("functions: expected at least one, found none")
    definitions["call"] = {"anyOf": calls}
    one = {"$ref": "#/$defs/call"}
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_CALLS}
    return {"anyOf": [one, several] if parallel else [one], "$defs": definitions}


def closed(schema: Mapping[str, Any]) -> "dict[str, Any]":
    """The schema with further properties forbidden in objects that name some and say nothing of others: small models add properties without
    end where they may. What follows it is valid by the given schema. Schemas that add up parts, as by allOf, are returned as they are."""
    return dict(schema) if _has_any(schema, _ADDS_UP) else _closed(dict(schema))


def choose(functions: Sequence[Function], choice: Choice) -> "tuple[list[Function], bool]":
    """The functions that the model may call, and whether it must call one.

    choice is "auto", None or False (a call or words), "any", "required" or True (a call), "none" (words), or the name of the function that
    must be called, also in a dict as OpenAI's API has it.
    """
    if choice is None or choice is False or choice == "auto":
        return list(functions), False
    if choice == "none":
        return [], False
    if choice is True or choice in ("any", "required"):
        if not functions:
            raise ValueError("tool_choice: a call is required, but there are no tools")
        return list(functions), True
    wanted = choice.get("function", choice).get("name") if isinstance(choice, Mapping) else choice
    named = [function for function in functions if name(function) == wanted]
    if not named:
        raise ValueError(f"tool_choice: expected auto, any, none or the name of a tool, found {choice!r}")
    return named, True


class CallReader:
    """Reads an answer while it comes: gives its words, and at its end its calls.

    names are those of the functions that may be called. must_call says that the answer is the JSON of a call, and no words. An answer that
    looks like a call and is none, since it was cut or names another function, is words.
    """

    def __init__(self, names: Iterable[str], must_call: bool = False) -> None:
        self._names = set(names)
        self._must_call = must_call
        self._is_words = not self._names
        self._held = ""

    def push(self, piece: str) -> str:
        """Takes a piece of the answer and gives the words to show: none while it may be a call."""
        if self._is_words:
            return piece
        self._held += piece
        begins_call = self._held.startswith(FENCE) or FENCE.startswith(self._held)
        if self._must_call or begins_call:
            return ""
        self._is_words = True
        return self._held

    def finish(self) -> "tuple[str, list[Call]]":
        """The words that are left at the end of the answer, and its calls."""
        held, self._held = ("" if self._is_words else self._held), ""
        calls = self._calls(held)
        return ("" if calls else held), calls

    def read(self, answer: str) -> "tuple[str, list[Call]]":
        """The words and the calls of a whole answer."""
        words = self.push(answer)
        rest, calls = self.finish()
        return words + rest, calls

    def _calls(self, text: str) -> "list[Call]":
        text = text[len(FENCE) :] if text.startswith(FENCE) else text
        try:
            found, _ = json.JSONDecoder().raw_decode(text.strip())
        except ValueError:
            return []
        entries = found if isinstance(found, list) else [found]
        return [Call(entry["name"], entry["arguments"]) for entry in entries] if all(map(self._is_call, entries)) else []

    def _is_call(self, entry: object) -> bool:
        return isinstance(entry, dict) and entry.get("name") in self._names and isinstance(entry.get("arguments"), dict)


def called(text: str, calls: Sequence[Call]) -> Message:
    """The turn of the model that has called functions, for a conversation that goes on; text is what it said before the calls."""
    written = [json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) for call in calls]
    if not written:
        return {"role": "assistant", "content": text}
    fenced = f"{FENCE}\n{written[0] if len(written) == 1 else '[' + ', '.join(written) + ']'}\n```"
    return {"role": "assistant", "content": f"{text.strip()}\n{fenced}" if text.strip() else fenced}


def name(function: Function) -> str:
    """The function's name."""
    return str(_inner(function)["name"])


def _inner(function: Function) -> Function:
    inner = function.get("function", function)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise ValueError(f"function: expected a dict with a name, found {function!r}")
    return inner


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of an argument in the words of Python, which models know from their training."""
    values = schema.get("enum")
    if values and len(values) <= 16:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    kind = schema.get("type")
    return _KINDS.get(kind, "any") if isinstance(kind, str) else "any"


def _has_any(value: object, keys: "set[str]") -> bool:
    if isinstance(value, Mapping):
        return any(key in keys or _has_any(member, keys) for key, member in value.items())
    return isinstance(value, list) and any(_has_any(item, keys) for item in value)


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    closed = {key: _closed_member(key, member) for key, member in value.items()}
    says_more = {"additionalProperties", "patternProperties", "$ref", "anyOf", "oneOf"} & set(closed)
    if isinstance(closed.get("properties"), dict) and not says_more:
        closed["additionalProperties"] = False
    return closed


def _closed_member(key: str, member: Any) -> Any:
    if key in _DATA:
        return member
    if key in _NAMED_SCHEMAS and isinstance(member, Mapping):
        # The names in here are the caller's, whatever they are.
        return {name: _closed(schema) for name, schema in member.items()}
    return _closed(member)


def _moved(value: Any, place: str) -> Any:
    """The schema with its references made ones to a larger schema, where it lies at place."""
    if isinstance(value, list):
        return [_moved(item, place) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: place + member[1:]
        if key == "$ref" and isinstance(member, str) and member.startswith("#")
        else _moved(member, place)
        for key, member in value.items()
    }
