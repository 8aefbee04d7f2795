"""The optional part of the build: the fused CPU kernel, where a C++20 compiler is found.

Without one, or without mlx's headers, the wheel is a pure one and everything runs on MLX's own
operations. All other settings stand in pyproject.toml.
"""

import os
import platform
import runpy
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
NATIVE = Path("lstm_bridge/core/native")
FLAGS = ["-std=c++20", "-O3", "-g0", "-fvisibility=hidden", "-fno-strict-aliasing", "-pthread"]


def compiles():
    """Whether there is a compiler, and one that knows C++20: a failed build is no pure wheel."""
    from distutils.ccompiler import new_compiler
    from distutils.errors import CCompilerError, DistutilsError
    from distutils.sysconfig import customize_compiler

    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as scratch:
        probe = Path(scratch, "probe.cpp")
        probe.write_text("#include <compare>\nauto f(int a, int b) { return a <=> b; }\n")
        try:
            compiler.compile([str(probe)], output_dir=scratch, extra_postargs=FLAGS[:1])
        except (CCompilerError, DistutilsError, OSError):
            return False
    return True


class SideBySide(build_ext):
    """Compile an extension's files on all processors: one instruction set takes up to a minute."""

    def build_extension(self, ext):
        """Build as setuptools does, with a compiler that takes several files at a time.

        One of them is told what all of them are, so that a change of one compiles no other anew.
        """
        compile_some = self.compiler.compile
        digest = runpy.run_path(str(HERE / NATIVE / "sources.py"))["digest"]()

        def compile_one(source, macros, options):
            told = (
                [("LSTM_BRIDGE_SOURCES", f'"{digest}"')] if source.endswith("binding.cpp") else []
            )
            return compile_some([source], macros=[*macros, *told], **options)

        def compile_all(sources, *, macros, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                done = pool.map(lambda source: compile_one(source, macros, options), sources)
                return list(chain.from_iterable(done))

        self.compiler.compile = compile_all
        super().build_extension(ext)


def aim_at_this_mac():
    """Compile for this processor, and for a macOS that has what C++20's atomics wait with.

    A Python from python.org would have code for two processors, and for macOS 10.9 or 10.13; mlx
    is for one, and for macOS 14.
    """
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
    os.environ.setdefault("MACOSX_DEPLOYMENT_TARGET", "14.0")


def mlx_beside():
    """Where macOS finds libmlx: beside an installed package, or from an editable one's folder."""
    places = "@loader_path/../../..", sysconfig.get_path("platlib")
    return [f"-Wl,-rpath,{place}/mlx/lib" for place in places]


def _files(pattern):
    return sorted(str(path.relative_to(HERE)) for path in (HERE / NATIVE).glob(pattern))


def fused():
    """The extension, or none where it cannot be compiled."""
    try:
        import mlx
        import nanobind
    except ImportError as missing:
        print(f"lstm-bridge: no fused CPU kernel, {missing}", file=sys.stderr)
        return []
    package = Path(next(iter(mlx.__path__)))
    binding = Path(nanobind.__file__).parent
    if sys.platform == "win32" or not (package / "include/mlx/mlx.h").exists():
        print("lstm-bridge: no fused CPU kernel, mlx has no headers here", file=sys.stderr)
        return []
    if sys.platform == "darwin":
        aim_at_this_mac()
    if not compiles():
        print("lstm-bridge: no fused CPU kernel, no C++20 compiler was found", file=sys.stderr)
        return []
    return [
        Extension(
            "lstm_bridge.core.native._fused",
            sources=_files("*.cpp"),
            depends=_files("*.hpp") + _files("*.inc"),
            include_dirs=[
                str(package / "include"),
                str(binding / "include"),
                str(binding / "src"),
                str(binding / "ext/robin_map/include"),
            ],
            # MLX's own types are found under MLX's nanobind domain.
            define_macros=[("NDEBUG", None), ("NB_COMPACT_ASSERTIONS", None), ("NB_DOMAIN", "mlx")],
            extra_compile_args=FLAGS,
            # mlx.core is imported first, and has loaded libmlx; macOS asks for a path all the same.
            extra_link_args=mlx_beside() if sys.platform == "darwin" else [],
            library_dirs=[str(package / "lib")],
            libraries=["mlx"],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=fused(), cmdclass={"build_ext": SideBySide})
