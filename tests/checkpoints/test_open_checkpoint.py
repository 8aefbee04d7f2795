"""Finding the format; paths that are no checkpoints; nothing executed, imported or opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from lstm_bridge.checkpoints import FORMATS, formats, open_checkpoint
from lstm_bridge.errors import FileSystemError


def test_every_format_has_a_name_of_its_own() -> None:
    kinds = list(formats())
    assert len(kinds) == len(FORMATS)
    assert len({kind.format for kind in kinds}) == len(kinds)
    assert all(suffix.startswith(".") for kind in kinds for suffix in kind.extensions)


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.pt", b"", "[E100] a.pt: expected a checkpoint, got an empty file; "),
        (
            "a.bin",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "[E100] a.bin: expected a checkpoint, got a Git-LFS pointer; "
            "fetch the real file with git lfs pull",
        ),
        (
            "a.safetensors",
            b"\n  <!DOCTYPE html><html>",
            "[E100] a.safetensors: expected a checkpoint, got an HTML page; "
            "download the file itself, not the page about it",
        ),
        ("a.h5", b"<HTML><body>404", "[E100] a.h5: expected a checkpoint, got an HTML page; "),
        ("a.pkl", b"\x80\x04K\x01.", "got a plain pickle, not torch's; save it with torch.save"),
        ("a.json", b'{"class_name": "Model"}', "got JSON without weights; "),
        ("a.zip", b"PK\x05\x06" + bytes(18), "got an empty zip archive; "),
        ("a.xyz", b"what is it", "got unknown magic 'what is '; save it in one of these"),
        ("a.tar", bytes(257) + b"ustar\x0000", "got a tar file, such as torch wrote before 0.4; "),
    ],
)
def test_what_is_no_checkpoint_is_said(refusal, name: str, raw: bytes, message: str) -> None:
    assert message in refusal(name, raw)


def test_an_extension_that_contradicts_the_content_names_both(refusal, files) -> None:
    assert refusal("a.safetensors", files["zip.pt"]) == (
        "[E100] a.safetensors: expected safetensors content in a .safetensors file, "
        "got torch zip content; rename it to *.pt if you trust it"
    )
    assert refusal("a.pt", files["one.safetensors"]) == (
        "[E100] a.pt: expected torch zip content in a .pt file, "
        "got safetensors content; rename it to *.safetensors if you trust it"
    )
    assert "expected keras archive content in a .keras file, got keras legacy h5" in refusal(
        "a.keras", files["legacy.h5"]
    )


def test_an_unknown_extension_is_no_obstacle(write, files) -> None:
    with open_checkpoint(write("weights", files["zip.pt"])) as file:
        assert file.format == "torch zip"


def test_a_zip_of_something_else(refusal, make) -> None:
    assert refusal("a.zip", make.zip({"readme.txt": b"hello"})) == (
        "[E100] a.zip: expected a torch, Keras or NumPy archive, got a zip with 'readme.txt'; "
        "give the weights' file"
    )


def message_for(path: Path) -> str:
    with pytest.raises(FileSystemError) as caught:
        open_checkpoint(path)
    assert caught.value.exit_status == 4
    return str(caught.value).replace(f"{path.parent}{os.sep}", "")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert message_for(tmp_path / "gone.pt") == (
        "[E600] gone.pt: expected a readable file, got nothing at that path; check the path"
    )
    assert message_for(tmp_path) == (
        f"[E600] {tmp_path.name}: expected a regular file, got a directory; "
        "give the path of a checkpoint file"
    )
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        assert "expected a regular file, got a FIFO" in message_for(tmp_path / "pipe.pt")
    if Path("/dev/zero").exists():
        assert "got a character device" in message_for(Path("/dev/zero"))


def test_a_socket_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no sockets in the file system")
    monkeypatch.chdir(tmp_path)  # socket paths are limited to about 100 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("here")
        assert "got a socket" in message_for(Path("here"))


def test_names_with_newlines_and_invalid_utf8_stay_on_one_line(tmp_path: Path) -> None:
    for name in ("two\nlines.pt", os.fsdecode(b"bad\xff.pt"), "x" * 200):
        with pytest.raises(FileSystemError) as caught:
            open_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)
        str(caught.value).encode("utf-8")


def test_a_file_that_changes_while_it_is_read_is_refused(write, files) -> None:
    for name in ("zip.pt", "one.safetensors", "legacy.h5", "stored.npz"):
        path = write(name, files[name])
        with open_checkpoint(path) as file:
            path.write_bytes(files[name] + b"more")
            with pytest.raises(FileSystemError, match="one that changed while it was read"):
                file.read(next(iter(file.tensors)))


class Bomb:
    """Would create a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


PROBE = """
    import sys
    events = []
    armed = False
    def hook(event, args):
        if armed and event in ("open", "import", "exec", "os.system",
                               "subprocess.Popen", "socket.connect", "os.listdir", "os.scandir"):
            events.append((event, str(args[0])))
    sys.addaudithook(hook)
    from lstm_bridge.checkpoints import formats, open_checkpoint
    list(formats())
    split = sys.argv.index("--")
    for path in sys.argv[1:split]:  # codecs and the like load on first use
        with open_checkpoint(path):
            pass
    paths = sys.argv[1:split] + sys.argv[split + 1 :]
    for path in paths:
        armed = True
        with open_checkpoint(path) as file:
            for name in file.tensors:
                file.read(name)
        armed = False
    allowed = set(paths)
    odd = [e for e in events if e[0] != "open" or e[1] not in allowed]
    assert not odd, odd
    assert any(e[0] == "open" for e in events)
    loaded = {"torch", "keras", "tensorflow", "safetensors"} & set(sys.modules)
    assert not loaded, loaded
    print("clean")
"""


def test_nothing_is_executed_imported_or_opened_beside_the_file(
    write, files, make, tmp_path: Path
) -> None:
    target = tmp_path / "executed"
    bombs = [
        write("bomb.pt", make.torch({"w": torch.ones(2), "hyper": Bomb(str(target))})),
        write(
            "legacy_bomb.pt",
            make.torch(
                {"w": torch.ones(2), "hyper": Bomb(str(target))},
                _use_new_zipfile_serialization=False,
            ),
        ),
    ]
    paths = [write(name, raw) for name, raw in files.items()]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE), *map(str, (*paths, "--", *bombs))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "clean", run.stderr
    assert not target.exists()
    with open_checkpoint(bombs[0]) as file:
        assert list(file.tensors) == ["w"]
        assert "kept inert" in file.left_out["hyper"]
        assert ".open" in file.left_out["hyper"]


def test_negative_control_the_bomb_would_have_gone_off(make, tmp_path: Path) -> None:
    import io
    import warnings

    target = tmp_path / "executed"
    raw = make.torch({"hyper": Bomb(str(target))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(io.BytesIO(raw), weights_only=False)["hyper"].close()
    assert target.exists()
