"""A pickle reader that can only read a plain state dict: it never imports, never calls, has no `find_class`.

It knows the three dozen instructions and the handful of names that `torch.save` uses for a dict of tensors and
turns them into descriptions. Anything else is refused by its name. No list of dangerous names is kept: such
lists always have holes, a closed set has none.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, NamedTuple

from adapterfit.read.formats._flaws import PICKLE_SAYS

#: Names a state dict may mention, as `module name`; what each stands for is decided in `_reduce` and `_state_dict`.
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "LongStorage": "I64",
    "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64", "ComplexDoubleStorage": "C128",
}  # fmt: skip
#: torch's dtypes in safetensors' spelling (`C128` has none there).
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
_REBUILDS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_WITH_STATE = "torch._utils _rebuild_parameter_with_state"
_TYPED = "torch._tensor _rebuild_from_type_v2"
_TENSOR_TYPES = frozenset(("torch Tensor", "torch.nn.parameter Parameter"))
_KNOWN = _TENSOR_TYPES.union(
    ("collections OrderedDict", "torch Size", "torch.storage UntypedStorage", "torch device", _WITH_STATE, _TYPED),
    (f"torch._utils {name}" for name in _REBUILDS),
    (f"torch {name}" for name in (*STORAGES, *DTYPES)),
)
#: Names that mean a tensor without plain bytes; they get a finding of their own, nothing more.
_NOT_DENSE = frozenset(
    f"torch._utils {name}"
    for name in (
        "_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor", "_rebuild_qtensor", "_rebuild_nested_tensor",
        "_rebuild_meta_tensor_no_storage", "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy",
        "_rebuild_device_tensor_from_cpu_tensor",
    )
) | frozenset(
    ("torch.distributed.tensor DTensor", "torch.distributed._tensor DTensor", "torch.distributed._tensor.api DTensor",
     "torch.serialization _get_layout", "torch.nested._internal.nested_tensor NestedTensor", "torch QInt8Storage",
     "torch QUInt8Storage", "torch QInt32Storage", "torch.sparse_coo _get_layout")
)  # fmt: skip
#: Instructions that a plain state dict does not need, for the message only.
_FOREIGN = {
    0x69: "INST", 0x6F: "OBJ", 0x93: "STACK_GLOBAL", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x81: "NEWOBJ",
    0x92: "NEWOBJ_EX", 0x30: "POP", 0x31: "POP_MARK", 0x32: "DUP", 0x50: "PERSID", 0x8F: "EMPTY_SET", 0x8E: "BINBYTES8",
    0x42: "BINBYTES", 0x43: "SHORT_BINBYTES", 0x96: "BYTEARRAY8", 0x95: "FRAME", 0x94: "MEMOIZE", 0x8C: "SHORT_BINUNICODE",
    0x8D: "BINUNICODE8", 0x49: "INT", 0x4C: "LONG", 0x53: "STRING", 0x56: "UNICODE", 0x70: "PUT", 0x67: "GET", 0x64: "DICT",
    0x6C: "LIST", 0x46: "FLOAT", 0x91: "FROZENSET", 0x90: "ADDITEMS", 0x8B: "LONG4", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}  # fmt: skip
#: Instructions and names beyond ours that torch's `weights_only=True` lets pass.
_TORCH_KNOWS = frozenset((0x81, 0x8F))
_TORCH_ALLOWS = frozenset(
    ("collections Counter", "_codecs encode", "builtins bytearray", "builtins set", "builtins complex")
)
#: What a pickle can hold here: None, bool, int, float, str, tuple, list, Table, Name, Storage, Tensor.
Value = Any
#: The protocol `torch.save` writes.
_PROTOCOL = 2
_LONG_BYTES = 16


class Refused(Exception):
    """The pickle says something a plain state dict does not; `problem` continues "the file …".

    `predicted` is what PEFT does about it (`none` where that is not certain), `raised` the line it raises.
    """

    def __init__(self, code: str, problem: str, predicted: str = "none", raised: str = "") -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem
        self.predicted = "raises" if raised else predicted
        self.raised = raised


class Ended(Refused):
    """The bytes end inside the pickle."""

    def __init__(self) -> None:
        super().__init__("malformed", "ends in the middle of its pickle", raised="EOFError")


class Name(NamedTuple):
    """A class or function of the closed set; only ever compared."""

    text: str


class Storage(NamedTuple):
    """Where a tensor's numbers lie: element type in safetensors' spelling (empty: bytes), key, number of elements."""

    dtype: str
    key: str
    length: int


class Tensor(NamedTuple):
    """A view of a storage. Offset and strides in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Table:
    """A dict or OrderedDict as it stands in the file: pairs in order, nothing hashed."""

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        self.items: list[tuple[Value, Value]] = []


