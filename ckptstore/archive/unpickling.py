"""Read the pickle of an archive without running anything.

A small interpreter of the opcodes that `pickling` writes, in Python on purpose: pickle.Unpickler sizes its memo
by an index in the file (64 GiB for one opcode), and lets a BUILD reach the attributes of whatever lies on the
stack. Nothing is imported or looked up by a name from the file: `rebuilding` has the closed table of names.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from ckptstore.archive.rebuilding import Builder
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat

__all__ = ["unpickled"]


def unpickled(data: bytes, sizes: Mapping[str, int], tensor: Callable[[TensorRef], Any]) -> Any:
    """Return the state that a pickle describes.

    Args:
        data: the pickle.
        sizes: the size in bytes of each record.
        tensor: called for each tensor, after its bounds were checked; what it returns stands in the state.

    Raises:
        UnsupportedFormat: it asks for something other than tensors and plain data; nothing is executed.
        CorruptCheckpoint: it makes no sense, or a tensor reaches outside its record.
    """
    try:
        return _Machine(data, Builder(sizes, tensor)).run()
    except CorruptCheckpoint:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, struct.error, RuntimeError) as error:
        raise CorruptCheckpoint(f"its metadata cannot be read ({type(error).__name__}: {error})") from None


class _Machine:
    def __init__(self, data: bytes, builder: Builder) -> None:
        self._data = data
        self._position = 0
        self._builder = builder
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self._take_byte()) != _STOP:
            act = _ACTS[code]
            if act is None:
                raise UnsupportedFormat(
                    f"its metadata uses pickle opcode {bytes((code,))!r}, which is never executed"
                )
            act(self)
        (state,) = self._stack
        return self._builder.finished(state)

    def _take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise CorruptCheckpoint("its metadata ends too early")
        return self._data[start : self._position]

    def _take_byte(self) -> int:
        value = self._data[self._position]
        self._position += 1
        return value

    def _take_int(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _take_line(self) -> str:
        stop = self._data.index(b"\n", self._position)
        line = self._take(stop - self._position)
        self._position += 1
        return line.decode("ascii")

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def tuple_of(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) != count:
            raise CorruptCheckpoint("its metadata takes more from its stack than there is")
        self._stack[-count:] = [items]

    def proto(self) -> None:
        if (protocol := self._take_byte()) != 2:
            raise UnsupportedFormat(f"its metadata is a pickle of protocol {protocol}, not 2")

    def mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def put(self) -> None:
        self._memo[self._take_byte()] = self._stack[-1]

    def long_put(self) -> None:
        self._memo[self._take_int(4)] = self._stack[-1]

    def get(self) -> None:
        self._stack.append(self._memo[self._take_byte()])

    def long_get(self) -> None:
        self._stack.append(self._memo[self._take_int(4)])

    def small_int(self) -> None:
        self._stack.append(self._take_byte())

    def short_int(self) -> None:
        self._stack.append(self._take_int(2))

    def plain_int(self) -> None:
        self._stack.append(int.from_bytes(self._take(4), "little", signed=True))

    def long_int(self) -> None:
        self._stack.append(pickle.decode_long(self._take(self._take_byte())))

    def real(self) -> None:
        self._stack.append(struct.unpack(">d", self._take(8))[0])

    def text(self) -> None:
        self._stack.append(self._take(self._take_int(4)).decode("utf-8", "surrogatepass"))

    def empty_list(self) -> None:
        self._stack.append([])

    def empty_dict(self) -> None:
        self._stack.append({})

    def tuple_of_marked(self) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def append_items(self) -> None:
        items = self._pop_mark()
        self._target(list).extend(items)

    def set_items(self) -> None:
        items = self._pop_mark()
        self._target(dict, OrderedDict).update(zip(items[::2], items[1::2], strict=True))

    def build(self) -> None:
        attributes = self._stack.pop()
        if type(attributes) is not dict or not all(type(name) is str for name in attributes):
            raise CorruptCheckpoint("its metadata sets attributes that are none")
        vars(self._target(OrderedDict)).update(attributes)

    def name(self) -> None:
        self._stack.append(self._builder.named(f"{self._take_line()} {self._take_line()}"))

    def call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._builder.call(function, arguments))

    def storage(self) -> None:
        self._stack.append(self._builder.storage(self._stack.pop()))

    def _target(self, *kinds: type) -> Any:
        if type(self._stack[-1]) not in kinds:
            raise CorruptCheckpoint(
                f"its metadata fills a {type(self._stack[-1]).__name__} as if it were another kind"
            )
        return self._stack[-1]


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.tuple_of(count)


_STOP = pickle.STOP[0]

_BY_OPCODE: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _Machine.proto,
    pickle.MARK: _Machine.mark,
    pickle.BINPUT: _Machine.put,
    pickle.LONG_BINPUT: _Machine.long_put,
    pickle.BINGET: _Machine.get,
    pickle.LONG_BINGET: _Machine.long_get,
    pickle.NONE: _push(None),
    pickle.NEWTRUE: _push(value=True),
    pickle.NEWFALSE: _push(value=False),
    pickle.BININT1: _Machine.small_int,
    pickle.BININT2: _Machine.short_int,
    pickle.BININT: _Machine.plain_int,
    pickle.LONG1: _Machine.long_int,
    pickle.BINFLOAT: _Machine.real,
    pickle.BINUNICODE: _Machine.text,
    pickle.EMPTY_TUPLE: _push(()),
    pickle.EMPTY_LIST: _Machine.empty_list,
    pickle.EMPTY_DICT: _Machine.empty_dict,
    pickle.TUPLE: _Machine.tuple_of_marked,
    pickle.TUPLE1: _tuple_of(1),
    pickle.TUPLE2: _tuple_of(2),
    pickle.TUPLE3: _tuple_of(3),
    pickle.APPENDS: _Machine.append_items,
    pickle.SETITEMS: _Machine.set_items,
    pickle.BUILD: _Machine.build,
    pickle.GLOBAL: _Machine.name,
    pickle.REDUCE: _Machine.call,
    pickle.BINPERSID: _Machine.storage,
}

_ACTS = [_BY_OPCODE.get(bytes((code,))) for code in range(256)]
