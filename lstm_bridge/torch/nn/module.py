"""The base of the torch front-end's layers: an MLX module that torch's own habits work on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_flatten

from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.torch.dtypes import requested_dtype


class Module(StateDictModule):
    """An :class:`mlx.nn.Module` that calls ``forward`` and has torch's state dict and repr.

    ``parameters()``, ``train()``, ``eval()``, ``freeze()`` and the optimizers are MLX's.

    Source: torch.nn.Module 2.13.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``self.forward(*args, **kwargs)``."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's output; every subclass defines it.

        Raises:
            UnsupportedError: the subclass does not define it.
        """
        raise UnsupportedError(
            f"Module [{type(self).__name__}]", expected="a forward method", got="none"
        )

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Cast the floating parameters to the dtype that is asked for, if any; return self.

        Args:
            args: torch's forms: a dtype, a device, a device and a dtype, or an array.
            kwargs: the same by name. A device has no effect here, because MLX arrays live in
                memory that all its devices share.
        """
        dtype = requested_dtype(args, kwargs)
        if dtype is not None:
            self.set_dtype(dtype)
        return self

    def half(self) -> Module:
        """Cast the floating parameters to float16; return self."""
        return self.to("float16")

    def bfloat16(self) -> Module:
        """Cast the floating parameters to bfloat16; return self."""
        return self.to("bfloat16")

    def float(self) -> Module:
        """Cast the floating parameters to float32; return self."""
        return self.to("float32")

    def double(self) -> Module:
        """Cast the floating parameters to float64, which MLX computes on the CPU; return self."""
        return self.to("float64")

    def cpu(self) -> Module:
        """Return self: MLX arrays live in memory that all its devices share."""
        return self

    def cuda(self, device: Any = None) -> Module:
        """Return self: MLX arrays live in memory that all its devices share."""
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: MLX returns gradients, and no module keeps any."""

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Let the parameters train, or not, as MLX's ``unfreeze`` and ``freeze``; return self."""
        self.unfreeze() if requires_grad else self.freeze()
        return self

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, mx.array]]:
        """Yield the trainable parameters with their dotted names.

        Args:
            prefix: put in front of every name, with a dot. Default: none.
            recurse: those of sub-modules too. Default: True.
        """
        for name, array in tree_flatten(self.trainable_parameters()):
            if recurse or "." not in name:
                yield f"{prefix}.{name}" if prefix else name, array

    def get_submodule(self, target: str) -> mlx.nn.Module:
        """Return the sub-module of a dotted name; self for an empty one.

        Raises:
            AttributeError: there is none of that name.
        """
        found: Any = self
        for part in target.split(".") if target else ():
            found = found.get(part) if isinstance(found, dict) else None
            if not isinstance(found, mlx.nn.Module):
                raise AttributeError(f"{type(self).__name__} has no sub-module {target!r}")
        submodule: mlx.nn.Module = found
        return submodule

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add an array that is saved but never trained.

        Args:
            name: its name in the module.
            tensor: the array; None for none.
            persistent: it is part of the state dict. Default: True.
        """
        if tensor is None or not persistent:
            self.keep(**{name: tensor})
            return
        self[name] = as_array(tensor, f"buffer {name}")
        self.keep(_registered=(*getattr(self, "_registered", ()), name))
        self.freeze(keys=[name], recurse=False)

    def unfreeze(self, *args: Any, **kwargs: Any) -> Module:
        """Unfreeze as MLX does, but never what ``register_buffer`` has added."""
        super().unfreeze(*args, **kwargs)
        for module in self.modules():
            names = module.__dict__.get("_registered", ())
            if names:
                module.freeze(keys=list(names), recurse=False)
        return self

    def add_module(self, name: str, module: mlx.nn.Module) -> None:
        """Add a sub-module under a name."""
        self[name] = module

    register_module = add_module

    def keep(self, **options: Any) -> None:
        """Set plain attributes whose values MLX would take for parts of the module, e.g. tuples."""
        for name, value in options.items():
            object.__setattr__(self, name, value)

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return ""

    def _extra_repr(self) -> str:
        return self.extra_repr()
