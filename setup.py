"""Compile the kernel into `peekserve.kernel._compiled`; all else is in pyproject.toml.

A table in pyproject.toml cannot do these two things: several files become one extension, in which they call each
other's C functions, and it has to carry the sha256 of the source that it was made from, so that a stale one is refused
at import.
"""

import hashlib
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# In this order, which `peekserve.kernel` knows too: each uses what stands in those before it.
SOURCES = [f"src/peekserve/kernel/{name}.py" for name in ("penalty", "loops", "grouping", "slots", "search")]
GENERATED = Path("build/kernel/_compiled.py")
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}


class BuildKernel(build_ext):
    """Write the sources one after another with their hash at the end, and compile that."""

    def build_extension(self, ext: Extension) -> None:
        source = b"".join(Path(name).read_bytes() for name in SOURCES)
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


setup(ext_modules=[Extension("peekserve.kernel._compiled", SOURCES)], cmdclass={"build_ext": BuildKernel})
