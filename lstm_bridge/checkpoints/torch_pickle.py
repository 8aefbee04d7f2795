"""What a torch pickle may call: the exact list of globals, and what each becomes without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.pickle_machine import Global, PickleMachine, plain_key
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import quote

_STORAGES = {
    f"{module}.{dtype.torch}Storage": code
    for code, dtype in DTYPES.items()
    for module in ("torch", "torch.cuda")
} | {f"torch{module}.UntypedStorage": "U8" for module in ("", ".storage", ".cuda")}

_TORCH_DTYPES = {
    "torch.float64": "F64", "torch.double": "F64",
    "torch.float32": "F32", "torch.float": "F32",
    "torch.float16": "F16", "torch.half": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.long": "I64",
    "torch.int32": "I32", "torch.int": "I32",
    "torch.int16": "I16", "torch.short": "I16",
    "torch.int8": "I8",
    "torch.uint64": "U64", "torch.uint32": "U32", "torch.uint16": "U16", "torch.uint8": "U8",
    "torch.bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class StorageRef:
    """A storage that the pickle names; its bytes are elsewhere in the file.

    Args:
        kind: torch's name of the storage class.
        key: its name in the file.
        location: the device it was on.
        numel: its length in elements.
        view: offset and length in elements of the part that is meant, in very old files.
    """

    kind: str
    key: str
    location: str
    numel: int
    view: tuple[int, int] | None = None

    @property
    def dtype(self) -> str | None:
        """The safetensors code of its elements; ``None`` for those not read here."""
        return _STORAGES.get(self.kind)


@dataclass(frozen=True, eq=False, slots=True)
class TensorRef:
    """A strided view of a storage, as the pickle has it: nothing in it is checked yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Blocked:
    """A tensor that cannot be rebuilt without meaning that only code has.

    Args:
        maker: the global in the way.
        why: what it would have made, if known.
    """

    maker: str
    why: str = ""


def load_pickle(stream: IO[bytes], place: Place) -> tuple[Any, dict[str, StorageRef]]:
    """Return what the pickle holds, and the storages that it names.

    Tensors become ``TensorRef``; nothing is imported or run.
    """
    storages: dict[str, StorageRef] = {}

    def persistent(pid: Any) -> Any:
        found = _persistent(pid, place)
        if isinstance(found, StorageRef):
            first = storages.setdefault(found.key, found)
            if (first.kind, first.numel) != (found.kind, found.numel):
                raise place.container(
                    f"one dtype and length for storage {quote(found.key)}", "two that differ"
                )
        return found

    root = PickleMachine(place, REDUCERS, persistent).run(stream)
    return root, storages


def _persistent(pid: Any, place: Place) -> Any:
    """Read torch's persistent ids: a storage, or (in very old files) a module class."""
    match pid:
        case ("module", Global() as cls, *_):
            return cls
        case ("storage", Global(name), str(key), str(location), int(numel), *rest):
            return StorageRef(name, key, location, numel, _view(rest, place))
    raise place.container("a storage as torch.save names it", f"{quote(type(pid).__name__)}")


def _view(rest: list[Any], place: Place) -> tuple[int, int] | None:
    match rest:
        case [] | [None]:
            return None
        case [(str(), int(offset), int(size))]:
            return offset, size
    raise place.container("a storage as torch.save names it", "one with other fields")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> TensorRef:
    return TensorRef(storage, offset, size, stride)


def _tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, extra: Any = None
) -> TensorRef | Blocked:
    if extra:
        return Blocked("torch._utils._rebuild_tensor_v2", "a conjugate or negative view")
    return TensorRef(storage, offset, size, stride)


def _tensor_v3(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    extra: Any = None,
) -> TensorRef | Blocked:
    name = dtype.name if isinstance(dtype, Global) else ""
    if extra or name not in _TORCH_DTYPES:
        return Blocked("torch._utils._rebuild_tensor_v3", f"dtype {quote(name)}")
    return TensorRef(storage, offset, size, stride, _TORCH_DTYPES[name])


def _parameter(data: Any, _grad: Any, _hooks: Any, _state: Any = None) -> Any:
    return data


def _on_device(data: Any, dtype: Any, _device: Any, _grad: Any) -> Any:
    code = _TORCH_DTYPES.get(dtype.name) if isinstance(dtype, Global) else None
    held = isinstance(data, TensorRef) and isinstance(data.storage, StorageRef)
    if held and code == (data.dtype or data.storage.dtype):
        return data
    return Blocked("torch._utils._rebuild_device_tensor_from_cpu_tensor", "a cast tensor")


def _from_type(func: Any, cls: Any, args: Any, _state: Any) -> Any:
    reducer = REDUCERS.get(func.name) if isinstance(func, Global) else None
    name = cls.name if isinstance(cls, Global) else "?"
    if reducer is None or name not in _TENSOR_CLASSES:
        maker = name if name not in _TENSOR_CLASSES else getattr(func, "name", "?")
        return Blocked(maker, "a tensor subclass")
    return reducer(*args)


def _blocker(maker: str, why: str) -> Callable[..., Blocked]:
    return lambda *_: Blocked(maker, why)


def _ordered(items: Iterable[Any] = ()) -> dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {plain_key(key): value for key, value in pairs}


def _listed(items: Iterable[Any] = ()) -> list[Any]:
    return list(items)


_TENSOR_CLASSES = {
    "torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter",
    "torch.nn.parameter.Buffer", "torch.FloatTensor",
}  # fmt: skip

_UNREADABLE = {
    "torch._utils._rebuild_meta_tensor_no_storage": "a meta tensor, which has no data",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._tensor._rebuild_from_type": "a tensor subclass",
    "torch.storage._load_from_bytes": "a pickle inside the pickle",
}

REDUCERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _on_device,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _listed,
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "collections.defaultdict": lambda _factory=None, items=(): _ordered(items),
    "builtins.dict": _ordered,
    "__builtin__.dict": _ordered,
    "builtins.list": _listed,
    "builtins.set": _listed,
    "__builtin__.set": _listed,
    "builtins.frozenset": _listed,
    "torch.jit._pickle.restore_type_tag": lambda value, _tag: value,
    "torch.jit._pickle.build_tensorlist": _listed,
    "torch.jit._pickle.build_intlist": _listed,
    "torch.jit._pickle.build_doublelist": _listed,
    "torch.jit._pickle.build_boollist": _listed,
    **{name: _blocker(name, why) for name, why in _UNREADABLE.items()},
}
"""Full name → what stands for a call of it. Sets become lists: nothing here needs hashing."""
