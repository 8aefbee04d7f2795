"""What the file system can do to a conversion: the page's File system paragraph, line by line."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lstm_bridge

D, H = 3, 5
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX's files, signals and limits")
RUN = [sys.executable, "-c", "from lstm_bridge.cli import main; main()"]

PAGE = (
    "output exists without --force",
    "output is the input (link, case-fold)",
    "output is a directory, FIFO, device, symlink",
    "read-only directory",
    "disk full mid-write",
    "kill -9 at any point",
    "two writers to one target",
    "SIGINT cleans up",
    "input changes while read",
    "input is a FIFO or /dev/zero",
    "file larger than RAM",
    "mode follows umask",
    "names with newlines or invalid UTF-8 still give one line",
)
"""The lines of the page; the tests below say which of them they are a case of."""


def line(number: int) -> pytest.MarkDecorator:
    """Mark a test as a case of the page's line of that number."""
    return pytest.mark.parametrize("at", [PAGE[number]])


def save(path: Path, hidden: int = H) -> Path:
    torch.manual_seed(hidden)
    torch.save(torch.nn.LSTM(D, hidden).state_dict(), path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "m.pt")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }


@line(0)
@pytest.mark.parametrize("options", [(), ("--to", "torch")])
def test_an_existing_output_needs_force(at, options, source, bridge, tmp_path) -> None:
    target = tmp_path / ("out.pt" if options else "out")
    assert bridge(tmp_path, "convert", "m.pt", target.name, *options).status == 0
    result = bridge(tmp_path, "convert", "m.pt", target.name, *options)
    what = "a file" if options else "a folder"
    assert result.stderr == (
        f"error[E600] {target}: expected no such path, got {what}; pass --force to replace it\n"
    )
    assert result.status == 4
    assert bridge(tmp_path, "convert", "m.pt", target.name, *options, "--force").status == 0


@line(1)
@POSIX
@pytest.mark.parametrize("kind", ["itself", "hard link", "symbolic link", "through a folder link"])
def test_the_input_is_never_the_output(at, kind, source, bridge, tmp_path) -> None:
    name = "n.pt"
    if kind == "itself":
        name = "m.pt"
    elif kind == "hard link":
        os.link(source, tmp_path / name)
    elif kind == "symbolic link":
        os.symlink("m.pt", tmp_path / name)
    else:
        os.symlink(".", tmp_path / "here")
        name = "here/m.pt"
    result = bridge(tmp_path, "convert", "m.pt", name, "--to", "torch", "--force")
    assert result.stderr == (
        f"error[E600] {name}: expected a target apart from the source, got one that is or holds "
        "it; choose another target\n"
    )
    assert result.status == 4


@line(1)
def test_case_does_not_make_another_file(at, source, bridge, tmp_path) -> None:
    if not (tmp_path / "M.PT").exists():
        pytest.skip("this file system tells m.pt from M.pt")
    result = bridge(tmp_path, "convert", "m.pt", "M.pt", "--to", "torch", "--force")
    assert "expected a target apart from the source" in result.stderr


@line(1)
def test_a_shard_is_an_input_too(at, bridge, tmp_path) -> None:
    save(tmp_path / "m.pt")
    assert bridge(tmp_path, "convert", "m.pt", "a.safetensors", "--to", "torch").status == 0
    names = torch.nn.LSTM(D, H).state_dict()
    index = ", ".join(f'"{name}": "a.safetensors"' for name in names)
    (tmp_path / "i.safetensors.index.json").write_text('{"weight_map": {' + index + "}}")
    arguments = ("i.safetensors.index.json", "a.safetensors", "--to", "torch", "--force")
    result = bridge(tmp_path, "convert", *arguments)
    assert "expected a target apart from the source" in result.stderr


