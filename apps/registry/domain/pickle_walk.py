"""Reading a pickle's instructions with ``pickletools``' table, never carrying one out.

Just enough of the unpickler's stack and memo is kept to know the two texts that STACK_GLOBAL takes, and the state that
joblib gives to the wrapper of an array.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from apps.registry.domain.joblib_arrays import WRAPPERS, raw_array_bytes
from apps.registry.domain.pickle_read import MARK, OPAQUE, Arguments, Global, Made, Malformed, Seen

MAX_DEPTH = 3
_BY_CODE = {ord(info.code): info for info in pickletools.opcodes}
_TUPLE_LIMIT = 64


class Walker(Arguments):
    """One pickle: ``walk`` is true after its STOP, false when nothing was there or the budget ended."""

    def __init__(self, stream: BinaryIO, seen: Seen, *, raw: bool, depth: int) -> None:
        super().__init__(stream)
        self._seen, self._raw, self._depth = seen, raw, depth
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.runs = 0

    def walk(self) -> bool:
        first = True
        while True:
            code = self._stream.read(1)
            if not code:
                if first:
                    return False
                raise Malformed("it ends in the middle")
            first = False
            if self._seen.budget <= 0:
                self._seen.cannot_tell("It has more instructions than are looked at.")
                return False
            self._seen.budget -= 1
            info = _BY_CODE.get(code[0])
            if info is None:
                raise Malformed(f"byte {code[0]:#04x} is no instruction")
            if info.name == "STOP":
                return True
            self._step(info, self.argument(info))

    def look_inside(self, data: bytes) -> None:
        if len(data) < 4 or data[0] != 0x80 or not 2 <= data[1] <= 5:
            return
        if self._depth >= MAX_DEPTH:
            self._seen.cannot_tell(f"Pickles are nested deeper than {MAX_DEPTH}.")
            return
        inner = Walker(io.BytesIO(data), self._seen, raw=False, depth=self._depth + 1)
        try:
            inner.walk()
        except Malformed:
            if inner.runs:
                self._seen.cannot_tell("A pickle inside it cannot be read to its end.")

    # --- the stack ---------------------------------------------------------------------------------------------
    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is MARK:
            raise Malformed("it takes from an empty stack")
        return self._stack.pop()

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while True:
            if not self._stack:
                raise Malformed("a mark is missing")
            item = self._stack.pop()
            if item is MARK:
                return items[::-1]
            items.append(item)

    def _step(self, info: pickletools.OpcodeInfo, argument: Any) -> None:
        special = _SPECIAL.get(info.name)
        if special is not None:
            special(self, argument)
            return
        before = list(info.stack_before)
        if pickletools.markobject in before:
            self._to_mark()
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._pop()
        if info.name == "NONE":
            self._stack.append(None)
            return
        keep = argument if info.arg is not None and len(info.stack_after) == 1 and not before else OPAQUE
        self._stack.extend(keep for _ in info.stack_after)

    def _proto(self, argument: Any) -> None:
        self._seen.protocol = max(self._seen.protocol, int(argument))

    def _mark(self, _: Any) -> None:
        self._stack.append(MARK)

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is MARK:
            raise Malformed("it looks at an empty stack")
        return self._stack[-1]

    def _put(self, argument: Any) -> None:
        self._memo[int(argument)] = self._top()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, argument: Any) -> None:
        if argument not in self._memo:
            raise Malformed("it asks the memo for what is not there")
        self._stack.append(self._memo[argument])

    def _dup(self, _: Any) -> None:
        self._stack.append(self._top())

    def _pop_one(self, _: Any) -> None:
        if not self._stack:
            raise Malformed("it takes from an empty stack")
        self._stack.pop()  # POP may take a mark

    def _global(self, argument: Any) -> None:
        self._stack.append(self._seen.add(str(argument)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if isinstance(name, str) and isinstance(module, str):
            self._stack.append(self._seen.add(f"{module}.{name}"))
            return
        self._seen.cannot_tell("A name that it imports is computed, so it cannot be told.")
        self._stack.append(self._seen.add("?"))

    def _inst(self, argument: Any) -> None:
        self._to_mark()
        self._call(self._seen.add(str(argument)), OPAQUE)

    def _obj(self, _: Any) -> None:
        items = self._to_mark()
        if not items:
            raise Malformed("it makes an object of nothing")
        self._call(items[0], tuple(items[1:]))

    def _reduce(self, _: Any) -> None:
        args = self._pop()
        self._call(self._pop(), args)

    def _newobj_ex(self, _: Any) -> None:
        self._pop()
        self._reduce(None)

    def _call(self, what: Any, args: Any) -> None:
        self.runs += 1
        self._seen.runs += 1
        self._stack.append(Made(what, args))

    def _build(self, _: Any) -> None:
        state = self._pop()
        made = self._top()
        self.runs += 1
        self._seen.runs += 1
        if isinstance(made, Made):
            made.state = state
            if isinstance(made.what, Global) and made.what.name in WRAPPERS:
                self._raw_array(made)

    def _raw_array(self, made: Made) -> None:
        self._seen.has_raw_arrays = True
        if not self._raw:
            return
        size = raw_array_bytes(made.state, Made, Global)
        if size is None:
            self._seen.cannot_tell("It holds an array whose size cannot be told.")
            raise Malformed("an array of unknown size follows")
        if size < 0:  # an array of objects: a pickle of its own follows
            if self._depth >= MAX_DEPTH:
                raise Malformed(f"pickles are nested deeper than {MAX_DEPTH}")
            Walker(self._stream, self._seen, raw=True, depth=self._depth + 1).walk()
            return
        if isinstance(made.state, dict) and made.state.get("numpy_array_alignment_bytes") is not None:
            self.skip(self.take(1)[0])
        self.skip(size)

    def _ext(self, _: Any) -> None:
        self._seen.cannot_tell("It uses a code of the extension registry, so what it imports cannot be told.")
        self._stack.append(self._seen.add("?"))

    def _tuple(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items) if len(items) <= _TUPLE_LIMIT else OPAQUE)

    def _frame(self, _: Any) -> None:
        """Where a frame ends changes nothing for a reader in order."""

    def _few(self, count: int) -> None:
        items = [self._pop() for _ in range(count)][::-1]
        self._stack.append(tuple(items))

    def _dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(self._filled({}, items))

    def _empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._filled(self._top(), [key, value])

    def _setitems(self, _: Any) -> None:
        items = self._to_mark()
        self._filled(self._top(), items)

    @staticmethod
    def _filled(target: Any, items: list[Any]) -> Any:
        if isinstance(target, dict) and len(target) < _TUPLE_LIMIT:
            for key, value in zip(items[::2], items[1::2], strict=False):
                if isinstance(key, str):
                    target[key] = value
        return target


def _tuple_of(count: int) -> Callable[[Walker, Any], None]:
    return lambda walker, _: walker._few(count)


_SPECIAL: dict[str, Callable[[Walker, Any], None]] = {
    "PROTO": Walker._proto,
    "FRAME": Walker._frame,
    "MARK": Walker._mark,
    "PUT": Walker._put,
    "BINPUT": Walker._put,
    "LONG_BINPUT": Walker._put,
    "MEMOIZE": Walker._memoize,
    "GET": Walker._get,
    "BINGET": Walker._get,
    "LONG_BINGET": Walker._get,
    "DUP": Walker._dup,
    "POP": Walker._pop_one,
    "GLOBAL": Walker._global,
    "STACK_GLOBAL": Walker._stack_global,
    "INST": Walker._inst,
    "OBJ": Walker._obj,
    "REDUCE": Walker._reduce,
    "NEWOBJ": Walker._reduce,
    "NEWOBJ_EX": Walker._newobj_ex,
    "BUILD": Walker._build,
    "EXT1": Walker._ext,
    "EXT2": Walker._ext,
    "EXT4": Walker._ext,
    "TUPLE": Walker._tuple,
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": Walker._dict,
    "EMPTY_DICT": Walker._empty_dict,
    "SETITEM": Walker._setitem,
    "SETITEMS": Walker._setitems,
}
