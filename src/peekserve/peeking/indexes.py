"""How the nearest labelled examples are found: exactly, or nearly so in less time. The only file that imports Faiss.

    flat    all distances. Exact; its cost grows with n.
    ivf     k-means splits the reference into `cells`; only the `probes` nearest cells are looked into.
    hnsw    a walk along a graph with `links` links at each point, `breadth` candidates wide.
    lsh     `bits` signs of random projections; the candidates nearest by their bits are then ranked by their true
            distances (SneakPeek, section 4.2, names this one).

Which one `auto` takes was measured: bench/bench_neighbours.py, one core, one row at a time, k = 5. Builds are alike to
the last bit on one machine: fixed seeds, one thread.
"""

from math import ceil, sqrt
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from peekserve.domain.application import IndexKind, IndexSpec
from peekserve.errors import InvalidConfiguration

Floats32 = npt.NDArray[np.float32]

# To here an exact search of 16 to 64 features costs at most 0.1 ms a row, and what an index would save is less than an
# exact vote is worth. Beyond, hnsw takes 0.04 to 0.09 ms, and where data have no structure it loses the fewest
# neighbours: of 64 independent features it finds 0.91 at 20,000 rows and 0.73 at 100,000, ivf at its defaults 0.55.
# That is worth the seconds that it takes to build.
AUTO_FLAT = 20_000
SEED = 1234
CANDIDATES = 32  # of lsh: so many times k are ranked by their true distances


class Index:
    """An index over `reference`, float32 [n, D]. `kind` is what it is, never `auto`.

    Raises InvalidConfiguration for options that ask more of the reference than it holds.
    """

    def __init__(self, reference: Floats32, spec: IndexSpec) -> None:
        self._reference = np.ascontiguousarray(reference, dtype=np.float32)
        self.kind = chosen(spec, len(reference))
        # Faiss keeps this number for each calling thread. A graph built by several threads differs from run to run.
        faiss.omp_set_num_threads(1)
        self._index = _BUILD[self.kind](self._reference, spec)

    @property
    def width(self) -> int:
        return int(self._reference.shape[1])

    def nearest(self, features: Floats32, k: int) -> npt.NDArray[np.int64]:
        """int64 [m, k]: the nearest examples of each row, the nearest first. Where an approximate index finds fewer
        than k, that row is searched exactly."""
        # Said anywhere but in the calling thread it would not hold here. It must not take the cores of the workers.
        faiss.omp_set_num_threads(1)
        found: npt.NDArray[np.int64] = self._index.search(features, k)[1]
        short = np.flatnonzero((found < 0).any(axis=1))
        if len(short):
            # -1 would be a perfectly good index in Python.
            found[short] = faiss.knn(features[short], self._reference, k)[1]
        return found


def chosen(spec: IndexSpec, rows: int) -> IndexKind:
    """The kind of index for so many examples."""
    if spec.kind is not IndexKind.AUTO:
        return spec.kind
    return IndexKind.FLAT if rows <= AUTO_FLAT else IndexKind.HNSW


def _flat(reference: Floats32, spec: IndexSpec) -> Any:
    index = faiss.IndexFlatL2(reference.shape[1])
    index.add(reference)
    return index


def _ivf(reference: Floats32, spec: IndexSpec) -> Any:
    rows, width = reference.shape
    # Faiss asks for 39 examples a cell; four times the root of n is its own rule of thumb.
    cells = spec.cells or max(1, min(int(4 * sqrt(rows)), rows // 39))
    if cells > rows:
        raise InvalidConfiguration(
            f"an ivf index of {cells} cells cannot be made of {rows} labelled examples"
        )
    if spec.probes > cells:
        raise InvalidConfiguration(f"an ivf index cannot look into {spec.probes} of {cells} cells")
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
    index.cp.seed = SEED
    index.cp.min_points_per_centroid = 1
    index.train(reference)
    index.add(reference)
    index.nprobe = spec.probes or min(cells, max(8, ceil(cells / 16)))
    return index


def _hnsw(reference: Floats32, spec: IndexSpec) -> Any:
    index = faiss.IndexHNSWFlat(reference.shape[1], spec.links or 32)
    index.hnsw.efConstruction = 80
    index.hnsw.efSearch = spec.breadth or 64
    index.add(reference)
    return index


def _lsh(reference: Floats32, spec: IndexSpec) -> Any:
    width = reference.shape[1]
    coarse = faiss.IndexLSH(width, spec.bits or max(64, 8 * width))
    index = faiss.IndexRefineFlat(coarse)
    index.k_factor = CANDIDATES
    index.train(reference)
    index.add(reference)
    return index


_BUILD = {
    IndexKind.FLAT: _flat,
    IndexKind.IVF: _ivf,
    IndexKind.HNSW: _hnsw,
    IndexKind.LSH: _lsh,
}
