"""Every layer of lstm_bridge.torch.nn is torch's: text, state dict, values and gradients."""

from __future__ import annotations

import warnings
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge.torch.nn as ours

torch = pytest.importorskip("torch", reason="the live layers are the source")

Case = tuple[str, tuple[Any, ...], dict[str, Any], list[tuple[int, ...]]]

CASES: list[Case] = [
    ("GRU", (4, 5), {"num_layers": 2, "bidirectional": True}, [(6, 3, 4), (4, 3, 5)]),
    ("GRU", (4, 5), {"bias": False, "batch_first": True}, [(3, 6, 4)]),
    ("GRU", (4, 5), {}, [(6, 4)]),
    ("RNN", (4, 5), {"num_layers": 2, "bidirectional": True}, [(6, 3, 4), (4, 3, 5)]),
    ("RNN", (4, 5), {"nonlinearity": "relu", "bias": False}, [(6, 3, 4)]),
    ("GRUCell", (4, 5), {}, [(3, 4), (3, 5)]),
    ("GRUCell", (4, 5), {"bias": False}, [(4,)]),
    ("RNNCell", (4, 5), {"nonlinearity": "relu"}, [(3, 4), (3, 5)]),
    ("RNNCell", (4, 5), {"bias": False}, [(3, 4)]),
    ("Linear", (4, 5), {"bias": False}, [(2, 3, 4)]),
    ("Bilinear", (3, 4, 5), {}, [(2, 3), (2, 4)]),
    ("LayerNorm", ((3, 4),), {}, [(2, 3, 4)]),
    ("LayerNorm", (4,), {"elementwise_affine": False}, [(2, 3, 4)]),
    ("RMSNorm", (4,), {}, [(2, 4)]),
    ("GroupNorm", (2, 4), {}, [(2, 4, 5)]),
    ("GroupNorm", (2, 4), {"affine": False}, [(2, 4)]),
    ("BatchNorm1d", (4,), {}, [(3, 4, 5)]),
    ("BatchNorm1d", (4,), {"momentum": None, "affine": False}, [(3, 4)]),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, [(3, 4)]),
    ("BatchNorm2d", (4,), {"momentum": 0.3}, [(3, 4, 2, 3)]),
    ("InstanceNorm1d", (4,), {"affine": True, "track_running_stats": True}, [(3, 4, 5)]),
    ("InstanceNorm1d", (4,), {}, [(4, 5)]),
    ("Conv1d", (4, 6, 3), {"padding": "same", "padding_mode": "circular"}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, [(2, 4, 9)]),
    ("Conv1d", (4, 6, 3), {"padding": "valid", "bias": False}, [(4, 9)]),
    ("Conv2d", (4, 6, (3, 2)), {"padding": (1, 2), "padding_mode": "reflect"}, [(2, 4, 6, 5)]),
    ("Conv2d", (4, 6, 2), {"stride": (2, 1), "groups": 2, "dilation": (1, 2)}, [(2, 4, 6, 5)]),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, [(2, 4, 5)]),
    ("ConvTranspose1d", (4, 6, 3), {"padding": 1, "groups": 2, "dilation": 2}, [(2, 4, 5)]),
    ("MaxPool1d", (3,), {}, [(2, 4, 9)]),
    ("MaxPool1d", (3, 2, 1), {"dilation": 2, "return_indices": True}, [(2, 4, 9)]),
    ("MaxPool2d", (2, 3), {"ceil_mode": True}, [(2, 4, 6, 5)]),
    ("AvgPool1d", (3, 2, 1), {"count_include_pad": False}, [(2, 4, 9)]),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}, [(2, 4, 6, 6)]),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}, [(2, 4, 6, 6)]),
    ("AdaptiveAvgPool1d", (4,), {}, [(2, 4, 9)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 4, 7, 5)]),
    ("AdaptiveMaxPool1d", (4,), {"return_indices": True}, [(2, 4, 9)]),
    ("AdaptiveMaxPool2d", (3,), {}, [(2, 4, 7, 5)]),
    ("MultiheadAttention", (8, 2), {"bias": False}, [(4, 2, 8), (3, 2, 8), (3, 2, 8)]),
    ("MultiheadAttention", (8, 4), {}, [(4, 8), (3, 8), (3, 8)]),
    (
        "MultiheadAttention",
        (8, 2),
        {"batch_first": True, "add_bias_kv": True, "add_zero_attn": True, "kdim": 5, "vdim": 6},
        [(2, 4, 8), (2, 3, 5), (2, 3, 6)],
    ),
    ("PReLU", (4,), {}, [(2, 4, 3)]),
    ("PReLU", (), {"init": 0.1}, [(2, 4, 3)]),
    ("Softmax", (1,), {}, [(2, 4)]),
    ("Softmin", (1,), {}, [(2, 4)]),
    ("LogSoftmax", (-1,), {}, [(2, 4)]),
    ("GLU", (1,), {}, [(2, 4)]),
    ("GELU", ("tanh",), {}, [(2, 4)]),
    ("Softplus", (2.0, 3.0), {}, [(2, 4)]),
    ("Hardtanh", (-2, 1), {}, [(3, 4)]),
    ("Threshold", (0.1, 20), {}, [(3, 4)]),
    ("LeakyReLU", (0.3,), {"inplace": False}, [(3, 4)]),
    ("ELU", (0.3,), {}, [(3, 4)]),
    ("CELU", (0.3,), {}, [(3, 4)]),
    ("Softshrink", (0.3,), {}, [(3, 4)]),
    ("Hardshrink", (0.3,), {}, [(3, 4)]),
    ("CosineSimilarity", (), {"dim": -1}, [(2, 4), (2, 4)]),
    ("PairwiseDistance", (), {"p": 3.0, "keepdim": True}, [(2, 4), (2, 4)]),
    ("Flatten", (), {"start_dim": 0, "end_dim": 1}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 2)), {}, [(3, 4)]),
    ("Identity", (5,), {"unused": 1}, [(3, 4)]),
    ("ReflectionPad1d", (2,), {}, [(2, 3, 4)]),
    ("ReplicationPad1d", ((1, 2),), {}, [(2, 3, 4)]),
    ("ZeroPad1d", ((1, 2),), {}, [(2, 3, 4)]),
    ("ConstantPad1d", ((1, 2), 3.5), {}, [(3, 4)]),
] + [
    (name, (), {}, [(3, 4)])
    for name in (
        "ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid", "Sigmoid", "Tanh",
        "LogSigmoid", "Softsign", "Tanhshrink", "RReLU",
    )
]  # fmt: skip

