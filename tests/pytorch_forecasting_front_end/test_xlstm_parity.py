"""mLSTM and sLSTM cells, layers and networks against live pytorch-forecasting: values, gradients.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.core import mlstm, native, slstm
from lstm_bridge.equivalence.judge import Verdict

KINDS = {"m": 3, "s": 2}
"""Number of states of each family."""

SIZES = st.fixed_dictionaries(
    {
        "N": st.integers(3, 5),
        "L": st.sampled_from([3, 4, 7, 9]),
        "D": st.sampled_from([2, 4, 7]),
        "H": st.sampled_from([5, 6, 7]),
    }
)
SEEDS = st.integers(0, 2**16)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0.2, 0.8, shape).astype(np.float32)


def cell_case(kind: str, sizes: dict[str, int], seed: int) -> tuple[dict[str, int], list[Any]]:
    N, D, H = sizes["N"], sizes["D"], sizes["H"]
    rng = np.random.default_rng(seed)
    inputs = [draw(rng, N, D), *(draw(rng, N, H) for _ in range(KINDS[kind]))]
    return {"input_size": D, "hidden_size": H}, inputs


def layer_case(
    kind: str, sizes: dict[str, int], layers: int, seed: int
) -> tuple[dict[str, int], list[Any]]:
    N, L, D, H = (sizes[letter] for letter in "NLDH")
    rng = np.random.default_rng(seed)
    states: list[Any] = [draw(rng, layers, N, H) for _ in range(KINDS[kind])]
    if kind == "s":
        states = [list(state) for state in states]
    return (
        {"input_size": D, "hidden_size": H, "num_layers": layers},
        [draw(rng, L, N, D), *states],
    )


def norm_option(kind: str, whole: str, on: bool) -> dict[str, bool]:
    """Return the layer norm switch under the name that this class gives it."""
    return {"layer_norm" if kind == "m" and whole != "Network" else "use_layer_norm": on}


@pytest.mark.parametrize("kind", KINDS)
@given(sizes=SIZES, norm=st.booleans(), seed=SEEDS)
def test_cell(
    parity: Any, settled: Any, kind: str, sizes: dict[str, int], norm: bool, seed: int
) -> None:
    def verdict(seed: int) -> Verdict:
        options, inputs = cell_case(kind, sizes, seed)
        three = parity(f"{kind}LSTMCell", options | norm_option(kind, "Cell", norm), seed)
        return three.both(*inputs, seed=seed)

    assert settled(verdict, seed) == ""


@pytest.mark.parametrize("kind", KINDS)
@given(
    sizes=SIZES,
    same_width=st.booleans(),
    layers=st.integers(1, 3),
    norm=st.booleans(),
    residual=st.booleans(),
    seed=SEEDS,
)
def test_layer(
    parity: Any,
    settled: Any,
    kind: str,
    sizes: dict[str, int],
    same_width: bool,
    layers: int,
    norm: bool,
    residual: bool,
    seed: int,
) -> None:
    sizes = sizes | ({"D": sizes["H"]} if same_width else {})

    def verdict(seed: int) -> Verdict:
        options, inputs = layer_case(kind, sizes, layers, seed)
        options |= norm_option(kind, "Layer", norm)
        options |= {"residual_conn" if kind == "m" else "use_residual": residual}
        return parity(f"{kind}LSTMLayer", options, seed).both(*inputs, seed=seed)

    assert settled(verdict, seed) == ""


@pytest.mark.parametrize("kind", KINDS)
@given(
    sizes=SIZES,
    layers=st.integers(1, 2),
    outputs=st.integers(2, 4),
    norm=st.booleans(),
    seed=SEEDS,
)
def test_network(
    parity: Any,
    settled: Any,
    kind: str,
    sizes: dict[str, int],
    layers: int,
    outputs: int,
    norm: bool,
    seed: int,
) -> None:
    def verdict(seed: int) -> Verdict:
        options, inputs = layer_case(kind, sizes, layers, seed)
        options |= {"output_size": outputs} | norm_option(kind, "Network", norm)
        return parity(f"{kind}LSTMNetwork", options, seed).both(*inputs, seed=seed)

    assert settled(verdict, seed) == ""


@pytest.fixture
def fine(parity: Any, settled: Any) -> Any:
    """Whether a seeded three-layer model of a kind still passes, values and gradients."""

    def passes(kind: str, **changes: Any) -> bool:
        def verdict(seed: int) -> Verdict:
            options, inputs = layer_case(kind, {"N": 4, "L": 6, "D": 3, "H": 5}, 3, seed)
            return parity(f"{kind}LSTMLayer", options, seed, **changes).both(*inputs, seed=seed)

        return bool(settled(verdict, 11) == "")

    return passes


def swap(a: str, b: str) -> Any:
    """Exchange two name parts in all weights' names."""

    def mutate(state: dict[str, Any]) -> dict[str, Any]:
        names = {name: name.replace(a, "\0").replace(b, a).replace("\0", b) for name in state}
        return {name: state[names[name]] for name in state}

    return mutate


