"""A smallest valid instance of any message, made from its type alone."""

from typing import Annotated

import msgspec
from msgspec import inspect

from wire.message import Message

# What satisfies each pattern of the contracts.
_WORDS = ("a", "AA", "U" + "A" * 55, "0" * 64)


def sample(kind: type[Message]) -> Message:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    fields = {field.encode_name: _value(field.type) for field in described.fields if field.required}
    return msgspec.convert({**fields, "type": described.tag, "id": "cause/outcome", "at": 1}, kind)


def _value(kind: inspect.Type) -> object:
    match kind:
        case inspect.Metadata():
            return _value(kind.type)
        case inspect.StructType():
            return {field.encode_name: _value(field.type) for field in kind.fields if field.required}
        case inspect.IntType():
            return kind.ge or 0
        case inspect.StrType():
            return next(word for word in _WORDS if kind.pattern is None or _fits(word, kind.pattern))
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.EnumType():
            return next(iter(kind.cls)).value
        case inspect.BoolType():
            return True
        case inspect.VarTupleType():
            return [_value(kind.item_type)]
        case inspect.UnionType():
            return _value(kind.types[0])
        case inspect.DictType():
            return {}
        case _:
            raise NotImplementedError(kind)


def _fits(word: str, pattern: str) -> bool:
    try:
        msgspec.convert(word, Annotated[str, msgspec.Meta(pattern=pattern)])
    except msgspec.ValidationError:
        return False
    return True
