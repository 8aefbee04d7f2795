"""A folder of checkpoints: what converts, what is refused and gone past, what is no checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from click.testing import CliRunner

import lstm_bridge
from lstm_bridge.cli import main

D, H = 3, 5
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def lstm() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return torch.nn.LSTM(D, H).state_dict()


def sharded(folder: Path) -> None:
    folder.mkdir(parents=True)
    state = {name: tensor.numpy() for name, tensor in lstm().items()}
    weight_map = {}
    for number, names in enumerate((list(state)[:2], list(state)[2:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        safetensors.numpy.save_file({name: state[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two checkpoints, a broken one, a GRU, a sharded one, a converted one, and other files."""
    root = tmp_path / "zoo"
    (root / "a" / "deep").mkdir(parents=True)
    torch.save(lstm(), root / "a" / "deep" / "model.pt")
    torch.save(lstm(), root / "a" / "no_suffix")
    shutil.copy(FIXTURES / "keras_forecaster.keras", root)
    (root / "broken.pt").write_bytes((root / "a" / "no_suffix").read_bytes()[:-200])
    torch.save(torch.nn.GRU(D, H).state_dict(), root / "a" / "gru.pth")
    sharded(root / "sharded")
    lstm_bridge.convert(root / "a" / "no_suffix", root / "ported")
    (root / "README.md").write_text("# Zoo")
    (root / "a" / "config.json").write_text('{"hidden_size": 5}')
    return root


FATES = {
    "README.md": "skipped",
    "broken.pt": "refused",
    "keras_forecaster.keras": "converted",
    "ported": "converted",
    "a/config.json": "skipped",
    "a/gru.pth": "refused",
    "a/no_suffix": "converted",
    "a/deep/model.pt": "converted",
    "sharded/model-00001-of-00002.safetensors": "skipped",
    "sharded/model-00002-of-00002.safetensors": "skipped",
    "sharded/model.safetensors.index.json": "converted",
}


