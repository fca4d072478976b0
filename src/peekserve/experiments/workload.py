"""One workload for two worlds: the same arrivals and samples, sent to a live server or to a simulation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, Score
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source, TensorRef
from peekserve.loadgen.arrivals import Arrival
from peekserve.loadgen.client import Call, Reply
from peekserve.registry.labelled import Labelled
from peekserve.results import Row, row
from peekserve.server.calls import value_names
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import RecordedWorld

# A live run begins when the server is ready; a simulated one with workers that still load. By then they have.
LOADED_BY_S = 30.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Arrivals over labelled samples. Every request has one row and its application's default deadline."""

    applications: Mapping[str, Application]
    labelled: Mapping[str, Labelled]
    arrivals: Sequence[Arrival]

    def request(self, index: int) -> Request:
        arrival = self.arrivals[index]
        deadline_s = self.applications[arrival.application].query().deadline_s
        key = TensorRef(str(arrival.sample))
        return Request(f"r{index}", arrival.application, arrival.at, arrival.at + deadline_s, payload=key)

    def label(self, index: int) -> int:
        arrival = self.arrivals[index]
        return int(self.labelled[arrival.application].labels[arrival.sample])

    # ---- live ----

    def calls(self) -> list[Call]:
        """Each arrival as an OIP request with binary tensors; bodies of one sample are made once."""
        bodies: dict[tuple[str, int], tuple[bytes, dict[str, str]]] = {}
        calls = []
        for arrival in self.arrivals:
            key = (arrival.application, arrival.sample)
            if key not in bodies:
                bodies[key] = self._body(*key)
            body, headers = bodies[key]
            calls.append(Call(arrival.at, f"/v2/models/{arrival.application}/infer", body, headers))
        return calls

    def _body(self, name: str, sample: int) -> tuple[bytes, dict[str, str]]:
        labelled = self.labelled[name]
        tensors, raw = [], b""
        for spec in self.applications[name].inputs:
            values = labelled.inputs[spec.name][sample]
            if spec.name in labelled.lengths:
                values = values.take(
                    range(int(labelled.lengths[spec.name][sample])), axis=spec.shape.index(-1)
                )
            data = np.ascontiguousarray(values[None]).tobytes()
            size = {"binary_data_size": len(data)}
            tensors.append(
                {
                    "name": spec.name,
                    "shape": [1, *values.shape],
                    "datatype": spec.datatype,
                    "parameters": size,
                }
            )
            raw += data
        # Scores are long, and only one way of judging looks at them.
        wanted = ("label", "scores") if self.applications[name].score is Score.QUADRATIC else ("label",)
        outputs = [{"name": output, "parameters": {"binary_data": False}} for output in wanted]
        header = json.dumps({"inputs": tensors, "outputs": outputs}).encode()
        return header + raw, {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        }

    def rows(self, replies: Sequence[Reply]) -> list[Row]:
        """What the clients saw, one row for each request; lateness is theirs too."""
        return [self.row(index, reply) for index, reply in enumerate(replies)]

    def row(self, index: int, reply: Reply) -> Row:
        request = self.request(index)
        app = self.applications[request.application]
        if reply.status != 200:
            outcome, reason = _OUTCOMES.get(reply.status, (Outcome.FAILED, Reason.BACKEND_ERROR))
            return row(request, app, [self.label(index)], outcome, reason, (), reply.done_at)
        told = _INFER.decode(reply.body)
        source = Source(str(told.parameters["source"]))
        believed = told.parameters.get(value_names(app)[0])
        answer = RowAnswer(
            label=int(told.outputs[0].data[0]),
            scores=tuple(told.outputs[1].data) if len(told.outputs) > 1 else (),
            source=source,
            variant=None if source is Source.PEEK else str(told.parameters["variant"]),
            expected_accuracy=None if believed is None else float(believed),
        )
        late = reply.done_at > request.due_at
        outcome, reason = (Outcome.LATE, Reason.LATE) if late else (Outcome.ANSWERED, Reason.OK)
        return row(request, app, [self.label(index)], outcome, reason, (answer,), reply.done_at)

    # ---- simulated ----

    def simulate(
        self, spec: SchedulerSpec, world: RecordedWorld, workers: Sequence[SimWorker], seed: int = 0
    ) -> list[Row]:
        """The same arrivals through the same scheduler in pretended time."""
        recorded = world.recorded
        requests = []
        for index, arrival in enumerate(self.arrivals):
            request = self.request(index)
            buckets = recorded[arrival.application].buckets
            bucket = int(buckets[arrival.sample]) if buckets is not None else 0
            at, due_at = request.arrived_at + LOADED_BY_S, request.due_at + LOADED_BY_S
            requests.append(replace(request, arrived_at=at, due_at=due_at, bucket=bucket))
        settled = Simulation(spec.build(self.applications.values()), workers, world, seed).run(requests)
        return [
            row(s.request, self.applications[s.request.application], [self.label(i)],
                s.answer.outcome, s.answer.reason, s.answer.rows, s.at)
            for i, s in enumerate(settled)
        ]  # fmt: skip


class _Output(msgspec.Struct):
    data: list[float]


class _Infer(msgspec.Struct):
    outputs: list[_Output]
    parameters: dict[str, str | int | float | bool | None] = {}


_INFER = msgspec.json.Decoder(_Infer)

_OUTCOMES = {
    503: (Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE),
    504: (Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED),
    500: (Outcome.FAILED, Reason.BACKEND_ERROR),
}
