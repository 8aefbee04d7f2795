"""Coverage-guided fuzzing of one format's parser with atheris: ``make fuzz``.

``python tests/fuzz/fuzz_checkpoints.py NAME [libFuzzer options]``; NAME is a small file of the
test suite, and the seed. An input is refused by a typed error of one line, or it is read exactly as
the format's own library reads it; anything else is a finding. The same promises are tested without
atheris, on fewer inputs, in ``tests/checkpoints/test_fuzz_parsers.py``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def beside(name: str) -> ModuleType:
    """Return a module of ``tests/checkpoints``, where the seeds and the references are."""
    path = HERE.parent / "checkpoints" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"checkpoints_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agrees(flips: ModuleType, name: str, raw: bytes, ours: object) -> bool:
    """Compare with the format's own library, in a child: some of them crash on damaged files."""
    child = os.fork()
    if child == 0:
        try:
            same = flips.same(ours, flips.reference(name, raw))
        except BaseException:  # the library is stricter: we took what it refuses
            same = False
        os._exit(0 if same else 1)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0


def main() -> None:
    """Fuzz the parser of the format that the first argument names."""
    try:
        import atheris
    except ImportError:
        print("fuzz: skipped, atheris has no wheel for this Python and system")
        return
    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["lstm_bridge.checkpoints"]):
        from lstm_bridge import checkpoints

        list(checkpoints.formats())  # imported now, so that they are instrumented
    flips, made = beside("test_flips_and_truncations"), beside("conftest")
    name, options = sys.argv[1], sys.argv[2:]
    folder = Path(tempfile.mkdtemp(prefix="lstm_bridge_fuzz_"))
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(made.small_files()[name])
    count = 0

    def one_input(raw: bytes) -> None:
        nonlocal count
        ours = flips.outcome(made.Makers, folder / name, raw)
        if ours is not None:
            count += 1
            # A fork costs more than a parse: look at every one at first, then at some.
            if (count < 200 or count % 20 == 0) and not agrees(flips, name, raw, ours):
                raise AssertionError("accepted, and not read as the format's own library reads it")

    kept = f"-artifact_prefix={folder}{os.sep}"  # a finding is kept there, and named
    atheris.Setup([sys.argv[0], kept, *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
