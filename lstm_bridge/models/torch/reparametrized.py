"""Weights that a torch module computes anew at every call, as the plain weights that they are.

weight_norm and spectral_norm, as hooks and as parametrizations. torch is imported inside functions
only, and multiplies the weights out itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from lstm_bridge.errors import UnsupportedError


def with_plain_weights(module: Any) -> tuple[Any, dict[str, str]]:
    """Return a torch module whose weights are plain, and what computed which of them before.

    Args:
        module: is left as it is; without such weights it is returned itself.

    Returns:
        The module or a copy of it; parameter → name of the normalization that is in it now.

    Raises:
        UnsupportedError: the module cannot be copied.
    """
    found = {f"{path}.{name}".lstrip("."): kind for path, _, name, kind in _normed(module)}
    if not found:
        return module, {}
    # A hook's weight is the result of its last call, which torch does not copy by itself.
    computed = {id(t): t.detach().clone() for m in module.modules() for t in _computed(m)}
    try:
        plain = copy.deepcopy(module, computed)
    except Exception as error:  # whatever a user's class raises
        raise UnsupportedError(
            f"port {type(module).__name__}",
            expected=f"a module that can be copied, to take {next(iter(found.values()))} out of it",
            got=f"{type(error).__name__}: {error}"[:120],
            fix="remove it first, e.g. with torch.nn.utils.parametrize.remove_parametrizations",
        ) from error
    for _, owner, name, kind in list(_normed(plain)):
        _remove(owner, name, kind)
    return plain, found


def _normed(module: Any) -> Iterator[tuple[str, Any, str, str]]:
    """Yield path, sub-module, weight and normalization of every weight that is computed."""
    for path, owner in module.named_modules():
        for hook in owner._forward_pre_hooks.values():
            kind = _HOOKS.get(type(hook).__name__)
            if kind and type(hook).__module__.startswith("torch.nn.utils."):
                yield path, owner, hook.name, kind
        for name, members in getattr(owner, "parametrizations", {}).items():
            kinds = [_PARAMETRIZATIONS.get(type(one).__name__) for one in members]
            own = all(type(one).__module__ == _PLACE for one in members)
            if own and len(kinds) == 1 and kinds[0]:
                yield path, owner, name, kinds[0]


_HOOKS = {"WeightNorm": "weight_norm", "SpectralNorm": "spectral_norm"}
_PARAMETRIZATIONS = {"_WeightNorm": "weight_norm", "_SpectralNorm": "spectral_norm"}
_PLACE = "torch.nn.utils.parametrizations"


def _computed(module: Any) -> Iterator[Any]:
    """Yield the tensors that a module holds besides its parameters and buffers."""
    import torch

    for value in vars(module).values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, torch.Tensor) and not one.is_leaf:
                yield one


def _remove(owner: Any, name: str, kind: str) -> None:
    """Put a weight in the place of what it is computed from, as it is when evaluating."""
    import torch
    from torch.nn.utils import parametrize

    parametrizations = getattr(owner, "parametrizations", {})
    if name in parametrizations:
        owner.__class__ = _class_of_its_own(type(owner))
        parametrizations[name].eval()  # in training, a look at it changes what is estimated
        trained = any(p.requires_grad for p in parametrizations[name].parameters())
        parametrize.remove_parametrizations(owner, name, leave_parametrized=True)
    else:
        trained = any(p.requires_grad for n, p in owner.named_parameters() if n in _parts(name))
        getattr(torch.nn.utils, f"remove_{kind}")(owner, name)
    if name not in owner._parameters:  # torch leaves what was frozen as a plain tensor
        weight = getattr(owner, name).detach()
        delattr(owner, name)
        owner.register_parameter(name, torch.nn.Parameter(weight))
    owner._parameters[name].requires_grad_(trained)


def _class_of_its_own(cls: type) -> type:
    """The same class again: torch removes parametrizations from the class, which a copy shares."""
    kept = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(cls.__name__, cls.__bases__, kept)


def _parts(name: str) -> tuple[str, ...]:
    return f"{name}_g", f"{name}_v", f"{name}_orig"
