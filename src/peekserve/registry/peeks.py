"""An application's peek, built from the files that its declaration names."""

from pathlib import Path

from peekserve.domain.application import Application
from peekserve.errors import DataUnavailable
from peekserve.peeking.peek import Peek, build_peek, deciding_peek
from peekserve.registry.labelled import read_labelled


def peek_of(application: Application) -> Peek | None:
    """The peek, its k chosen where that is asked for; None where the application has none.

    Raises DataUnavailable when the reference is missing, and what `build_peek` and `deciding_peek` raise.
    """
    spec = application.peek
    if spec is None:
        return None
    if spec.decision is not None:
        # Imported here: most peeks need no network, and the runtime is 40 MB of the front's memory.
        from peekserve.runtimes.onnx import OnnxRuntime

        return deciding_peek(spec, application, OnnxRuntime())
    if not Path(spec.reference).is_file():
        raise DataUnavailable(f"{application.name}: the peek's reference data {spec.reference} are missing")
    data = read_labelled(Path(spec.reference), application)
    return build_peek(spec, application, data.inputs, data.labels, data.lengths, groups=data.groups)
