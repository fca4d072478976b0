"""The weights of a supernet, one copy for all the ONNX Runtime sessions of its subnets.

A session takes a weight from outside instead of copying it under these conditions, each of which was measured with 32
subnets over 53 MiB of weights (growth of the process after all of them ran a batch of one row):

1. The graph keeps the weight in a file beside it, and that file is there. We then hand in a view of the same file,
   mapped once: 94 MiB. If each session maps the file by itself, 357 MiB; all of it the same pages of the system, but
   counted, and kept track of, once for each session. If we read it into memory instead of mapping it, as much as
   mapped, and nothing is shared with other processes.
2. No optimiser writes new weights: ConvMulFusion and ConvAddFusion multiply a normalisation into the weights of each
   subnet, and the optimisations above EXTENDED lay convolutions out anew. With both, 404 MiB.
3. Weights of matrix products are not packed when a session is made: that is a copy, too. It costs a product with few
   rows some time (a batch of 61 rows by 384 x 1536: from 6.8 to 8.8 ms; of 488 rows, 43 to 44 ms), and convolutions
   nothing.

What batches need besides is taken from one arena for all sessions, since one runs at a time: 90 MiB after batches of
16 rows, 172 MiB with an arena for each session. The arena outlives them, so whoever unloads them shrinks it: of
98 MiB after batches of 64 rows, 3 stay. It grows by doubling and never gives up its first piece, which is small since
every load ends with one row. (If it grew by what each batch asks for, batches of all sizes took 348 MiB, not 129.)
"""

from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from peekserve.supernets import packed

# What would write a new weight for a subnet: a product or a sum moved into a convolution, a batch normalisation or
# the three products of an attention made into one.
_COPYING = ["ConvMulFusion", "ConvAddFusion", "ConvBNFusion", "MatMulBNFusion", "AttentionFusion"]


class SharedWeights:
    """The exported weights of the supernet in `folder`, mapped. Raises InvalidModel when they are absent, damaged or
    cut off."""

    def __init__(self, folder: str) -> None:
        self._arrays = packed.mapped(packed.weights_of(Path(folder)))
        self._read: dict[int, int] = {}  # by its address, the longest array that a session reads
        # Over the mapped pages themselves: nothing is copied.
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in self._arrays.items()}

    @property
    def bytes(self) -> int:
        """Of what the sessions read, each number once: the weights of subnets that have no session stay on the disk."""
        return sum(self._read.values())

    def share(self, options: ort.SessionOptions, graph: str) -> list[str]:
        """Make the session of this graph that is created with these options read this copy; the optimisers that it
        has to do without. The copy must live as long as the session."""
        _one_arena()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Names that the graph does not have are ignored, at the price of a table in each session: so those are handed
        # in that stand in its bytes.
        content = Path(graph).read_bytes()
        for name, value in self._values.items():
            if name.encode() in content:
                options.add_initializer(name, value)
                array = self._arrays[name]
                self._read[array.ctypes.data] = max(array.nbytes, self._read.get(array.ctypes.data, 0))
        return _COPYING

    def shrink_arena(self, session: ort.InferenceSession) -> None:
        """Give up what the arena has free; only a run can, so `session` runs a row of zeros."""
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        row = {
            one.name: np.zeros([n if isinstance(n, int) else 1 for n in one.shape], np.float32)
            for one in session.get_inputs()
        }
        # The binding raises plain Exceptions of its own making; where zeros do not fit, nothing is freed.
        with suppress(Exception):
            session.run(None, row, options)


@cache
def _one_arena() -> None:
    """For this process, since ONNX Runtime keeps it for good: sessions ask for it by `use_env_allocators`."""
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, None)