RANDOM = {"RReLU"}


def name_of(case: Case) -> str:
    return f"{case[0]}-{'-'.join(map(str, [*case[1], *case[2].items()]))}".replace(" ", "")


def made(case: Case) -> tuple[Any, Any]:
    name, args, kwargs, _ = case
    source, port = getattr(torch.nn, name)(*args, **kwargs), getattr(ours, name)(*args, **kwargs)
    with torch.no_grad():
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter, 0, 0.4)
    port.load_state_dict(source.state_dict())
    return source, port


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_text_and_state_dict_are_torchs(case: Case) -> None:
    source, port = made(case)
    text = repr(source).replace("NonDynamicallyQuantizableLinear", "Linear")
    assert repr(port) == text
    state = source.state_dict()
    assert list(port.state_dict()) == list(state)
    for key, value in port.state_dict().items():
        assert np.array_equal(np.array(value), state[key].numpy())
        assert str(value.dtype).rpartition(".")[2] == str(state[key].dtype).rpartition(".")[2]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_values_and_gradients_are_torchs(
    compared: Any, failures: Any, case: Case, training: bool
) -> None:
    if training and case[0] in RANDOM:
        pytest.skip("draws its own random numbers while training")
    source, port = made(case)
    source.train(training), port.train(training)

    def draw(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(*shape, generator=generator) for shape in case[3])

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")
        assert failures(compared(source, port, draw, gradients=not dead(case, training))) == []


def dead(case: Case, training: bool) -> bool:
    """Whether a true gradient is zero, so that both hold rounding noise only."""
    return case[0] == "MultiheadAttention" or not case[3]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 3, -2])
def test_bags_of_embeddings_are_torchs(mode: str, padding_idx: int | None) -> None:
    source = torch.nn.EmbeddingBag(10, 4, mode=mode, padding_idx=padding_idx)
    port = ours.EmbeddingBag(10, 4, mode=mode, padding_idx=padding_idx)
    port.load_state_dict(source.state_dict())
    assert repr(port) == repr(source)
    flat, starts = torch.tensor([1, 3, 3, 8, 2, 0, 3]), torch.tensor([0, 2, 2, 5])
    square = torch.tensor([[1, 3, 3], [8, 0, 9]])
    weights = torch.tensor([0.5, 2.0, -1.0, 1.0, 3.0, 0.1, 1.5])
    more = [(flat, starts, weights)] if mode == "sum" else []
    for inputs in [(flat, starts), (square,), *more]:
        with torch.no_grad():
            wanted = source(*inputs).numpy()
        got = np.array(port(*[mx.array(x.numpy()) for x in inputs]))
        assert np.abs(got - wanted).max() < 1e-6


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_an_embedding_and_its_gradient_are_torchs(padding_idx: int | None) -> None:
    source = torch.nn.Embedding(5, 4, padding_idx=padding_idx)
    port = ours.Embedding(5, 4, padding_idx=padding_idx)
    port.load_state_dict(source.state_dict())
    assert repr(port) == repr(source)
    tokens = torch.tensor([[1, 2, 2], [0, 4, 1]])
    (source(tokens) ** 2).sum().backward()
    slope = mx.grad(lambda p: (port.update(p)(mx.array(tokens.numpy())) ** 2).sum())
    got = np.array(slope(port.parameters())["weight"])
    assert np.array_equal(got, source.weight.grad.numpy())


