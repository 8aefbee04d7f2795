"""Keras's object configs: built-in and registered objects to dictionaries and back.

Nothing is imported and no code is run because a config says so: a class is found in the table of
what this package has, among registered objects and ``custom_objects``, or it is refused.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isclass
from typing import Any, TypeVar

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError, quote
from lstm_bridge.keras.naming import to_snake_case

T = TypeVar("T")

_builtin: dict[str, tuple[str, Any]] = {}
_registered: dict[str, Any] = {}
_registered_names: dict[Any, str] = {}
_scope: ContextVar[Mapping[str, Any]] = ContextVar("keras_custom_objects", default={})  # noqa: B039

_PLAIN = (str, int, float, bool)
_KERAS_ROOTS = ("keras", "tf_keras", "tensorflow", "builtins")


def keras_export(module: str) -> Callable[[type[T]], type[T]]:
    """Enter a class into the table of built-in objects under its public Keras module."""

    def decorate(cls: type[T]) -> type[T]:
        _builtin[cls.__name__] = (module, cls)
        return cls

    return decorate


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[T], T]:
    """Register a class or function for configs, as ``keras.saving`` does.

    Args:
        package: first half of the registered name. Default: ``"Custom"``.
        name: second half. Default: the object's own name.
    """

    def decorate(obj: T) -> T:
        key = f"{package}>{name or getattr(obj, '__name__', '')}"
        _registered[key] = obj
        _registered_names[obj] = key
        return obj

    return decorate


def get_registered_name(obj: Any) -> str:
    """Return the name an object was registered under, or its own name."""
    return _registered_names.get(obj, str(obj.__name__))


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Make classes and functions known to configs by name inside a ``with`` block."""
    token = _scope.set({**_scope.get(), **(custom_objects or {})})
    try:
        yield
    finally:
        _scope.reset(token)


def serialize_keras_object(obj: Any) -> Any:
    """Return an object's Keras config: ``module``, ``class_name``, ``config``, ``registered_name``.

    Raises:
        UnsupportedError: a lambda, or an object without ``get_config``.
    """
    if obj is None or isinstance(obj, _PLAIN):
        return obj
    if isinstance(obj, (list, tuple)):
        return type(obj)(serialize_keras_object(item) for item in obj)
    if type(obj) is dict:
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, mx.array):
        dtype = str(obj.dtype).rpartition(".")[2]
        return {"class_name": "__tensor__", "config": {"value": obj.tolist(), "dtype": dtype}}
    if isinstance(obj, types.FunctionType):
        return serialize_function(obj)
    if hasattr(obj, "get_config"):
        return _serialize_instance(obj)
    if hasattr(obj, "tolist"):  # a NumPy scalar or array
        return obj.tolist()
    raise UnsupportedError(
        "serialize_keras_object", expected="an object with get_config()", got=type(obj).__name__
    )


def serialize_function(fn: Any) -> dict[str, Any]:
    """Return the config of a named function.

    Raises:
        UnsupportedError: it is a lambda, which a config cannot hold.
    """
    if fn.__name__ == "<lambda>":
        raise UnsupportedError(
            "serialize_keras_object", expected="a named function", got="a lambda", fix="name it"
        )
    return {
        "module": "builtins",
        "class_name": "function",
        "config": get_registered_name(fn),
        "registered_name": "function",
    }


def _serialize_instance(obj: Any) -> dict[str, Any]:
    cls = type(obj)
    module, builtin = _builtin.get(cls.__name__, (cls.__module__, None))
    public = builtin is cls
    config: dict[str, Any] = {
        "module": module if public else cls.__module__,
        "class_name": cls.__name__,
        "config": {key: serialize_keras_object(value) for key, value in obj.get_config().items()},
        "registered_name": None if public else get_registered_name(cls),
    }
    build_config = obj.get_build_config() if hasattr(obj, "get_build_config") else None
    if build_config is not None:
        config["build_config"] = build_config
    return config


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    aliases: Mapping[str, Any] | None = None,
) -> Any:
    """Return the object that a config describes; anything else comes back as it is.

    Args:
        config: a Keras config of any era: with or without ``module`` and ``registered_name``.
        custom_objects: more classes and functions by name.
        aliases: more spellings of built-in classes (``glorot_uniform``).

    Raises:
        UnsupportedError: the config names something this package does not have.
    """
    if isinstance(config, (list, tuple)):
        return [deserialize_keras_object(item, custom_objects, aliases) for item in config]
    if not (isinstance(config, dict) and "class_name" in config):
        return config
    inner = config.get("config")
    if config["class_name"] in ("__tensor__", "__numpy__") and isinstance(inner, dict):
        return mx.array(inner["value"], dtype=getattr(mx, str(inner["dtype"])))
    with custom_object_scope(custom_objects):
        found = _find(config, aliases or {})
        if config["class_name"] == "function":
            return found
        try:
            instance = found.from_config(dict(inner or {}))
        except TypeError as error:  # an argument its constructor does not have
            raise UsageError(
                f"config of {quote(config['class_name'])}",
                expected="the arguments of its constructor",
                got=f"{', '.join(map(quote, inner or {}))} ({error})",
            ) from error
        build_config = config.get("build_config")
        if build_config and not instance.built:
            instance.build_from_config(build_config)
    return instance


def _find(config: Mapping[str, Any], aliases: Mapping[str, Any]) -> Any:
    """The class or function a config names: custom ones first, then the built-in table."""
    name = config["config"] if config["class_name"] == "function" else config["class_name"]
    if not isinstance(name, str):
        raise UsageError("config class_name", expected="a name", got=quote(name))
    custom = {**_registered, **_scope.get()}
    for key in (config.get("registered_name"), name):
        if isinstance(key, str) and key in custom:
            return custom[key]
    root = str(config.get("module") or "keras").partition(".")[0]
    table = {key: cls for key, (_, cls) in _builtin.items()} | dict(aliases)
    if root in _KERAS_ROOTS and name in table:
        return table[name]
    where = f" of module {quote(config['module'])}" if config.get("module") else ""
    raise UnsupportedError(
        "config class_name",
        expected=f"one of {', '.join(sorted(_builtin))}, or a registered object",
        got=f"{quote(name)}{where}",
        fix="pass it in custom_objects",
    )


def spellings(classes: Iterable[type[T]]) -> dict[str, type[T]]:
    """Return the names that Keras accepts for classes: their own, and those in snake case."""
    named = {cls.__name__: cls for cls in classes}
    return named | {to_snake_case(name): cls for name, cls in named.items()}


def resolve(identifier: Any, aliases: Mapping[str, Any], kind: str) -> Any:
    """Return an object from its name, config, class, instance or a function; None stays None.

    Raises:
        UsageError: it is none of these.
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        return deserialize_keras_object(identifier, None, aliases)
    found = aliases.get(identifier) if isinstance(identifier, str) else identifier
    if callable(found):
        return found() if isclass(found) else found
    raise UsageError(kind, expected=f"one of {', '.join(aliases)}", got=repr(identifier))
