"""GRUs and simple RNNs of live torch and Keras on every variant of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from native_one_state import judged

import lstm_bridge.keras as ours_keras
import lstm_bridge.torch.nn as ours_torch

N, L, D, H = 7, 9, 5, 20
Found = dict[str, Any]

TORCH: dict[str, dict[str, Any]] = {
    "GRU": {},
    "GRU, two layers in both directions": {"num_layers": 2, "bidirectional": True},
    "GRU, batch first": {"batch_first": True, "bias": False},
    "RNN": {"num_layers": 2},
    "RNN, relu in both directions": {"nonlinearity": "relu", "bidirectional": True},
}
KERAS: dict[str, dict[str, Any]] = {
    "GRU": {},
    "GRU, reset first": {"reset_after": False},
    "GRU, reset first and backwards": {"reset_after": False, "go_backwards": True},
    "GRU, zeros for masked": {"zero_output_for_mask": True, "use_bias": False},
    "SimpleRNN": {},
    "SimpleRNN, relu": {"activation": "relu", "go_backwards": True},
}
LENGTHS = [9, 4, 1, 9, 6, 2, 7]


def numbers(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def of_torch(layer: Any, inputs: list[Any], dtype: torch.dtype, packed: bool) -> Found:
    layer.to(dtype).zero_grad()
    x, h, dy, dh = (torch.tensor(a, dtype=dtype) for a in inputs)
    x.requires_grad_()
    h.requires_grad_()
    given = x
    if packed:
        given = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(LENGTHS), layer.batch_first, enforce_sorted=False
        )
    y, last = layer(given, h)
    if packed:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, layer.batch_first)
    ((y * dy).sum() + (last * dh).sum()).backward()
    found = {"y": y, "h_n": last, "dx": x.grad, "dh": h.grad}
    found |= {f"d{name}": p.grad for name, p in layer.named_parameters()}
    return {name: a.detach().numpy().copy() for name, a in found.items()}


def of_ours(layer: Any, inputs: list[Any], packed: bool) -> Found:
    x, h, dy, dh = map(mx.array, inputs)
    utils = ours_torch.utils.rnn

    def loss(parameters: Any, x: mx.array, h: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        layer.update(parameters)
        given = x
        if packed:
            given = utils.pack_padded_sequence(
                x, mx.array(LENGTHS), layer.batch_first, enforce_sorted=False
            )
        y, last = layer(given, h)
        y = utils.pad_packed_sequence(y, layer.batch_first)[0] if packed else y
        return (y * dy).sum() + (last * dh).sum(), y, last

    with mx.stream(mx.cpu):
        own = layer.parameters()
        (_, y, last), (slopes, dx, dh0) = mx.value_and_grad(loss, (0, 1, 2))(own, x, h)
        found = {"y": y, "h_n": last, "dx": dx, "dh": dh0}
        return found | {f"d{name}": a for name, a in slopes.items()}


def torch_sides(name: str, seed: int, packed: bool, mistake: bool = False) -> list[Found]:
    """Ours, torch's, and torch's in float64."""
    kind, options = name.partition(",")[0], TORCH[name]
    torch.manual_seed(seed)
    theirs, ours = (getattr(m, kind)(D, H, **options) for m in (torch.nn, ours_torch))
    for key, p in theirs.named_parameters():
        setattr(ours, key, mx.array(p.detach().numpy()))
    if mistake:
        ours.weight_hh_l0 = ours.weight_hh_l0[::-1]
    K = 2 if options.get("bidirectional") else 1
    depth = options.get("num_layers", 1) * K
    first = (N, L) if options.get("batch_first") else (L, N)
    inputs = [numbers(seed, *first, D), numbers(seed + 9, depth, N, H),
              numbers(seed + 8, *first, K * H), numbers(seed + 7, depth, N, H)]  # fmt: skip
    found = of_ours(ours, inputs, packed)
    source = of_torch(theirs, inputs, torch.float32, packed)
    return [found, source, of_torch(theirs, inputs, torch.float64, packed)]


def failing(sides: Callable[[int], list[Found]]) -> list[str]:
    draws = [sides(seed) for seed in range(3)]
    return judged(*zip(*draws, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TORCH)
def test_torch_layers(variant: str, name: str, packed: bool) -> None:
    assert not failing(lambda seed: torch_sides(name, seed, packed)), variant


@pytest.mark.parametrize("name", ["GRU", "RNN"])
def test_a_wrong_torch_port_is_noticed(variant: str, name: str) -> None:
    """Negative control."""
    found = failing(lambda seed: torch_sides(name, seed, packed=False, mistake=True))
    assert {"y", "h_n", "dx", "dweight_hh_l0"} <= {f.partition(":")[0] for f in found}, variant


@pytest.mark.parametrize("kind", ["GRUCell", "RNNCell", "RNNCell, relu"])
def test_torch_cells(variant: str, kind: str) -> None:
    def sides(seed: int) -> list[Found]:
        name, _, phi = kind.partition(", ")
        options = {"nonlinearity": phi} if phi else {}
        torch.manual_seed(seed)
        theirs, ours = (getattr(m, name)(D, H, **options) for m in (torch.nn, ours_torch))
        for key, p in theirs.named_parameters():
            setattr(ours, key, mx.array(p.detach().numpy()))
        found: list[Found] = [{}, {}, {}]
        for rows in ((), (N,)):
            x, h = numbers(seed, *rows, D), numbers(seed + 1, *rows, H)
            for given in ((x, h), (x,)):
                with mx.stream(mx.cpu):
                    y = np.array(ours(*map(mx.array, given)))
                wide = [y]
                for dtype in (torch.float32, torch.float64):
                    arrays = [torch.tensor(a, dtype=dtype) for a in given]
                    wide.append(theirs.to(dtype)(*arrays).detach().numpy())
                for side, value in zip(found, wide, strict=True):
                    side[f"{rows} {len(given)}"] = value
        return found

    assert not failing(sides), variant


def keras_sides(name: str, seed: int, masked: bool, mistake: bool = False) -> list[Found]:
    """Ours, Keras's, and Keras's in float64."""
    kind, options = name.partition(",")[0], KERAS[name]
    options = {**options, "return_sequences": True, "return_state": True}
    made = [
        getattr(lib.layers, kind)(H, dtype=dtype, **options)
        for lib, dtype in ((ours_keras, "float32"), (keras, "float32"), (keras, "float64"))
    ]
    for layer in made:
        layer.build((N, L, D))
    weights = [numbers(seed + k, *w.shape) * 0.2 for k, w in enumerate(made[1].get_weights())]
    for layer in made:
        layer.set_weights(weights)
    x, h, dy = numbers(seed, N, L, D), numbers(seed + 9, N, H), numbers(seed + 8, N, L, H)
    mask = np.arange(L)[None] < np.array([9, 4, 0, 9, 6, 2, 7])[:, None] if masked else None
    wrong = [weights[0], weights[1][::-1].copy(), *weights[2:]] if mistake else weights
    made[0].set_weights(wrong)
    found = [ours_of_keras(made[0], x, h, dy, mask)]
    for layer, dtype in zip(made[1:], (torch.float32, torch.float64), strict=True):
        found.append(theirs_of_keras(layer, dtype, x, h, dy, mask))
    return found


def ours_of_keras(layer: Any, x: Any, h: Any, dy: Any, mask: Any) -> Found:
    keep = None if mask is None else mx.array(mask)

    def loss(model: Any, x: mx.array, h: mx.array) -> tuple[mx.array, ...]:
        y, last = model(x, initial_state=[h], mask=keep)
        return (y * mx.array(dy)).sum() + last.square().sum(), y, last

    with mx.stream(mx.cpu):
        (_, y, last), (slopes, dx, dh) = mx.value_and_grad(
            lambda p, x, h: loss(layer.update(p), x, h), (0, 1, 2)
        )(layer.parameters(), mx.array(x), mx.array(h))
        found = {"y": y, "h_n": last, "dx": dx, "dh": dh}
        flat = dict(mlx.utils.tree_flatten(slopes))
        return found | {f"d{name.rpartition('.')[2]}": a for name, a in flat.items()}


def theirs_of_keras(layer: Any, dtype: torch.dtype, x: Any, h: Any, dy: Any, mask: Any) -> Found:
    given, state, down = (torch.tensor(a, dtype=dtype) for a in (x, h, dy))
    given.requires_grad_()
    state.requires_grad_()
    keep = None if mask is None else torch.tensor(mask)
    y, last = layer(given, initial_state=[state], mask=keep)
    ((y * down).sum() + last.square().sum()).backward()
    found = {"y": y, "h_n": last, "dx": given.grad, "dh": state.grad}
    found |= {f"d{w.name}": w.value.grad for w in layer.trainable_weights}
    return {name: a.detach().numpy() for name, a in found.items()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KERAS)
def test_keras_layers(variant: str, name: str, masked: bool) -> None:
    assert not failing(lambda seed: keras_sides(name, seed, masked)), variant


@pytest.mark.parametrize("name", ["GRU, reset first", "SimpleRNN"])
def test_a_wrong_keras_port_is_noticed(variant: str, name: str) -> None:
    """Negative control."""
    found = failing(lambda seed: keras_sides(name, seed, masked=True, mistake=True))
    assert {"y", "h_n", "dx", "drecurrent_kernel"} <= {f.partition(":")[0] for f in found}, variant
