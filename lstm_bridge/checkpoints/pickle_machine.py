"""A pickle interpreter that imports nothing, calls nothing and stops in time.

Built-in containers become themselves. A global becomes a ``Global`` (its name); calling one gives
what a listed reducer makes of the arguments, else an ``Opaque`` that keeps class, arguments and
state without meaning. Every opcode is counted, so memory and time are bounded by the budget.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import quote

MAX_OPCODES = 1_000_000
_MAX_INT_BITS = 8 * 64


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something importable. It is never imported."""

    name: str


@dataclass(eq=False, slots=True)
class Opaque:
    """What an unlisted global would have made.

    Args:
        maker: the class or function.
        args: what it was called with.
        state: what BUILD gave it.
        items: what was appended or added to it.
        entries: what was set on it by key.
    """

    maker: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class OddKey:
    """A dict key that is no plain scalar; compared by identity, so hashing cannot be abused."""

    value: Any


Reducer = Callable[..., Any]
_PLAIN_KEYS: Final = (str, bytes, int, float, bool, type(None))
_BUFFER_OPS = {"NEXT_BUFFER", "READONLY_BUFFER"}
_EXTENSION_OPS = {"EXT1", "EXT2", "EXT4", "INST", "OBJ"}


class PickleMachine:
    """Runs one pickle.

    Args:
        place: what error messages name.
        reducers: full global name → what to make of its arguments; the only calls there are.
        persistent: what to make of a persistent id.
    """

    def __init__(
        self, place: Place, reducers: Mapping[str, Reducer], persistent: Callable[[Any], Any]
    ) -> None:
        self._place, self._reducers, self._persistent = place, reducers, persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """Return the object of the pickle that starts at the stream's position.

        Raises:
            ContainerError: for a damaged pickle, a forbidden opcode or an exceeded budget.
        """
        with self._place.guarded("a pickle"):
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count >= MAX_OPCODES:
                    raise self._bad(f"at most {MAX_OPCODES} pickle opcodes", "more")
                if opcode.name == "STOP":
                    break
                self._step(opcode.name, argument)
        if len(self._stack) != 1 or self._marks:
            raise self._bad("one object when the pickle stops", f"{len(self._stack)}")
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, argument)
        elif name in _EXTENSION_OPS or name in _BUFFER_OPS or name == "PERSID":
            raise self._bad("the opcodes that torch.save writes", f"opcode {name}")
        elif name not in ("PROTO", "FRAME"):
            self._push(argument)

    def _bad(self, expected: str, got: str) -> Exception:
        return self._place.container(expected, got)

    # -- the stack ------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        if type(value) is int and value.bit_length() > _MAX_INT_BITS:
            raise self._bad(f"integers of at most {_MAX_INT_BITS} bits", "a longer one")
        self._stack.append(value)

    def _pop(self) -> Any:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise self._bad("a value on the pickle's stack", "an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise self._bad("a mark on the pickle's stack", "none")
        at = self._marks.pop()
        values = self._stack[at:]
        del self._stack[at:]
        return values

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _drop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _drop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._top())

    def _put(self, slot: int) -> None:
        self._memo[int(slot)] = self._top()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, slot: int) -> None:
        if int(slot) not in self._memo:
            raise self._bad("a memo slot that was filled", f"slot {slot}")
        self._stack.append(self._memo[int(slot)])

    # -- containers -----------------------------------------------------------------------------

    def _list(self, _: Any) -> None:
        self._stack.append(self._pop_to_mark())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _short_tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _dict(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._stack.append({})
        self._set_pairs(values)

    def _append(self, _: Any) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Opaque):
            target.items.extend(values)
        elif type(target) is list:
            target.extend(values)
        else:
            raise self._bad("a list to append to", _kind(target))

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set_pairs([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_pairs(self._pop_to_mark())

    def _set_pairs(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Opaque):
            target = target.entries
        if type(target) is not dict:
            raise self._bad("a dict to set an item of", _kind(target))
        if len(values) % 2:
            raise self._bad("keys with values", "a key without one")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    # -- globals, calls, objects ----------------------------------------------------------------

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Global(f"{module}.{name}"))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise self._bad("a global's module and name", f"{_kind(module)} and {_kind(name)}")
        self._stack.append(Global(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        args, maker = self._pop(), self._pop()
        if type(args) is not tuple or not isinstance(maker, Global | Opaque):
            raise self._bad("a global and a tuple to call it with", _kind(maker))
        self._stack.append(self._call(maker, args))

    def _call(self, maker: Global | Opaque, args: tuple[Any, ...]) -> Any:
        if isinstance(maker, Opaque):
            return Opaque(maker.maker, (maker, *args))
        reducer = self._reducers.get(maker.name)
        return reducer(*args) if reducer is not None else Opaque(maker.name, args)

    def _newobj(self, _: Any) -> None:
        args, maker = self._pop(), self._pop()
        self._new(maker, args)

    def _newobj_ex(self, _: Any) -> None:
        keywords, args, maker = self._pop(), self._pop(), self._pop()
        self._new(maker, (*args, keywords) if type(args) is tuple else args)

    def _new(self, maker: Any, args: Any) -> None:
        if type(args) is not tuple or not isinstance(maker, Global):
            raise self._bad("a class and a tuple to make it with", _kind(maker))
        self._stack.append(self._call(maker, args))

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Opaque):
            target.state = state
        elif type(target) is not dict:  # an OrderedDict's attributes, e.g. _metadata, carry nothing
            raise self._bad("an object to give a state to", _kind(target))

    def _persist(self, _: Any) -> None:
        self._stack.append(self._persistent(self._pop()))


def plain_key(key: Any) -> Any:
    """Return ``key`` if it is a plain scalar, else a stand-in that is hashed by identity."""
    if type(key) is int and key.bit_length() > 64:  # long integers can be made to share a hash
        return OddKey(key)
    return key if type(key) in _PLAIN_KEYS else OddKey(key)


def _kind(value: Any) -> str:
    if isinstance(value, Global):
        return f"the global {quote(value.name)}"
    if isinstance(value, Opaque):
        return f"an object of {quote(value.maker)}"
    return f"a value of type {type(value).__name__}"


_Handler = Callable[[PickleMachine, Any], None]
_M = PickleMachine


def _constant(make: Callable[[], Any]) -> _Handler:
    return lambda machine, _: machine._stack.append(make())


def _tuple_of(count: int) -> _Handler:
    return lambda machine, _: machine._short_tuple(count)


# Opcodes that are in no table here push their argument (numbers, strings, bytes).
_HANDLERS: dict[str, _Handler] = {
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_SET": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "MARK": _M._mark,
    "POP": _M._drop,
    "POP_MARK": _M._drop_mark,
    "DUP": _M._dup,
    "PUT": _M._put,
    "BINPUT": _M._put,
    "LONG_BINPUT": _M._put,
    "MEMOIZE": _M._memoize,
    "GET": _M._get,
    "BINGET": _M._get,
    "LONG_BINGET": _M._get,
    "LIST": _M._list,
    "FROZENSET": _M._list,
    "TUPLE": _M._tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _M._dict,
    "APPEND": _M._append,
    "APPENDS": _M._appends,
    "ADDITEMS": _M._appends,
    "SETITEM": _M._setitem,
    "SETITEMS": _M._setitems,
    "GLOBAL": _M._global,
    "STACK_GLOBAL": _M._stack_global,
    "REDUCE": _M._reduce,
    "NEWOBJ": _M._newobj,
    "NEWOBJ_EX": _M._newobj_ex,
    "BUILD": _M._build,
    "BINPERSID": _M._persist,
}