def test_every_file_has_its_fate_and_refusals_do_not_stop_the_rest(tree: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    out = tree.parent / "out"
    report = lstm_bridge.convert_tree(tree, out, progress=lambda *step: seen.append(step))
    assert {one.path: one.fate for one in report.outcomes} == FATES
    assert report.exit_status == 3
    why = {one.path: one.detail for one in report.outcomes}
    assert "expected a whole zip archive, got one cut short" in why["broken.pt"]
    assert "looks like a GRU" in why["a/gru.pth"]
    assert why["README.md"] == "no checkpoint"
    assert why["sharded/model-00001-of-00002.safetensors"] == "a shard, read through its index"
    todo = [path for path, fate in FATES.items() if fate != "skipped"]
    assert sorted(path for path, _, _ in seen) == sorted([*todo, ""])
    assert [(done, total) for _, done, total in seen] == [(k, len(todo)) for k in range(8)]
    made = {str(mark.parent.relative_to(out)) for mark in out.rglob("config.json")}
    assert made == {path for path, fate in FATES.items() if fate == "converted"}
    for path in ("a/no_suffix", "a/deep/model.pt", "sharded/model.safetensors.index.json"):
        ported = lstm_bridge.load(out / path)
        assert np.array_equal(np.array(ported.weight_hh_l0), lstm()["weight_hh_l0"].numpy())


def test_nothing_is_overwritten_without_force(tree: Path) -> None:
    out = tree.parent / "out"
    lstm_bridge.convert_tree(tree, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = lstm_bridge.convert_tree(tree, out)
    assert not again.of("converted")
    refused = {one.path: one for one in again.of("refused")}
    assert refused["a/no_suffix"].detail == (
        f"[E600] {out}/a/no_suffix: expected no such path, got a folder; pass --force to replace it"
    )
    assert refused["a/no_suffix"].exit_status == 4
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    forced = lstm_bridge.convert_tree(tree, out, force=True)
    assert len(forced.of("converted")) == 5


def test_only_the_file_system_in_the_way_is_exit_4(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    torch.save(lstm(), tmp_path / "zoo" / "m.pt")
    assert lstm_bridge.convert_tree(tmp_path / "zoo", tmp_path / "out").exit_status == 0
    assert lstm_bridge.convert_tree(tmp_path / "zoo", tmp_path / "out").exit_status == 4


def test_two_names_never_share_one_output(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    for name in ("m", "m.safetensors"):
        torch.save(lstm(), tmp_path / "zoo" / name)
    os.rename(tmp_path / "zoo" / "m.safetensors", tmp_path / "keep")
    lstm_bridge.convert(tmp_path / "keep", tmp_path / "zoo" / "m.safetensors", to="torch")
    report = lstm_bridge.convert_tree(tmp_path / "zoo", tmp_path / "out", to="torch", force=True)
    assert [(one.path, one.fate) for one in report.outcomes] == [
        ("m", "converted"),
        ("m.safetensors", "refused"),
    ]
    assert report.outcomes[0].detail == "m.safetensors"
    assert "that of another checkpoint of the tree" in report.outcomes[1].detail


def test_links_do_not_lead_out_or_round(tree: Path, tmp_path: Path) -> None:
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "a" / "up").symlink_to("..", target_is_directory=True)
    outside = tmp_path / "elsewhere.pt"
    torch.save(lstm(), outside)
    (tree / "outside.pt").symlink_to(outside)
    (tree / "inside.pt").symlink_to("a/deep/model.pt")
    (tree / "self.pt").symlink_to("self.pt")
    report = lstm_bridge.convert_tree(tree, tmp_path / "out")
    got = {one.path: (one.fate, one.detail) for one in report.outcomes}
    assert got["loop"] == got["a/up"] == ("skipped", "a link to a folder")
    assert got["outside.pt"] == ("skipped", "a link out of the tree")
    assert got["inside.pt"][0] == "converted"
    assert got["self.pt"][0] in ("refused", "skipped")
    assert len(got) == len(FATES) + 5


def test_a_target_inside_the_tree_is_not_walked(tree: Path) -> None:
    lstm_bridge.convert_tree(tree, tree / "out")
    again = lstm_bridge.convert_tree(tree, tree / "out", force=True)
    assert {one.path for one in again.outcomes} == set(FATES)


@pytest.mark.parametrize("target", [".", "..", "../zoo/../zoo"])
def test_a_target_that_is_or_holds_the_tree_is_refused(tree: Path, target: str) -> None:
    with pytest.raises(lstm_bridge.BridgeError, match="expected a target apart from the source"):
        lstm_bridge.convert_tree(tree, tree / target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "caffe"}, "to: expected one of mlx, torch, keras, got 'caffe'"),
        ({"layout": "tf"}, "layout: expected one of source, mlx, got 'tf'"),
        ({"assume": {"batchfirst": True}}, "assume: expected one of"),
    ],
)
def test_an_option_that_is_wrong_for_all_stops_at_once(
    tree: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(lstm_bridge.BridgeError, match=message):
        lstm_bridge.convert_tree(tree, tree.parent / "out", **options)
    assert not (tree.parent / "out").exists()


def test_a_file_is_no_tree(tree: Path) -> None:
    for path in (tree / "broken.pt", tree / "ported", tree / "sharded", tree / "nothing"):
        with pytest.raises(lstm_bridge.BridgeError, match="expected a folder of checkpoints"):
            lstm_bridge.convert_tree(path, tree.parent / "out")


def test_a_folder_that_is_one_sharded_checkpoint_converts_as_one(tree: Path) -> None:
    lstm_bridge.convert(tree / "sharded", tree.parent / "one")
    assert lstm_bridge.load(tree.parent / "one").hidden_size == H


def test_the_command_ends_with_a_table_and_exit_3(tree: Path) -> None:
    result = CliRunner().invoke(main, ["convert", str(tree), str(tree.parent / "out")])
    assert result.exit_code == 3
    assert result.stderr == ""
    for path in FATES:
        assert path in result.stdout
    assert result.stdout.endswith("5 converted, 2 refused, 4 skipped\n")


def test_the_command_speaks_json(tree: Path) -> None:
    arguments = ["convert", str(tree), str(tree.parent / "out"), "--to", "torch", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert {one["path"]: one["fate"] for one in report["outcomes"]} == FATES
    torch.load(tree.parent / "out" / "a" / "deep" / "model.pt", weights_only=True)
