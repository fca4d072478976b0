"""Compile `loops.py` into `peekserve.kernel._loops`; all else is in pyproject.toml.

A table in pyproject.toml cannot do this one thing: the extension has to carry the sha256 of the source it
was made from, so that a stale one is refused at import.
"""

import hashlib
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = "src/peekserve/kernel/loops.py"
GENERATED = Path("build/kernel/_loops.py")
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}


class BuildKernel(build_ext):
    """Write a copy of the source with its hash at the end, and compile that."""

    def build_extension(self, ext: Extension) -> None:
        source = Path(SOURCE).read_bytes()
        copy = source.decode() + f'\nSOURCE_SHA256 = "{hashlib.sha256(source).hexdigest()}"\n'
        if not GENERATED.exists() or GENERATED.read_text() != copy:
            GENERATED.parent.mkdir(parents=True, exist_ok=True)
            GENERATED.write_text(copy)
        named = Extension(ext.name, [str(GENERATED)])
        [made] = cythonize([named], compiler_directives=DIRECTIVES, force=True, quiet=True)
        ext.sources = made.sources
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/O2", "/fp:precise"]
        else:
            # No fused multiply-add: the same inputs give the same plan on every machine.
            ext.extra_compile_args = ["-O3", "-ffp-contract=off", "-g0"]
        super().build_extension(ext)


setup(ext_modules=[Extension("peekserve.kernel._loops", [SOURCE])], cmdclass={"build_ext": BuildKernel})