@line(2)
@POSIX
@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("folder", "a folder"),
        ("FIFO", "a device, FIFO or socket"),
        ("device", "a device, FIFO or socket"),
        ("link to nothing", "a link"),
        ("link to a folder elsewhere", "a link"),
    ],
)
def test_an_output_of_another_kind_is_left_alone(
    at, kind, said, force, source, bridge, tmp_path
) -> None:
    target = tmp_path / "out.pt"
    if kind == "folder":
        target.mkdir()
    elif kind == "FIFO":
        os.mkfifo(target)
    elif kind == "device":
        target = Path("/dev/null.pt") if os.path.exists("/dev/null.pt") else Path(os.devnull)
    else:
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to("nothing" if kind == "link to nothing" else "elsewhere")
    if kind == "device":
        result = bridge(tmp_path, "convert", "m.pt", target, *force)  # as the folder to make
    else:
        result = bridge(tmp_path, "convert", "m.pt", "out.pt", "--to", "torch", *force)
    assert result.stderr == (
        f"error[E600] {target}: expected no such path, got {said}; choose another target\n"
    )
    assert result.status == 4


def unprivileged() -> bool:
    return os.name == "posix" and os.geteuid() != 0


@line(3)
@pytest.mark.parametrize("options", [(), ("--to", "torch")])
def test_a_read_only_folder_is_one_line(at, options, source, bridge, tmp_path) -> None:
    if not unprivileged():
        pytest.skip("root may write anywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    target = tmp_path / "closed" / "out.pt"
    result = bridge(tmp_path, "convert", "m.pt", target, *options)
    assert result.stderr == (
        f"error[E600] {target}: expected a writable place, got Permission denied; nothing was "
        "written: make room or choose another target\n"
    )


@line(3)
def test_a_place_that_cannot_be_is_one_line(at, source, bridge, tmp_path) -> None:
    """As read-only folders are, for root too: below a file, and beyond the length of names."""
    for target in (tmp_path / "m.pt" / "out", tmp_path / ("x" * 300), tmp_path / "a" / ("x" * 300)):
        result = bridge(tmp_path, "convert", "m.pt", target)
        assert ": expected a writable place, got " in result.stderr
        assert result.status == 4


def limited(bytes_: int) -> None:
    """In the child: no file may grow beyond this, as if the disk were full there."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


@line(4)
@POSIX
@pytest.mark.parametrize("target", ["out", "o.pt", "o.safetensors", "o.keras", "o.weights.h5"])
def test_a_full_disk_leaves_the_old_output_whole(at, target, tmp_path) -> None:
    save(tmp_path / "big.pt", 64)
    save(tmp_path / "small.pt")
    to = {"out": [], "o.pt": ["--to", "torch"], "o.safetensors": ["--to", "mlx"]}
    options = to.get(target, ["--to", "keras"])
    for size in (None, 100, 5000, 40_000):
        name = "small.pt" if size is None else "big.pt"
        before = contents(tmp_path)
        done = subprocess.run(
            [*RUN, "convert", name, target, "--force", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=None if size is None else lambda size=size: limited(size),
        )
        if size is None:
            assert done.returncode == 0, done.stderr
            continue
        assert done.returncode == 4, done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"error[E600] {tmp_path / target}: expected a writable place")
        assert contents(tmp_path) == before


KILLED = """
import sys, lstm_bridge
from lstm_bridge.models import convert
for line in sys.stdin:
    source, target, *to = line.split()
    print("begun", flush=True)
    lstm_bridge.convert(source, target, to=to[0] if to else None, force=True)
    print("done", flush=True)
"""


@line(5)
@POSIX
@pytest.mark.parametrize("target", ["out", "o.pt"])
def test_kill_at_any_moment_leaves_old_or_new(at, target, tmp_path) -> None:
    """The process is loaded first, so that random moments fall within the conversion."""
    to = ["torch"] if target.endswith(".pt") else []
    wholes = []
    for hidden in (48, 64):
        save(tmp_path / f"{hidden}.pt", hidden)
        where = tmp_path / target
        lstm_bridge.convert(tmp_path / f"{hidden}.pt", where, to=to[0] if to else None, force=True)
        wholes.append(contents(where) if where.is_dir() else {"": where.read_bytes()})
    rng = random.Random(0)
    ends = set()
    for number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            # Warm: the same call once, elsewhere.
            process.stdin.write(" ".join(["48.pt", f"warm.{number}.{target}", *to]) + "\n")
            process.stdin.flush()
            assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "done\n"]
            for k in range(200):
                process.stdin.write(" ".join([f"{(48, 64)[k % 2]}.pt", target, *to]) + "\n")
            process.stdin.flush()
            process.stdout.readline()
            time.sleep(rng.random() * 0.05)
            process.kill()
            process.wait()
        where = tmp_path / target
        now = contents(where) if where.is_dir() else {"": where.read_bytes()}
        assert now in wholes
        ends.add(wholes.index(now))
    assert ends <= {0, 1}


@line(6)
@POSIX
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("target", ["out", "o.pt"])
def test_of_two_writers_one_wins_whole(at, target, force, tmp_path) -> None:
    options = ["--to", "torch"] if target.endswith(".pt") else []
    sizes = (48, 64)
    writers = []
    for hidden in sizes:
        save(tmp_path / f"{hidden}.pt", hidden)
        command = [*RUN, "convert", f"{hidden}.pt", target, *options, *force]
        writers.append(
            subprocess.Popen(
                command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
            )
        )
    ended = [(writer.communicate()[1], writer.returncode) for writer in writers]
    statuses = sorted(status for _, status in ended)
    assert statuses[0] == 0
    if not force:
        assert statuses == [0, 4]
    for said, status in ended:
        assert said.count("\n") == bool(status)
    found = lstm_bridge.inspect(tmp_path / target)
    assert found.layers[0].options["hidden_size"] in sizes
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {target, *(f"{hidden}.pt" for hidden in sizes)}


@line(6)
@pytest.mark.parametrize("target", ["out", "o.pt"])
def test_a_faster_writer_is_not_overwritten(at, target, source, tmp_path) -> None:
    """The other one's output appears while ours is half done."""
    to = "torch" if target.endswith(".pt") else None
    other = save(tmp_path / "other.pt", 7)

    def faster(done: int, total: int) -> None:
        if not (tmp_path / target).exists():
            lstm_bridge.convert(other, tmp_path / target, to=to)

    with pytest.raises(lstm_bridge.BridgeError, match="expected no such path, got a f"):
        lstm_bridge.convert(source, tmp_path / target, to=to, progress=faster)
    assert lstm_bridge.inspect(tmp_path / target).layers[0].options["hidden_size"] == 7
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "other.pt", target}


