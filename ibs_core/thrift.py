"""Thrift's compact protocol, as far as the metadata of a Parquet file needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

__all__ = ["Int32", "Value", "first_number", "number", "struct", "varint"]


class Int32(int):
    """A number that the schema declares as i32; plain integers are i64."""


Value: TypeAlias = Union[bool, Int32, int, bytes, "Mapping[int, Value]", "Sequence[Value]"]
_TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 5, 6, 8, 9, 12
_SHORT_LIST = 15


def struct(fields: Mapping[int, Value]) -> bytes:
    """Encode a struct.

    Parameters
    ----------
    fields : Mapping of int to Value
        Values by field id, ids increasing by no more than 15.

    Returns
    -------
    bytes
    """
    out = bytearray()
    last = 0
    for number, value in fields.items():
        out.append(number - last << 4 | _kind(value))
        last = number
        if not isinstance(value, bool):  # which is told by the kind alone
            out += _body(value)
    return bytes(out + b"\0")


def varint(value: int) -> bytes:
    """Encode a number, seven bits a byte.

    Parameters
    ----------
    value : int, >= 0

    Returns
    -------
    bytes
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def first_number(data: bytes, field: int) -> int:
    """Return an integer field of a struct; what comes after it is not looked at.

    Parameters
    ----------
    data : bytes
        Begins with the struct, which holds the field.
    field : int

    Returns
    -------
    int
    """
    at, found = 0, 0
    while True:
        kind, found = data[at] & 15, found + (data[at] >> 4)
        if found == field:
            zigzag = number(data, at + 1)[0]
            return zigzag >> 1 ^ -(zigzag & 1)
        at = _skip(data, at + 1, kind)


def number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number that `varint` wrote.

    Parameters
    ----------
    data : bytes
    at : int
        Where it begins.

    Returns
    -------
    int
    int
        Where it ended.
    """
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def _skip(data: bytes, at: int, kind: int) -> int:
    if kind in (_TRUE, _FALSE):
        return at
    if kind == _BINARY:
        length, at = number(data, at)
        return at + length
    if kind == _LIST:
        length, kind = data[at] >> 4, data[at] & 15
        at += 1
        if length == _SHORT_LIST:
            length, at = number(data, at)
        for _ in range(length):
            at = _skip(data, at, kind)
        return at
    if kind == _STRUCT:
        while data[at]:
            at = _skip(data, at + 1, data[at] & 15)
        return at + 1
    return number(data, at)[1]


def _kind(value: Value) -> int:
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        return _I32 if isinstance(value, Int32) else _I64
    if isinstance(value, bytes):
        return _BINARY
    return _STRUCT if isinstance(value, Mapping) else _LIST


def _body(value: Value) -> bytes:
    if isinstance(value, int):
        return varint(value << 1 ^ value >> 63)
    if isinstance(value, bytes):
        return varint(len(value)) + value
    if isinstance(value, Mapping):
        return struct(value)
    kind = _kind(value[0]) if value else _STRUCT
    short = len(value) < _SHORT_LIST
    head = bytes([len(value) << 4 | kind]) if short else bytes([240 | kind]) + varint(len(value))
    return head + b"".join(map(_body, value))