def read_pickle(data: bytes, start: int, opcodes: int, *, stacked: bool = False) -> tuple[Value, int]:
    """One pickle from `start`: its value (str, int, tuple, list, Table, Tensor …) and where it ends.

    `stacked` says that it is from a stacked file, which describes a storage in six parts instead of five.

    Raises:
        Refused: With the first instruction or name that is not in the closed set; `Ended` if the bytes end.
    """
    machine = _Machine(data, start, 6 if stacked else 5)
    for _ in range(opcodes):
        code = machine.byte()
        if code == 0x2E:  # STOP
            return machine.result(), machine.position
        action = _ACTIONS.get(code)
        if action is None:
            raise _foreign(code)
        action(machine)
    raise Refused("over-limit", f"has a pickle of more than {opcodes:,} instructions")


def _foreign(code: int) -> Refused:
    what = _FOREIGN.get(code, f"0x{code:02x}")
    problem = f"uses the pickle instruction {what}, which a plain dict of tensors does not need"
    return Refused("pickle-not-plain", problem, raised="" if code in _TORCH_KNOWS else PICKLE_SAYS)


class _Machine:
    def __init__(self, data: bytes, position: int, storage_parts: int) -> None:
        self.data = data
        self.storage_parts = storage_parts
        self.position = position
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}

    def byte(self) -> int:
        try:
            value = self.data[self.position]
        except IndexError:
            raise Ended from None
        self.position += 1
        return value

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise Ended
        part = self.data[self.position : end]
        self.position = end
        return part

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 1000)
        if end < 0:
            raise (
                Ended
                if len(self.data) < self.position + 1000
                else Refused("malformed", "has a name without an end in its pickle")
            )
        text = self.data[self.position : end]
        self.position = end + 1
        return text.decode("ascii", "backslashreplace")

    def pop(self) -> Value:
        if not self.stack:
            raise Refused("malformed", "has a pickle that takes from an empty stack")
        return self.stack.pop()

    def top(self) -> Value:
        if not self.stack:
            raise Refused("malformed", "has a pickle that takes from an empty stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Value]:
        if not self.marks:
            raise Refused("malformed", "has a pickle with an end that has no beginning (MARK)")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def result(self) -> Value:
        if len(self.stack) != 1 or self.marks:
            raise Refused("malformed", "has a pickle that leaves more or less than one value")
        return self.stack[0]


# ------------------------------------------------------------------------------------------------ instructions


def _proto(m: _Machine) -> None:
    version = m.byte()
    if version == _PROTOCOL:
        return
    framed = m.data[m.position : m.position + 1] == b"\x95"  # as every pickle of protocol 4 and 5 is; torch stops there
    problem = f"is a pickle of protocol {version}; torch.save writes protocol {_PROTOCOL}"
    raise Refused("unsupported-protocol", problem, "warns", PICKLE_SAYS if framed else "")


def _mark(m: _Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _tuple(m: _Machine) -> None:
    items = tuple(m.pop_mark())
    m.stack.append(items)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def action(m: _Machine) -> None:
        items = [m.pop() for _ in range(count)]
        m.stack.append(tuple(reversed(items)))

    return action


def _push(make: Callable[[], Value]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(make())


def _number(length: int, signed: bool) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(int.from_bytes(m.take(length), "little", signed=signed))


def _long1(m: _Machine) -> None:
    length = m.byte()
    if length > _LONG_BYTES:
        raise Refused("malformed", f"has a number of {length} bytes in its pickle")
    m.stack.append(int.from_bytes(m.take(length), "little", signed=True))


def _float(m: _Machine) -> None:
    m.stack.append(struct.unpack(">d", m.take(8))[0])


def _text(width: int) -> Callable[[_Machine], None]:
    def action(m: _Machine) -> None:
        raw = m.take(int.from_bytes(m.take(width), "little"))
        try:
            m.stack.append(raw.decode("utf-8" if width == 4 else "ascii"))
        except UnicodeDecodeError:
            raise Refused("malformed", "has a text in its pickle that is not UTF-8") from None

    return action


def _put(width: int) -> Callable[[_Machine], None]:
    def action(m: _Machine) -> None:
        m.memo[int.from_bytes(m.take(width), "little")] = m.top()

    return action


def _get(width: int) -> Callable[[_Machine], None]:
    def action(m: _Machine) -> None:
        index = int.from_bytes(m.take(width), "little")
        if index not in m.memo:
            raise Refused("malformed", f"has a pickle that recalls something it never kept ({index})")
        m.stack.append(m.memo[index])

    return action


def _global(m: _Machine) -> None:
    module, name = m.line(), m.line()
    full = f"{module} {name}"
    if full in _NOT_DENSE:
        problem = f"holds a tensor without plain bytes ({module}.{name}): sparse, quantised, meta or distributed"
        raise Refused("not-dense", problem, "raises")
    if full not in _KNOWN:
        passes = full in _TORCH_ALLOWS or module.split(".")[0] == "torch"
        problem = f"asks to import {module}.{name}; a plain dict of tensors does not"
        raise Refused("pickle-not-plain", problem, raised="" if passes else PICKLE_SAYS)
    m.stack.append(Name(full))


def _append(m: _Machine) -> None:
    value = m.pop()
    _list(m).append(value)


def _appends(m: _Machine) -> None:
    items = m.pop_mark()
    _list(m).extend(items)


def _list(m: _Machine) -> list[Value]:
    target = m.top()
    if type(target) is not list:
        raise Refused("malformed", "has a pickle that appends to something that is no list")
    return target


def _setitem(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    _table(m).items.append((key, value))


def _setitems(m: _Machine) -> None:
    items = m.pop_mark()
    if len(items) % 2:
        raise Refused("malformed", "has a pickle that sets a key without a value")
    _table(m).items.extend(zip(items[::2], items[1::2]))


def _table(m: _Machine) -> Table:
    target = m.top()
    if type(target) is not Table:
        raise Refused("malformed", "has a pickle that sets a key of something that is no dict")
    return target


def _build(m: _Machine) -> None:
    """`_metadata` of a module's state dict; read and forgotten."""
    state = m.pop()
    target = m.top()
    if type(target) is not Table or not target.ordered or type(state) is not Table:
        raise Refused("malformed", "has a pickle that gives a state (BUILD) to something other than a dict")


def _persistent(m: _Machine) -> None:
    m.stack.append(_storage(m.pop(), m.storage_parts))


def _storage(saved: Value, parts: int) -> Storage:
    if type(saved) is not tuple or len(saved) != parts or saved[5:] not in ((), (None,)):
        raise Refused("malformed", "describes a storage in a way torch does not")
    what, kind, key, location, count = saved[:5]
    plain = what == "storage" and type(key) is str and type(location) is str and type(count) is int and count >= 0
    module, _, name = kind.text.partition(" ") if type(kind) is Name else ("", "", "")
    if not plain or not (name in STORAGES or (module, name) == ("torch.storage", "UntypedStorage")):
        raise Refused("malformed", "describes a storage in a way torch does not")
    return Storage(STORAGES.get(name, ""), key, count)


# ------------------------------------------------------------------------------------------------ calls


def _reduce(m: _Machine) -> None:
    arguments, function = m.pop(), m.pop()
    if type(function) is not Name or type(arguments) is not tuple:
        raise Refused("pickle-not-plain", "calls something that is no name of torch's")
    m.stack.append(_called(function.text, arguments))


def _called(function: str, arguments: tuple[Value, ...]) -> Value:
    if function == "collections OrderedDict" and not arguments:
        return Table(ordered=True)
    if function == "torch Size" and len(arguments) == 1 and _counts(arguments[0]):
        return arguments[0]
    if function == "torch device" and all(type(each) in (str, int) for each in arguments):
        return None
    if function == _TYPED:
        return _typed(arguments)
    if function in (_WITH_STATE, "torch._utils _rebuild_parameter"):
        return _parameter(arguments)
    if function.startswith("torch._utils _rebuild_tensor"):
        return _tensor(function[-2:], arguments)
    raise Refused("malformed", f"calls {function.replace(' ', '.')} with arguments it does not take")


def _typed(arguments: tuple[Value, ...]) -> Value:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: a tensor that carries Python attributes."""
    if len(arguments) == 4 and type(arguments[0]) is Name and type(arguments[2]) is tuple:
        function, kind = arguments[0].text, arguments[1]
        if function.startswith("torch._utils ") and type(kind) is Name and kind.text in _TENSOR_TYPES:
            return _called(function, arguments[2])
    raise Refused("malformed", "rebuilds a tensor of a type that is not torch's own")


def _parameter(arguments: tuple[Value, ...]) -> Tensor:
    if len(arguments) not in (3, 4) or type(arguments[0]) is not Tensor or not _flag_and_hooks(arguments[1:3]):
        raise Refused("malformed", "makes a parameter in a way torch does not")
    return arguments[0]


def _flag_and_hooks(arguments: tuple[Value, ...]) -> bool:
    """`requires_grad` and the hooks: torch sets them as they are, and fails on anything else."""
    flag, hooks = arguments
    return type(flag) is bool and type(hooks) is Table and hooks.ordered


def _tensor(version: str, arguments: tuple[Value, ...]) -> Tensor:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, flag, hooks[, metadata])`; v3 has a dtype before the last."""
    lengths = {"v2": (6, 7), "v3": (7, 8)}.get(version, (4,))
    if len(arguments) not in lengths or type(arguments[0]) is not Storage:
        raise Refused("malformed", "rebuilds a tensor in a way torch does not")
    storage, offset, shape, strides = arguments[:4]
    plain = type(offset) is int and _numbers(shape) and _numbers(strides)
    rest = arguments[7 if version == "v3" else 6 :]
    if (
        not plain
        or (version in ("v2", "v3") and not _flag_and_hooks(arguments[4:6]))
        or any(type(each) is not Table for each in rest)
    ):
        raise Refused("malformed", "rebuilds a tensor in a way torch does not")
    dtype = storage.dtype
    if version == "v3":
        kind = arguments[6]
        dtype = DTYPES.get(kind.text[6:], "") if type(kind) is Name else ""
    if not dtype:
        raise Refused("malformed", "rebuilds a tensor without saying its data type")
    return Tensor(storage, dtype, offset, shape, strides)


def _numbers(value: Value) -> bool:
    return type(value) is tuple and all(type(each) is int for each in value)


def _counts(value: Value) -> bool:
    return _numbers(value) and all(each >= 0 for each in value)


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _proto,
    0x28: _mark,
    0x74: _tuple,
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    0x29: _push(tuple),
    0x5D: _push(list),
    0x7D: _push(lambda: Table(ordered=False)),
    0x4E: _push(lambda: None),
    0x88: _push(lambda: True),
    0x89: _push(lambda: False),
    0x4A: _number(4, signed=True),
    0x4B: _number(1, signed=False),
    0x4D: _number(2, signed=False),
    0x8A: _long1,
    0x47: _float,
    0x58: _text(4),
    0x55: _text(1),
    0x71: _put(1),
    0x72: _put(4),
    0x68: _get(1),
    0x6A: _get(4),
    0x63: _global,
    0x52: _reduce,
    0x51: _persistent,
    0x61: _append,
    0x65: _appends,
    0x73: _setitem,
    0x75: _setitems,
    0x62: _build,
}