INTERRUPTED = """
import os, signal, sys
from lstm_bridge.models import account
# A shell's background job is started with SIGINT ignored; a user's terminal is what is meant here.
signal.signal(signal.SIGINT, signal.default_int_handler)
passing = account.Digests.passing
def slow(self, name, fill):
    for block in passing(self, name, fill):
        os.kill(os.getpid(), signal.SIGINT)
        yield block
account.Digests.passing = slow
from lstm_bridge.cli import main
main()
"""


@line(7)
@POSIX
@pytest.mark.parametrize("target", ["deep/er/out", "o.pt"])
def test_sigint_cleans_up(at, target, source, tmp_path) -> None:
    options = ["--to", "torch"] if target.endswith(".pt") else []
    before = contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "convert", "m.pt", target, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; what was not finished is not written\n"
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]


@line(8)
@pytest.mark.parametrize("change", ["longer", "shorter", "other bytes"])
def test_an_input_that_changes_is_refused(at, change, source, tmp_path) -> None:
    raw = source.read_bytes()

    def meddle(done: int, total: int) -> None:
        new = {
            "longer": raw + b"x",
            "shorter": raw[:-1],
            "other bytes": raw[:99] + raw[100:] + b"y",
        }
        source.write_bytes(new[change])
        os.utime(source, ns=(1, 1))

    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(source, tmp_path / "out", progress=meddle)
    assert str(caught.value) == (
        f"[E600] {source}: expected a file at rest, got one that changed while it was read; try "
        "again"
    )
    assert not (tmp_path / "out").exists()


