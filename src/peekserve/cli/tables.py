"""What people look at in a terminal: the live view of a run, and the tables at its end."""

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from peekserve.domain.application import Application
from peekserve.experiments.comparison import Difference
from peekserve.experiments.recalls import Named, heaviest, named, worst
from peekserve.experiments.workload import Workload
from peekserve.loadgen.client import Reply
from peekserve.results import Row, summary


class Watch:
    """A run as it happens: who answers, how well, and the newest decisions with their reasons."""

    def __init__(self, workload: Workload, seconds: float) -> None:
        self._workload = workload
        self._seconds = seconds
        self._answers: dict[str, Counter[str]] = defaultdict(Counter)
        self._total: Counter[str] = Counter()
        self._met: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._last: deque[Text] = deque(maxlen=8)
        self._now = 0.0

    def seen(self, index: int, reply: Reply) -> None:
        """One more reply. Cheap: it is called while the load runs."""
        row = self._workload.row(index, reply)
        self._now = max(self._now, reply.done_at)
        who = row.variants[0] if row.variants else row.reason.value
        self._answers[row.application][who] += 1
        self._total[row.application] += 1
        self._met[row.application] += row.in_time
        self._right[row.application] += bool(row.correct)
        if index % 7 == 0:  # a sample of the decisions: all of them would only flicker
            self._last.append(_decision(row, who))

    def render(self) -> Group:
        table = Table(
            title=f"{self._now:4.1f} of {self._seconds:.0f} s", title_justify="left", header_style="bold"
        )
        for column, side in (
            ("application", "left"),
            ("in time", "right"),
            ("right", "right"),
            ("answered by", "left"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for name in sorted(self._workload.applications):
            total = max(self._total[name], 1)
            met, right = self._met[name] / total, self._right[name] / total
            who = "  ".join(f"{n} {k}" for k, n in self._answers[name].most_common())
            table.add_row(name, f"{met:.0%}", f"{right:.0%}", who)
        return Group(table, *self._last)


def _decision(row: Row, who: str) -> Text:
    spent = (row.settled_at - row.arrived_at) * 1e3
    left = (row.due_at - row.settled_at) * 1e3
    believed = "" if row.believed != row.believed else f"believed {row.believed:.2f}, "
    right = "right" if row.correct else "wrong" if row.variants else "no answer"
    style = "green" if row.correct and row.in_time else "red"
    return Text(
        f"  {row.application:<11} -> {who:<20} {believed}after {spent:5.1f} ms, {left:5.1f} left, {right}",
        style,
    )


def policies(
    rows: Mapping[str, Sequence[Row]],
    simulated: Mapping[str, Sequence[Row]],
    title: str = "Realised utility, live",
) -> Table:
    """One line for each policy, live beside simulated if both ran. It fits eighty columns."""
    table = _table(title)
    table.add_column("policy", no_wrap=True)
    # Eighty columns hold one of the two.
    beside, then = (("simu-\nlated",), ()) if simulated else ((), ("right\nthen",))
    for column in ("utility", "95%", *beside, "accuracy", "in\ntime", *then, "by\npeek", "p95\nms"):
        table.add_column(column, justify="right", no_wrap=True)
    best = max(summary(r).utility for r in rows.values())
    for name, policy_rows in rows.items():
        s = summary(policy_rows)
        table.add_row(
            name,
            f"{s.utility:.3f}",
            f"{s.low:.3f}..{s.high:.3f}",
            *(f"{summary(simulated[name]).utility:.3f}" if name in simulated else "" for _ in beside),
            f"{s.accuracy:.3f}",
            f"{s.deadlines_met:.1%}",
            *(f"{s.accuracy_in_time:.3f}" for _ in then),
            f"{s.by_peek:.1%}",
            f"{s.p95_s * 1e3:.0f}",
            style="bold green" if s.utility == best else None,
        )
    table.caption = (_BESIDE if simulated else _THEN) + _WORDS
    return table


_BESIDE = """simulated: the same scheduler and arrivals in pretended time, batches at the
pace that they had live.
"""
_THEN = """in time: of all requests; right then: of those, the share that was right.
"""
_WORDS = """utility: a right answer in time, weighed by its class; accuracy: right ones
among the answers. aware: expected accuracy from a peek at each request; sc:
the peek may answer (short-circuit). Without sc a request that nothing can
answer in time is turned away. All drop doomed work and merge batches.
calibrated: beliefs by measured votes, as horizon has them; -escalate: no row
is asked of a second model."""


def recalls(rows: Mapping[str, Sequence[Row]], applications: Mapping[str, Application]) -> Table:
    """What a mean hides, application by application: the class that each policy finds least often, and, where classes
    are weighed, the one that weighs most."""
    table = _table("By application")
    table.add_column("policy", no_wrap=True)
    table.add_column("utility", justify="right", no_wrap=True)
    heavy = any(len(set(app.weights)) > 1 for app in applications.values())
    for column in ("worst class", "heaviest class") if heavy else ("worst class",):
        table.add_column(column, overflow="fold")
        table.add_column("found", justify="right", no_wrap=True)
        table.add_column("95%", no_wrap=True)
    for name in sorted(applications):
        table.add_row(Text(name, "bold"))
        for policy, policy_rows in rows.items():
            own = named(policy_rows, applications)
            utility = summary([r for r in policy_rows if r.application == name]).utility
            line = [*_found(worst(own, name)), *(_found(heaviest(own, name)) if heavy else ())]
            table.add_row(f"  {policy}", f"{utility:.3f}", *line)
    table.caption = """found: of all rows that truly are of the class, the share answered
so and in time, with Wilson's interval. Every row counts as one
there, whatever its class weighs. All classes: --json."""
    return table


def _found(one: Named | None) -> tuple[Text, str, str]:
    """A class may be named like markup, so this is none."""
    if one is None:
        return Text(""), "", ""
    low, high = one.recall.found_interval
    return Text(one.name), f"{one.recall.found_share:.2f}", f"{low:.2f}..{high:.2f}"


def paired(found: Sequence[Difference]) -> Table:
    """Paired differences over the same arrivals, with their intervals, and what each shows below its names."""
    table = _table("Who leads whom, request by request")
    table.add_column("policy - against", overflow="fold")
    for column in ("difference", "95%", ""):
        table.add_column(column, no_wrap=True)
    for d in found:
        sign = "ahead" if d.low > 0 else "behind" if d.high < 0 else "not separated"
        colour = {"ahead": "green", "behind": "red"}.get(sign, "yellow")
        who = Text(f"{d.name} - {d.against}\n").append(f"  {d.what}", "dim")
        table.add_row(who, f"{d.mean:+.3f}", f"{d.low:+.3f}..{d.high:+.3f}", Text(sign, colour))
    return table


def _table(title: str) -> Table:
    """Many columns in a narrow terminal: no lines between them."""
    return Table(
        title=title,
        title_justify="left",
        header_style="bold",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
