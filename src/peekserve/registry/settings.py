"""How one box serves: peekserve.yaml, the environment and the command line, and where each value came from.

The order is command line > environment > file > default. `PEEKSERVE_LIMITS__ROWS=64` is the key
`limits.rows`; its value is written as it would be in the file.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from peekserve.config import Entry, Misread, Problems, Section, parse, read
from peekserve.domain.application import OnMiss, check_name
from peekserve.policies import PLANNED, POLICIES, YARDSTICKS
from peekserve.registry.doors import (
    ACCESS,
    GRPC,
    HTTP,
    Address,
    Drain,
    Limits,
    Tls,
    address,
    drain,
    grpc,
    limits,
    tls,
)
from peekserve.registry.stated import DEVICES

FILE = "peekserve.yaml"
PREFIX = "PEEKSERVE_"
BELIEFS = ("calibrated", "dirichlet")
ESCALATE = {"auto": None, "on": True, "off": False}
SUPERNETS = ("onnx", "torch")
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Which policy plans, its switches (policies/base.py) and its own options."""

    name: str = "horizon"
    aware: bool = True
    short_circuit: bool = True
    drop: bool = True
    merge: bool = True
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker process: its device, the bytes of weights it may hold, and the cores it is bound to (none:
    any). `pace`: the device whose stated timings it keeps to, in place of its own pace; empty for its own.
    """

    name: str = "cpu-0"
    device: str = "cpu:0"
    memory: int = 1 << 30
    cores: tuple[int, ...] = ()
    pace: str = ""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`window_s`: 0 plans at each event, above 0 once in that many seconds. `rebalance_s`: how often
    what is left of a window's plan is planned again, 0 for never. `margin_s`: taken off every
    deadline for the way back. `peek_patience_s`: how long a row waits for its peek before it is planned
    with the prior. `on_miss`: for every application, instead of what each says. `normalise`: value answers
    against the best variant of their application. `beliefs`: how evidence becomes a belief, empty for the way that
    goes with the policy. `escalate`: may a row that a model ran be asked of another one, None for what goes with the
    policy; `escalate_gain`: expected accuracy that the other one must add. `follow_pace`: learn how long batches really
    take, and plan with that (core/pace.py). `state`, `journal`: a folder and a file;
    empty for the default folder and for no journal. `supernets`: which runtime their subnets run in; other models
    always run in ONNX Runtime. `grpc`: None when switched off. `access`: who may ask (docs/security.md). `tls`: None to
    speak plainly. `drain`: how the server ends (docs/deployment.md).
    """

    http: Address = HTTP
    grpc: Address | None = GRPC
    policy: PolicySettings = PolicySettings()
    window_s: float = 0.0
    rebalance_s: float = 0.0
    workers: tuple[Slot, ...] = (Slot(),)
    margin_s: float = 0.005
    peek_patience_s: float = 0.010
    on_miss: OnMiss | None = None
    normalise: bool = False
    beliefs: str = ""
    escalate: bool | None = None
    escalate_gain: float = 0.02
    follow_pace: bool = True
    limits: Limits = field(default_factory=Limits)
    log: str = "info"
    state: str = ""
    journal: str = ""
    supernets: str = "onnx"
    access: str = "auto"
    tls: Tls | None = None
    drain: Drain = field(default_factory=Drain)


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the value of each key came from; a key that nobody wrote has its default."""

    written: Mapping[str, str]

    def of(self, key: str) -> str:
        return self.written.get(key, "default")


def read_settings(
    root: Path, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> tuple[ServerSettings, Origins]:
    """The settings of a repository. `flags`: what the command line gave, by key (`limits.rows`), as text.

    Raises InvalidConfiguration with a line for each thing that is wrong, wherever it was written.
    """
    settings, origins, problems = examine_settings(root, environment, flags)
    problems.raise_errors()
    return settings, origins


def examine_settings(
    root: Path, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> tuple[ServerSettings, Origins, Problems]:
    """As `read_settings`, with what is wrong beside the values; a wrong value is replaced by its default."""
    problems = Problems()
    file = root / FILE
    tree = read(file, problems) if file.is_file() else None
    if tree is not None and not isinstance(tree.value, dict):
        problems.note(tree.wrong("must be a mapping of settings").problem)
        tree = None
    if tree is None:
        tree = Entry(str(file), 0, "", {}, problems=problems)
    for key, name, text in _of_environment(environment or {}, problems):
        _lay_over(tree, key, name, text, problems)
    for key, text in (flags or {}).items():
        _lay_over(tree, key, f"--{key.replace('.', '-').replace('_', '-')}", text, problems)
    settings = next(tree.attempt(_settings), ServerSettings())
    return settings, Origins(dict(_origins(tree))), problems


def _settings(entry: Entry) -> ServerSettings:
    plain = ServerSettings()
    top = Section(entry)
    window_s, rebalance_s = top.take("planning", _planning, (plain.window_s, plain.rebalance_s))
    settings = ServerSettings(
        http=top.take("http", lambda e: address(e, plain.http), plain.http),
        grpc=top.take("grpc", grpc, plain.grpc),
        policy=top.take("policy", _policy, plain.policy),
        window_s=window_s,
        rebalance_s=rebalance_s,
        workers=top.take("workers", _slots, plain.workers),
        margin_s=top.take("margin", Entry.seconds, plain.margin_s),
        peek_patience_s=top.take("peek_patience", Entry.seconds, plain.peek_patience_s),
        on_miss=top.take("on_miss", lambda e: e.member(OnMiss), plain.on_miss),
        normalise=top.take("normalise", Entry.boolean, plain.normalise),
        beliefs=top.take("beliefs", lambda e: e.one_of(BELIEFS, "kind of beliefs"), plain.beliefs),
        escalate=top.take("escalate", lambda e: ESCALATE[e.one_of(ESCALATE)], plain.escalate),
        escalate_gain=top.take("escalate_gain", lambda e: e.number(0.0, 1.0), plain.escalate_gain),
        follow_pace=top.take("follow_pace", Entry.boolean, plain.follow_pace),
        limits=top.take("limits", limits, plain.limits),
        log=top.take("log", lambda e: e.one_of(LEVELS, "level"), plain.log),
        state=top.take("state", Entry.text, plain.state),
        journal=top.take("journal", Entry.text, plain.journal),
        supernets=top.take("supernets", lambda e: e.one_of(SUPERNETS, "runtime"), plain.supernets),
        access=top.take("access", lambda e: e.one_of(ACCESS, "kind of access"), plain.access),
        tls=top.take("tls", tls, plain.tls),
        drain=top.take("drain", drain, plain.drain),
    )
    top.done()
    for slot in settings.workers:
        if slot.device.startswith("cuda") and settings.supernets != "torch":
            (top.get("workers") or entry).note(
                f"worker {slot.name!r} is on {slot.device}, where only subnets run, and in torch",
                "write supernets: torch, or cpu:0",
            )
    return settings


def _policy(entry: Entry) -> PolicySettings:
    if entry.is_text:
        return PolicySettings(_served(entry))
    plain = PolicySettings()
    section = Section(entry)
    policy = PolicySettings(
        section.take("name", _served, plain.name),
        section.take("aware", Entry.boolean, plain.aware),
        section.take("short_circuit", Entry.boolean, plain.short_circuit),
        section.take("drop", Entry.boolean, plain.drop),
        section.take("merge", Entry.boolean, plain.merge),
        section.take("options", lambda e: {k: v.number() for k, v in e.pairs().items()}, {}),
    )
    section.done()
    return policy


def _served(entry: Entry) -> str:
    """A policy's name. The yardsticks solve a handful of rows exactly, and may take minutes for more."""
    name = entry.text()
    if name in YARDSTICKS:
        raise entry.wrong(
            f"{name!r} is a yardstick for small windows and cannot serve", "peekserve schedule runs it"
        )
    return entry.one_of([known for known in (*POLICIES, *PLANNED) if known not in YARDSTICKS], "policy")