@line(9)
@POSIX
@pytest.mark.parametrize(
    ("kind", "said"),
    [("FIFO", "a FIFO"), ("/dev/zero", "a character device"), ("folder", "")],
)
def test_an_input_without_end_is_not_read(at, kind, said, bridge, tmp_path) -> None:
    name = "in.pt"
    if kind == "FIFO":
        os.mkfifo(tmp_path / name)
    elif kind == "/dev/zero":
        name = kind
    else:
        (tmp_path / name).mkdir()
        result = bridge(tmp_path, "inspect", name)
        assert "expected a regular file, got a directory" in result.stderr
        return
    result = bridge(tmp_path, "convert", name, "out")
    assert result.stderr == (
        f"error[E600] {name}: expected a regular file, got {said}; give the path of a checkpoint "
        "file\n"
    )
    assert result.status == 4


LARGE = """
import resource, sys, lstm_bridge
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024)
lstm_bridge.convert("warm.pt", "warm")
before = peak()
lstm_bridge.convert("large.safetensors", "out")
print(peak() - before)
"""


@line(10)
@POSIX
def test_a_large_file_is_streamed(at, tmp_path) -> None:
    """Sixteen layers of 8 MB tensors: far less than the file is held at a time."""
    from safetensors.torch import save_file

    H = 724
    torch.manual_seed(0)
    one = torch.rand(4 * H, H)
    state = {f"weight_{p}_l{k}": one.clone() for k in range(16) for p in ("ih", "hh")}
    save_file(state, tmp_path / "large.safetensors")
    save(tmp_path / "warm.pt")
    size = (tmp_path / "large.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", LARGE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    largest = one.numel() * 4
    assert size > 250 << 20
    assert int(done.stdout) < largest + (24 << 20)


@line(11)
@POSIX
@pytest.mark.parametrize("options", [[], ["--to", "torch"], ["--to", "keras"]])
def test_the_mode_follows_the_umask(at, options, source, tmp_path) -> None:
    target = "out" + {"torch": ".pt", "keras": ".keras", "": ""}[options[-1] if options else ""]
    subprocess.run(
        [*RUN, "convert", "m.pt", target, *options],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        check=True,
        preexec_fn=lambda: os.umask(0o027) and None,
    )
    made = tmp_path / target
    files = made.iterdir() if made.is_dir() else [made]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o640}


NAMES = {
    "newline": (b"a\nb.pt", r"'a\nb.pt'"),
    "invalid UTF-8": (b"a\xffb.pt", r"'a\udcffb.pt'"),
    "escape sequence": (b"a\x1b[31mb.pt", r"'a\x1b[31mb.pt'"),
    "markup": (b"[red]b.pt", "[red]b.pt"),
}


@line(12)
@POSIX
@pytest.mark.parametrize("case", NAMES)
def test_any_name_gives_one_line(at, case, bridge, tmp_path) -> None:
    raw, shown = NAMES[case]
    try:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), raw))).write_bytes(b"what is this?")
    except OSError:
        pytest.skip("this file system takes no such name")
    name = os.fsdecode(raw)
    result = bridge(tmp_path, "convert", name, "out")
    assert result.stderr.startswith(f"error[E100] {shown}: expected a checkpoint (")
    save(tmp_path / "good.pt")
    shutil.copy(tmp_path / "good.pt", tmp_path / name)
    for target in (name + ".out", "out"):
        result = bridge(tmp_path, "convert", name, target)
        assert result.status == 0
    assert bridge(tmp_path, "convert", name, name + ".out").stderr.count("\n") == 1
    assert bridge(tmp_path, "inspect", name).status == 0
    (tmp_path / "tree").mkdir()
    (tmp_path / "good.pt").rename(tmp_path / "tree" / name)
    assert bridge(tmp_path, "convert", "tree", "many").status == 0


def test_every_line_of_the_page_has_a_case() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f"@line({number})\n" in text for number in range(len(PAGE)))
    assert f"@line({len(PAGE)})\n" not in text
