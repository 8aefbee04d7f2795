"""The source of a whole model: the framework that it came from, or the oracle in its place."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.inputs import InputSpec
from lstm_bridge.equivalence.kinds import L, N
from lstm_bridge.equivalence.live import missing_framework
from lstm_bridge.equivalence.oracle.keras_model import KerasOracle
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.equivalence.truth import whole_stand_in
from lstm_bridge.equivalence.whole.keras_file import KerasFile, read_keras

Array = NDArray[Any]

_LENGTHS = (L, 32, 128, 512)
"""Steps that are tried where a model leaves them open: windows may need more than a few."""


class WholeModel(NamedTuple):
    """A whole model that a file holds.

    Args:
        party: who runs it.
        arrays: its weights as they are stored, by the names of a port.
        inputs: names of its inputs.
    """

    party: Party
    arrays: Mapping[str, Array]
    inputs: tuple[str, ...]


def whole_keras(file: Path) -> WholeModel:
    """Return the model of a whole Keras file: Keras itself where it runs it as it was saved.

    Raises:
        UnsupportedError: the file has no architecture of Keras 2 or 3, or a layer without oracle.
        RefusedInput: it cannot be read.
    """
    read = read_keras(file)
    specs = _specs(read.oracle)
    why = missing_framework("keras") or _other_slope(read)
    made: Any = None if why else _loaded(file)
    if isinstance(made, str):
        why = made
    if why:
        party = whole_stand_in(read.oracle, f"{why}: the oracle is the reference", specs)
    else:
        party = replace(party_of(made, "source"), specs=specs, whole=lambda: read.oracle)
    return WholeModel(party, read.arrays, tuple(i.name for i in read.oracle.inputs))


def _other_slope(read: KerasFile) -> str:
    return "Keras 3 gives hard_sigmoid another slope than Keras 2" if read.keras2_slope else ""


def _loaded(file: Path) -> Any:
    """The live model, or one line of why Keras does not load it."""
    import keras

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of optimizers that are not compiled, and the like
            return keras.saving.load_model(str(file), compile=False)
    except Exception as error:  # a stranger's file may break Keras in any way
        return f"keras {keras.__version__} does not load it: {type(error).__name__}"


def _specs(oracle: KerasOracle) -> tuple[InputSpec, ...]:
    """Inputs for which the model returns something."""
    rows = oracle.vocabulary()
    made: tuple[InputSpec, ...] = ()
    for length in _LENGTHS:
        made = tuple(_spec(i.shape, i.dtype, rows.get(i.name), length) for i in oracle.inputs)
        drawn = [spec.draw(np.random.default_rng(0)) for spec in made]
        try:
            if all(np.size(out) for out in leaves(oracle(*drawn))):
                break
        except (ValueError, IndexError):  # a window longer than the sequence
            continue
    return made


def _spec(shape: tuple[int | None, ...], dtype: str, rows: int | None, length: int) -> InputSpec:
    sizes = (N, *(length if size is None else size for size in shape[1:]))
    if rows is not None:
        return InputSpec(sizes, 0, rows, "int32")
    if dtype.startswith(("int", "uint")):
        return InputSpec(sizes, 0, 2, "int32")
    return InputSpec(sizes, dtype="bool") if dtype == "bool" else InputSpec(sizes)