def _planning(entry: Entry) -> tuple[float, float]:
    """`rolling` -> (0.0, 0.0), `window(100ms)` -> (0.1, 0.0), `window(100ms, rebalance=20ms)` -> (0.1, 0.02)."""
    text = entry.text()
    if text == "rolling":
        return 0.0, 0.0

    def seconds(part: str) -> float:
        return Entry(
            entry.file, entry.line, entry.key, part.strip(), problems=entry.problems
        ).positive_seconds()

    if text.startswith("window(") and text.endswith(")"):
        length, _, more = text[7:-1].partition(",")
        name, _, period = more.strip().partition("=")
        if not more or name == "rebalance":
            return seconds(length), seconds(period) if more else 0.0
    raise entry.wrong(
        f"{text!r} is no way to plan", "write rolling, window(100ms) or window(100ms, rebalance=20ms)"
    )


def _slots(entry: Entry) -> tuple[Slot, ...]:
    slots = entry.each(_slot)
    names = [slot.name for slot in slots]
    if not entry.items():
        raise entry.wrong("a server needs one worker or more")
    if len(set(names)) != len(names):
        raise entry.wrong(f"two workers have one name: {', '.join(names)}")
    return tuple(slots)


def _slot(entry: Entry) -> Slot:
    plain = Slot()
    section = Section(entry)
    device = section.take("device", _device, plain.device)
    slot = Slot(
        section.take("name", lambda e: check_name(e.text(), "worker"), device.replace(":", "-")),
        device,
        section.take("memory", Entry.size, plain.memory),
        section.take("cores", lambda e: tuple(c.integer(0, 4095) for c in e.items()), plain.cores),
        section.take("runtime", _pace, plain.pace),
    )
    section.done()
    return slot


