"""Configs that lie, ask too much, or name code: the page's Config paragraph, line by line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy
import torch

from lstm_bridge.core.activations import ACTIVATIONS

D, H = 3, 5
DAMAGED = "the config is damaged"
OTHER_MODEL = "config and weights are not of the same model"


class Case(NamedTuple):
    """A file to make, the options to convert it with, and the one line that must come of it."""

    build: Callable[[Any, Path], str]
    message: str
    options: tuple[str, ...] = ()
    status: int = 3


def keras(config: Callable[[Any], object], message: str, **more: Any) -> Case:
    """Return the case of a ``.keras`` file whose config is wrong."""

    def build(make: Any, folder: Path) -> str:
        make.keras(folder / "m.keras", config(make), more.get("shapes"))
        return "m.keras"

    return Case(build, message, more.get("options", ()))


def option(value: object, message: str, name: str = "units") -> Case:
    return keras(lambda make: make.sequential(make.layer(**{name: value})), message)


def units(value: object) -> Case:
    said = repr(value)
    return option(
        value,
        f"[E400] m.keras:lstm.units: expected an integer from 1 to 16777215, got {said}; {DAMAGED}",
    )


def functional(**inbound: list[Any]) -> Callable[[Any], object]:
    """Return a Functional config of Dense layers that read what ``inbound`` says."""

    def config(make: Any) -> object:
        layers = [make.layer()]
        for name, sources in inbound.items():
            calls = [{"args": [_tensor(source) for source in sources], "kwargs": {}}]
            dense = {"class_name": "Dense", "config": {"name": name, "units": 1}}
            layers.append(dense | {"name": name, "inbound_nodes": calls})
        return {"class_name": "Functional", "config": {"name": "model", "layers": layers}}

    return config


def _tensor(source: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}


def nested(make: Any) -> object:
    model = make.sequential(make.layer())
    for _ in range(40):
        model = make.sequential(model)
    return model


def index_of(weight_map: dict[str, str], **shards: list[str]) -> Callable[[Any, Path], str]:
    """Return what writes shards of the named tensors, and an index that says ``weight_map``."""

    def build(_: Any, folder: Path) -> str:
        state = {k: v.numpy() for k, v in torch.nn.LSTM(D, H, bias=False).state_dict().items()}
        for shard, names in shards.items():
            held = {name: state.get(name, np.zeros(2, np.float32)) for name in names}
            safetensors.numpy.save_file(held, folder / f"{shard}.safetensors")
        index = json.dumps({"metadata": {}, "weight_map": weight_map})
        (folder / "m.safetensors.index.json").write_text(index)
        return "m.safetensors.index.json"

    return build


IH, HH = "weight_ih_l0", "weight_hh_l0"
TWO = {IH: "a.safetensors", HH: "b.safetensors"}
INDEX = "[E200] m.safetensors.index.json"


def bare_square(_: Any, folder: Path) -> str:
    np.savez(folder / "m.npz", kernel=np.ones((4, 4), "f"), recurrent_kernel=np.ones((4, 4), "f"))
    return "m.npz"


def old_weights(_: Any, folder: Path) -> str:
    """tf.keras 2.2 weights without a config: their recurrent activation is anybody's guess."""
    import h5py

    with h5py.File(folder / "m.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"lstm"])
        file.attrs["keras_version"] = "2.2.4-tf"
        group = file.create_group("lstm")
        names = ["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"]
        group.attrs["weight_names"] = np.array([name.encode() for name in names])
        for name, shape in zip(names, ((D, 4 * H), (H, 4 * H), (4 * H,)), strict=True):
            group[name] = np.ones(shape, np.float32)
    return "m.h5"


def rnn(cell: object, **more: object) -> Callable[[Any], object]:
    layer = {"class_name": "RNN", "config": {"name": "rnn", "cell": cell} | more}
    return lambda make: make.sequential(layer)


def around(name: str) -> dict[str, Any]:
    inner = {"class_name": name, "config": {"filepath": "/etc/passwd"}}
    return {"class_name": "Bidirectional", "config": {"name": "b", "layer": inner}}


CELL = {"class_name": "LSTMCell", "config": {"units": H}}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAAAAAAA"}}

CASES: dict[str, dict[str, Case]] = {
    "weights ambiguous without a config": {
        "tf.keras 2.2": Case(
            old_weights,
            "[E400] m.h5:lstm: expected to know recurrent_activation, got no config, and Keras "
            "2.2.4-tf had hard_sigmoid for its default under TensorFlow 1 and sigmoid under "
            "TensorFlow 2; pass --assume recurrent_activation=NAME, or the architecture JSON as "
            "--config",
        ),
        "names of no framework": Case(
            bare_square,
            "[E500] m.npz: expected at least one LSTM-family layer, got 2 tensors of other kinds; "
            "see what the file holds with: lstm-bridge inspect FILE",
        ),
    },
    "units as true, 4.0, '4', 0, -1, 10^12": {
        repr(value): units(value) for value in (True, 4.0, "4", 0, -1, 10**12, None, [5], {})
    },
    "unknown activation": {
        "activation": option(
            "tanhh",
            "[E400] m.keras:lstm.activation: expected one of {activations}, got 'tanhh'; "
            "state a built-in one, or compute the layer elsewhere",
            "activation",
        ),
        "recurrent_activation": option(
            "os.system",
            "[E400] m.keras:lstm.recurrent_activation: expected one of {activations}, "
            "got 'os.system'; state a built-in one, or compute the layer elsewhere",
            "recurrent_activation",
        ),
    },
    "Lambda": {
        "as activation": option(
            LAMBDA,
            "[E400] m.keras:lstm.activation: expected a built-in activation's name, got "
            f"{LAMBDA!r}; custom code is not run",
            "activation",
        ),
        "as the whole model": keras(
            lambda make: {"class_name": "Lambda", "config": {"function": "os.system"}},
            "[E400] m.keras:config: expected a Sequential or Functional model with its layers, got "
            "'Lambda' without a layer list; a subclassed model keeps its layers in code: save its "
            "weights alone (.weights.h5)",
        ),
    },
    "custom or registered object, any module outside the table": {
        "as cell's wrapper": keras(
            lambda make: make.sequential(
                make.layer() | {"module": "evil", "registered_name": "evil>LSTM"}
            ),
            "[E400] m.keras:layers/lstm/cell: expected as many recurrent layers as the config "
            f"names, got further weights 'layers/lstm/cell'; {OTHER_MODEL}",
        ),
        "as activation": option(
            {"module": "os", "class_name": "function", "config": "system"},
            "[E400] m.keras:lstm.activation: expected one of {activations}, got 'system'; state a "
            "built-in one, or compute the layer elsewhere",
            "activation",
        ),
    },
    "TFSMLayer, TorchModuleWrapper": {
        name: keras(
            lambda make, name=name: make.sequential(around(name)),
            "[E400] m.keras:layers/lstm/cell: expected as many recurrent layers as the config "
            f"names, got further weights 'layers/lstm/cell'; {OTHER_MODEL}",
        )
        for name in ("TFSMLayer", "TorchModuleWrapper")
    },
    "unknown layer": {
        "no class": keras(
            lambda make: make.sequential(make.layer(), {"config": {}}),
            "[E400] m.keras:config.layers[1]: expected a serialized layer, got {'config': {}}; "
            "re-save it",
        ),
        "a number": keras(
            lambda make: make.sequential(7),
            "[E400] m.keras:config.layers[0]: expected a serialized layer, got 7; re-save it",
        ),
        "a name that is none": keras(
            lambda make: make.sequential(make.layer(name=["lstm"])),
            "[E400] m.keras:config.layers[0].name: expected a string, got ['lstm']; re-save it",
        ),
        "an unknown class": keras(
            lambda make: make.sequential(make.layer() | {"class_name": "QuantumLSTM"}),
            "[E400] m.keras:layers/lstm/cell: expected as many recurrent layers as the config "
            f"names, got further weights 'layers/lstm/cell'; {OTHER_MODEL}",
        ),
    },
    "an option that changes results": {
        "unknown": option(
            7,
            "[E400] m.keras:lstm: expected options known to Keras 1-3, got peephole=7; report it",
            "peephole",
        ),
        "time_major": option(
            True,
            "[E400] m.keras:lstm: expected time_major=False, got True; re-save the model "
            "without it",
            "time_major",
        ),
        "use_bias as text": option(
            "no",
            "[E400] m.keras:lstm.use_bias: expected true or false, got 'no'; " + DAMAGED,
            "use_bias",
        ),
        "dropout of 7": option(
            7,
            "[E400] m.keras:lstm.dropout: expected a rate from 0 to 1, got 7; " + DAMAGED,
            "dropout",
        ),
        "merge_mode": keras(
            lambda make: make.sequential(
                {
                    "class_name": "Bidirectional",
                    "config": {"name": "b", "merge_mode": "max", "layer": make.layer()},
                }
            ),
            "[E400] m.keras:b.merge_mode: expected one of ('concat', 'sum', 'mul', 'ave', None), "
            f"got 'max'; {DAMAGED}",
        ),
        "of Bidirectional": keras(
            lambda make: make.sequential(
                {
                    "class_name": "Bidirectional",
                    "config": {"name": "b", "gate": 1, "layer": make.layer()},
                }
            ),
            "[E400] m.keras:b: expected options known to Keras 1-3, got gate=1; report it",
        ),
        "of RNN": keras(
            rnn(CELL, num_constants=2),
            "[E400] m.keras:rnn: expected num_constants=False, got 2; re-save the model without it",
        ),
        "of StackedRNNCells": keras(
            rnn(
                {
                    "class_name": "StackedRNNCells",
                    "config": {"cells": [CELL], "reverse_state_order": True},
                }
            ),
            "[E400] m.keras:rnn: expected reverse_state_order=False, got True; re-save the model "
            "without it",
        ),
    },
    "layer-graph cycle": {
        "of two": keras(
            functional(a=["b"], b=["a"]),
            "[E400] m.keras:a: expected layers that can be called one after the other, got a cycle "
            "through a, b; the config is damaged: save the model again",
        ),
        "of one": keras(
            functional(a=["a"]),
            "[E400] m.keras:a: expected layers that can be called one after the other, got a cycle "
            "through a; the config is damaged: save the model again",
        ),
        "of models": keras(
            nested,
            "[E400] m.keras:config.json: expected JSON nested at most 64 deep, got deeper "
            "nesting; get the file again from where it was made",
        ),
    },
    "unresolved inbound node": {
        "Keras 3": keras(
            functional(a=["ghost"]),
            "[E400] m.keras:a: expected inbound nodes of layers in the model, got one of 'ghost', "
            "which is not there; the config is damaged: save the model again",
        ),
    },
    "config and weights disagree on layers, H, D, bias": {
        "more layers": keras(
            lambda make: make.sequential(make.layer(), make.layer(name="second")),
            "[E400] m.keras:second: expected weights of 1 recurrent cell(s), got no group "
            f"'layers/lstm_1/cell'; {OTHER_MODEL}",
        ),
        "fewer layers": keras(
            lambda make: make.sequential({"class_name": "Dense", "config": {"name": "d"}}),
            "[E400] m.keras:layers/lstm/cell: expected as many recurrent layers as the config "
            f"names, got further weights 'layers/lstm/cell'; {OTHER_MODEL}",
        ),
        "H": option(
            6,
            "[E500] m.keras tensor 'layers/lstm/cell/vars/0': expected kernel of shape [3, 24], "
            "got [3, 20]; config and weights disagree, or this is no LSTM",
        ),
        "D": keras(
            lambda make: make.sequential(
                make.layer() | {"build_config": {"input_shape": [None, None, 7]}}
            ),
            "[E500] m.keras tensor 'layers/lstm/cell/vars/0': expected kernel of shape [7, 20], "
            "got [3, 20]; config and weights disagree, or this is no LSTM",
        ),
        "bias": option(
            False,
            "[E500] m.keras tensor 'layers/lstm/cell/vars/2': expected no bias, got [20]; "
            "config and weights disagree, or this is no LSTM",
            "use_bias",
        ),
    },
    "10^9 layers": {
        "in a name": Case(
            lambda _, folder: _saved(folder, {f"weight_hh_l{10**9}": torch.ones(20, 5)}),
            "[E500] m.pt tensor 'weight_hh_l1000000000': expected a layer suffix such as _l0 or "
            "_l1_reverse, got '_l1000000000'; rename the tensor to torch's own spelling, or pass "
            "--ignore",
        ),
        "the last of 10^5": Case(
            lambda _, folder: _saved(
                folder,
                torch.nn.LSTM(D, H, bias=False).state_dict()
                | {f"weight_{p}_l99999": torch.ones(20, 5) for p in ("ih", "hh")},
            ),
            "[E500] m.pt tensor '(root)': expected layer l1, got none; layers and directions must "
            "be complete",
        ),
    },
    "index lists a tensor its shard lacks, or the reverse": {
        "shard lacks": Case(
            index_of(TWO, a=[IH], b=["other"]),
            f"{INDEX}:b.safetensors tensor 'other': expected an index and a shard that agree, got "
            "it only in the shard, not the index; get the file again from where it was made",
        ),
        "index lacks": Case(
            index_of({IH: "a.safetensors"}, a=[IH, HH]),
            f"{INDEX}:a.safetensors tensor 'weight_hh_l0': expected an index and a shard that "
            "agree, got it only in the shard, not the index; get the file again from where it was "
            "made",
        ),
    },
    "shard missing, extra, or outside the directory": {
        "missing": Case(
            index_of(TWO, a=[IH]),
            "[E600] b.safetensors: expected a readable file, got nothing at that path; check the "
            "path",
            status=4,
        ),
        **{
            f"outside: {name}": Case(
                index_of({IH: name}),
                f"{INDEX} tensor 'weight_ih_l0': expected a .safetensors file name beside the "
                f"index, got {name!r}; get the file again from where it was made",
            )
            for name in ("../a.safetensors", "/etc/passwd", "x/../../a.safetensors", "..\\a")
        },
    },
}

ACCEPTED = {
    "Lambda": "Lambda, layer 1 of its model, holds Python code, which is not run",
    "TFSMLayer": "TFSMLayer, layer 1 of its model, reads a TensorFlow SavedModel, which is not "
    "opened",
    "TorchModuleWrapper": "TorchModuleWrapper, layer 1 of its model, holds a pickled torch module, "
    "which is not read",
    "my>Layer": "my>Layer, layer 1 of its model, is a custom object, which is not imported",
}
"""Beside an LSTM that converts, these are left out and said so: their class → what is said."""

PAGE = [*CASES, "string-lookup vocabulary paths"]
"""The lines of the page's paragraph, in its order but for the last."""


def _saved(folder: Path, state: dict[str, torch.Tensor]) -> str:
    torch.save(state, folder / "m.pt")
    return "m.pt"


def expected(message: str) -> str:
    return message.replace("{activations}", ", ".join(ACTIVATIONS))


@pytest.mark.parametrize(
    ("line", "case"), [(line, case) for line, cases in CASES.items() for case in cases]
)
def test_it_is_one_line_and_nothing_else(line, case, make, bridge, tmp_path) -> None:
    build, message, options, status = CASES[line][case]
    name = build(make, tmp_path)
    result = bridge(tmp_path, "convert", name, "out", *options)
    assert result.stderr == f"error{expected(message)}\n"
    assert result.status == status


@pytest.mark.parametrize("kind", ACCEPTED)
def test_code_beside_an_lstm_is_left_out_and_said_so(kind, make, bridge, tmp_path) -> None:
    layer = {"class_name": kind, "config": {"name": "x", "filepath": "/etc/passwd"}}
    make.keras(tmp_path / "m.keras", make.sequential(make.layer(), layer))
    result = bridge(tmp_path, "convert", "m.keras", "out", "--json")
    assert result.status == 0
    assert json.loads(result.stdout)["left_out"] == {"x": ACCEPTED[kind]}


def test_a_vocabulary_path_is_not_opened(make, bridge, tmp_path) -> None:
    """The harness fails on an open outside the folder."""
    lookup = {"class_name": "StringLookup", "config": {"name": "s", "vocabulary": "/etc/passwd"}}
    make.keras(tmp_path / "m.keras", make.sequential(make.layer(), lookup))
    assert bridge(tmp_path, "convert", "m.keras", "out").status == 0


def test_every_line_of_the_page_has_a_case() -> None:
    assert all(CASES.values())
    assert len(PAGE) == 15


def test_the_worker_sees_what_it_must_not(bridge, tmp_path) -> None:
    """Negative control: an open outside the folder is noticed."""
    shutil.copy(Path(__file__), tmp_path / "m.pt")
    outside = tmp_path.parent / "outside.pt"
    outside.write_bytes(b"x" * 100)
    with pytest.raises(AssertionError, match=r"read .*outside\.pt"):
        bridge(tmp_path, "convert", "../outside.pt", "out")