@pytest.mark.parametrize(("name", "shape"), [("Dropout", (200, 50)), ("AlphaDropout", (200, 50))])
def test_dropout_keeps_the_moments(name: str, shape: tuple[int, ...]) -> None:
    layer = getattr(ours, name)(0.3)
    x = mx.random.normal(shape)
    y = layer.train()(x)
    spread = 1.0 if name == "AlphaDropout" else (1 / 0.7) ** 0.5
    assert abs(mx.mean(y).item()) < 0.06
    assert abs(mx.std(y).item() - spread) < 0.06
    assert mx.array_equal(layer.eval()(x), x).item()


@pytest.mark.parametrize(
    ("name", "shape"), [("Dropout1d", (64, 8, 5)), ("Dropout2d", (64, 8, 5, 2))]
)
def test_whole_channels_drop(name: str, shape: tuple[int, ...]) -> None:
    y = np.array(getattr(ours, name)(0.5).train()(mx.ones(shape))).reshape(64, 8, -1)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[..., :1]).all()
    assert 0.35 < (y == 0).mean() < 0.65


def test_a_wrong_layer_is_caught(compared: Any, failures: Any) -> None:
    source, port = made(("GRU", (4, 5), {}, [(6, 3, 4)]))
    r, z, n = mx.split(port.weight_hh_l0, 3)
    port.weight_hh_l0 = mx.concatenate([z, r, n])

    def draw(seed: int) -> tuple[Any, ...]:
        return (torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(seed)),)

    assert failures(compared(source, port, draw)) != []


def test_packed_sequences_run_through_gru_and_rnn() -> None:
    from lstm_bridge.torch.nn.utils import rnn

    for name in ("GRU", "RNN"):
        source, port = made((name, (4, 5), {"bidirectional": True, "num_layers": 2}, []))
        x, lengths = torch.randn(6, 3, 4), [2, 6, 4]
        theirs = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        mine = rnn.pack_padded_sequence(mx.array(x.numpy()), lengths, enforce_sorted=False)
        y, h = source(theirs)
        z, g = port(mine)
        assert np.abs(np.array(z.data) - y.data.detach().numpy()).max() < 1e-6
        assert np.abs(np.array(g) - h.detach().numpy()).max() < 1e-6


def test_attention_masks_are_torchs() -> None:
    source, port = made(("MultiheadAttention", (8, 2), {}, []))
    x = torch.randn(4, 3, 8)
    causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
    padding = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]).bool()
    added = torch.randn(6, 4, 4)
    for masks in [
        {"attn_mask": causal},
        {"key_padding_mask": padding},
        {"attn_mask": added, "average_attn_weights": False},
        {"attn_mask": causal, "is_causal": True, "need_weights": False},
    ]:
        with torch.no_grad():
            wanted, weights = source(x, x, x, **masks)
        given = {k: v if isinstance(v, bool) else mx.array(v.numpy()) for k, v in masks.items()}
        z = mx.array(x.numpy())
        got, mine = port(z, z, z, **given)
        assert np.abs(np.array(got) - wanted.numpy()).max() < 1e-5
        assert (mine is None) == (weights is None)
        if weights is not None:
            assert np.abs(np.array(mine) - weights.numpy()).max() < 1e-6


def test_containers_keep_torchs_names() -> None:
    made_of = [ours.Linear(3, 4), ours.ReLU(), ours.Linear(4, 2)]
    chain = ours.Sequential(*made_of)
    assert list(chain.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert chain(mx.ones((2, 3))).shape == (2, 2)
    assert len(chain[1:]) == 2
    assert chain[0] is made_of[0]
    chain.load_weights(list(chain.state_dict().items()))
    other = ours.ModuleDict({"a": ours.ModuleList([ours.Linear(1, 2)])})
    assert list(other.state_dict()) == ["a.0.weight", "a.0.bias"]
    weights = ours.ParameterList([mx.ones((2,)), mx.zeros((3,))])
    assert [w.shape for w in weights] == [(2,), (3,)]
    weights.append(mx.ones((4,)))
    assert list(weights.state_dict()) == ["0", "1", "2"]