def _pace(entry: Entry) -> str:
    """`onnx` -> "", {kind: paced, device: NAME} -> NAME: a device whose timings the applications state."""
    if entry.is_text:
        entry.one_of(("onnx",), "runtime")
        return ""
    section = Section(entry)
    kind = section.need("kind", lambda e: e.one_of(("onnx", "paced"), "runtime"), "onnx")
    device = section.take("device", lambda e: check_name(e.text(), "device"), "")
    section.done()
    if (kind == "paced") != bool(device):
        raise entry.wrong(
            "a paced runtime needs the device whose pace it keeps, and no other runtime has one",
            "write for example {kind: paced, device: little}",
        )
    if device in DEVICES:
        raise entry.wrong(f"{device!r} is a device of this machine, not one to imitate", "write another name")
    return device


def _device(entry: Entry) -> str:
    """`cpu`, `cpu:0` or `cuda:0`."""
    kind, _, number = entry.text().partition(":")
    if kind not in DEVICES or (number and not (number.isdecimal() and len(number) < 5)):
        raise entry.wrong(f"{entry.text()!r} is no device", "write for example cpu:0")
    return f"{kind}:{number or 0}"


KEYS = (
    "http",
    "grpc",
    "policy",
    "planning",
    "workers",
    "margin",
    "peek_patience",
    "on_miss",
    "normalise",
    "beliefs",
    "escalate",
    "escalate_gain",
    "follow_pace",
    "limits",
    "log",
    "state",
    "journal",
    "supernets",
    "access",
    "tls",
    "drain",
)


def _of_environment(environment: Mapping[str, str], problems: Problems) -> list[tuple[str, str, str]]:
    """(key, variable, text) of the variables that are settings. Other variables of the prefix belong to
    others, but one that is nearly a setting was meant to be it.
    """
    found = []
    for name in sorted(environment):
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        head = key.partition(".")[0]
        if head in KEYS:
            found.append((key, name, environment[name]))
        elif close := difflib.get_close_matches(head, KEYS, n=1, cutoff=0.8):
            Entry(name, 0, "", "", problems=problems).note(
                f"unknown setting {head!r}", f"did you mean {PREFIX}{close[0].upper()}?"
            )
    return found


def _lay_over(tree: Entry, key: str, name: str, text: str, problems: Problems) -> None:
    """Put one value into the tree in place of what the file says there."""
    try:
        entry = parse(text, name, problems, key) if text.lstrip()[:1] in ("[", "{") else None
    except Misread as misread:
        problems.note(replace(misread.problem, line=0))
        return
    value = entry.value if entry is not None else text
    at = tree
    *above, last = key.split(".")
    for i, part in enumerate(above):
        pairs = at.pairs() if isinstance(at.value, dict) else {}
        path = ".".join(above[: i + 1])
        below = pairs.get(part)
        if below is None or not isinstance(below.value, dict):
            # `policy: grouped` and PEEKSERVE_POLICY__AWARE=false together: the text is the section's name.
            kept = {"name": below} if below is not None and part == "policy" and below.is_text else {}
            below = Entry(name, 0, path, kept, problems=problems)
            pairs[part] = below
        at = below
    at.pairs()[last] = Entry(name, 0, key, value, problems=problems)


def _origins(entry: Entry) -> list[tuple[str, str]]:
    if isinstance(entry.value, dict) and entry.value:
        return [pair for child in entry.value.values() for pair in _origins(child)]
    return [(entry.key, f"{entry.file}:{entry.line}" if entry.line else entry.file)] if entry.key else []