def swap_quarters(state: dict[str, Any]) -> dict[str, Any]:
    """Exchange the row blocks of the input and the forget gate."""

    def swapped(array: Any) -> Any:
        i, f, g, o = np.split(array, 4)
        return np.concatenate([f, i, g, o])

    return {
        name: swapped(array) if "_weights" in name or "ln_input" in name else array
        for name, array in state.items()
    }


WEIGHT_MISTAKES = {
    "m: key and value swapped": ("m", swap("k.", "v.")),
    "m: input and forget gate swapped": ("m", swap("i.", "f.")),
    "m: a bias dropped": ("m", lambda s: s | {"cells.1.Wo.bias": 0 * s["cells.1.Wo.bias"]}),
    "m: a layer norm's shift dropped": (
        "m",
        lambda s: s | {"cells.0.ln_k.bias": 0 * s["cells.0.ln_k.bias"]},
    ),
    "s: input and forget gate swapped": ("s", swap_quarters),
    "s: cell and output norm swapped": ("s", swap("ln_cell.", "ln_hidden.")),
    "s: a bias dropped": (
        "s",
        lambda s: s | {"cells.2.hidden_weights.bias": 0 * s["cells.2.hidden_weights.bias"]},
    ),
}


@pytest.mark.parametrize("mistake", WEIGHT_MISTAKES)
def test_a_mistake_in_the_weights_is_caught(fine: Any, mistake: str) -> None:
    kind, mutate = WEIGHT_MISTAKES[mistake]
    assert fine(kind)
    assert not fine(kind, mutate=mutate)


def without_key_sum(x: Any, branches: Any) -> Any:
    right = real_drive(x, branches)
    k = branches.k.norm(branches.k.affine(x) / branches.k.affine(x).shape[-1] ** 0.5)
    return right._replace(to_c=right.to_c / k.sum(axis=-1, keepdims=True))


def without_key_scale(x: Any, branches: Any) -> Any:
    H = branches.k.affine(x).shape[-1]
    unscaled = branches.k._replace(affine=lambda x: branches.k.affine(x) * H**0.5)
    return real_drive(x, branches._replace(k=unscaled))


real_drive, real_read, real_exp, real_step = (
    mlstm.drive,
    mlstm.read,
    slstm.normalized_exp,
    slstm.step,
)

EQUATION_MISTAKES = {
    "m: the keys are not summed": ("m", mlstm, "drive", without_key_sum),
    "m: the keys are not divided by sqrt(H)": ("m", mlstm, "drive", without_key_scale),
    "m: c and n swapped": ("m", mlstm, "read", lambda c, n, o: real_read(n, c, o)),
    "m: n is not normalised": ("m", mlstm, "unit_vector", lambda n, eps: n),
    "m: a time step skipped": (
        "m",
        mlstm,
        "linear_recurrence",
        lambda f, u, c0: u + f * c0,
    ),
    "s: the gates are not centred": ("s", slstm, "normalized_exp", lambda z: (z - z).exp() + z**2),
    "s: the gates are not balanced": (
        "s",
        slstm,
        "input_and_forget",
        lambda zi, zf: (real_exp(zi), real_exp(zf)),
    ),
    "s: h and c swapped": ("s", slstm, "step", lambda zx, h, c, maps: real_step(zx, c, h, maps)),
}


@pytest.mark.parametrize("mistake", EQUATION_MISTAKES)
def test_a_mistake_in_the_equations_is_caught(
    fine: Any, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    kind, module, name, wrong = EQUATION_MISTAKES[mistake]
    assert fine(kind)
    monkeypatch.setattr(module, name, wrong)
    with native.disabled():  # the kernel's own negative control is in tests/native
        assert not fine(kind)
