"""`peekserve`: one line for each command. What a command needs is imported when it runs, so that --help is
quick.

Exit codes: 0 good, 1 failure, 2 usage, 3 configuration or data invalid, 4 a stated goal was not met.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from peekserve import __version__
from peekserve.cli import data, keys, supernet
from peekserve.errors import InvalidConfiguration, InvalidData, InvalidModel, PeekserveError

app = typer.Typer(
    name="peekserve",
    help="Picks the model for every request, from the data in it, the time left and the load.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(supernet.app, name="supernet")
app.add_typer(keys.app, name="keys")

Repo = Annotated[Path, typer.Argument(help="A folder of applications (docs/repository.md).")]
Rate = Annotated[
    float | None,
    typer.Option(help="Requests per second in the mean; the process's or the trace's own, or 200.", min=0.01),
]
Seconds = Annotated[float | None, typer.Option(help="Length of the run; a trace's own, or 20.", min=0.1)]
Slot = Annotated[str | None, typer.Option(help="The (last) trace holds counts of slots so long: 1s, 1min.")]
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on standard output.")]


@app.command()
def demo(
    apps: Annotated[str, typer.Option(help="Which applications, with commas.")] = "digits,watch,appliances",
    seconds: Annotated[float, typer.Option(help="Length of each live run.", min=1.0)] = 3.5,
    overload: Annotated[
        float, typer.Option(help="Load, in shares of what the best variants can carry.")
    ] = 1.5,
    arrivals: Annotated[str, typer.Option(help="As of peekserve simulate.")] = "poisson",
    seed: Annotated[int, typer.Option(help="Of arrivals and samples.", min=0)] = 1,
    prepare: Annotated[Path | None, typer.Option(help="Only write the repository to this folder.")] = None,
    supernets: Annotated[
        bool, typer.Option("--supernets", help="Add the supernets that applications come with.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a server running at the end.")] = False,
    as_json: Json = False,
) -> None:
    """Prepare, profile, serve and overload real applications; compare the policies."""
    from peekserve.cli.demo import Demo

    names = [app.strip() for app in apps.split(",")]
    demo_of = Demo(names, seconds, overload, seed, as_json, arrivals=arrivals, supernets=supernets)
    _exit(demo_of.run(prepare, keep))


@app.command()
def serve(
    repo: Repo,
    http: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 picks a free one.")] = None,
    grpc: Annotated[str | None, typer.Option(help="HOST:PORT, or off.")] = None,
    policy: Annotated[str | None, typer.Option(help="Name of the policy.")] = None,
    beliefs: Annotated[
        str | None, typer.Option(help="calibrated or dirichlet; what goes with the policy.")
    ] = None,
    escalate: Annotated[
        str | None, typer.Option(help="on or off: ask another model where it may gain; auto.")
    ] = None,
    planning: Annotated[
        str | None, typer.Option(help="rolling, window(100ms) or window(100ms, rebalance=20ms).")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="Record every event and decision in this file.")] = None,
    state: Annotated[str | None, typer.Option(help="Folder for what must survive; REPO/.peekserve.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: KEY=VALUE.")] = None,
) -> None:
    """Serve a repository over the Open Inference Protocol."""
    from peekserve.cli.serve import serve as run

    given = {"http": http, "grpc": grpc, "planning": planning, "journal": journal, "state": state}
    given |= {"policy.name": policy, "beliefs": beliefs, "escalate": escalate}
    flags = {key: value for key, value in given.items() if value is not None}
    for pair in set_ or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--set")
        flags[key] = value
    run(repo, flags)


@app.command()
def check(repo: Repo, as_json: Json = False) -> None:
    """Say what is wrong with a repository: file, line, and what would be right."""
    from peekserve.cli.check import check as run

    _exit(run(repo, as_json))


@app.command()
def profile(
    repo: Repo,
    apps: Annotated[str | None, typer.Option(help="Only these applications, with commas.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="About a fifth of a second for each variant.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured before.")] = False,
    as_json: Json = False,
) -> None:
    """Measure what every variant is worth and costs on this machine."""
    from peekserve.cli.profile import profile as run

    _exit(run(repo, apps.split(",") if apps else None, quick, again, as_json))


@app.command()
def infer(
    url: Annotated[str, typer.Argument(help="HOST:PORT of a server.")],
    model: Annotated[str, typer.Argument(help="An application, or APPLICATION/VARIANT to pin one.")],
    data: Annotated[Path, typer.Argument(help="An npz with one array for each input, as in validation.npz.")],
    row: Annotated[int, typer.Option(help="Which row of the archive.")] = 0,
    deadline_ms: Annotated[float | None, typer.Option(help="How soon the answer is wanted.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also say what else was considered.")] = False,
    as_json: Json = False,
) -> None:
    """Send one row of a file to a server and show the answer."""
    from peekserve.cli.infer import infer as run

    _exit(run(url, model, data, row, deadline_ms, as_json, explain))


@app.command()
def feedback(
    url: Annotated[str, typer.Argument(help="HOST:PORT of a server.")],
    request_id: Annotated[str, typer.Argument(help="The answer's parameter request_id.")],
    label: Annotated[list[str], typer.Argument(help="The true class of each row by its name; - if unknown.")],
    as_json: Json = False,
) -> None:
    """Tell a server what was true, so that it learns."""
    from peekserve.cli.feedback import feedback as run

    _exit(run(url, request_id, label, as_json))


@app.command()
def register(
    url: Annotated[str, typer.Argument(help="HOST:PORT of a server.")],
    folder: Annotated[Path, typer.Argument(help="An application's folder, with its application.yaml.")],
    name: Annotated[str | None, typer.Option(help="Of the application; the folder's.")] = None,
    swap: Annotated[
        str, typer.Option(help="auto, or manual: it waits for peekserve revisions --swap.")
    ] = "auto",
    shadow: Annotated[int, typer.Option(help="Rows of live traffic it is tried on first.", min=0)] = 100,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is served, or why it is not.")] = False,
    as_json: Json = False,
) -> None:
    """Send an application, or a new revision of one, to a server that runs (docs/registration.md)."""
    from peekserve.cli.register import register as run

    if swap not in ("auto", "manual"):
        raise typer.BadParameter(f"{swap!r} is not auto or manual", param_hint="--swap")
    _exit(run(url, folder, name, swap, shadow, wait, as_json))


@app.command()
def revisions(
    url: Annotated[str, typer.Argument(help="HOST:PORT of a server.")],
    name: Annotated[str | None, typer.Argument(help="An application; all that are served.")] = None,
    swap: Annotated[str | None, typer.Option(help="Serve this revision first.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Serve what was served before.")] = False,
    as_json: Json = False,
) -> None:
    """Show the revisions of an application, and which one is served."""
    from peekserve.cli.register import listed
    from peekserve.cli.register import revisions as run

    if swap and rollback:
        raise typer.BadParameter("--swap names a revision, --rollback takes the one before: give one of them")
    if name is None and (swap or rollback):
        raise typer.BadParameter("say of which application", param_hint="NAME")
    _exit(listed(url, as_json) if name is None else run(url, name, swap, rollback, as_json))


@app.command()
def simulate(
    repo: Annotated[
        Path | None, typer.Argument(help="A folder of applications (docs/repository.md).")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="One policy or several, with commas.")
    ] = "lo-edf,grouped,sneakpeek,horizon",
    rate: Rate = None,
    seconds: Seconds = None,
    arrivals: Annotated[
        str | None, typer.Option(help="poisson, gamma:cv2=4, bursty:..., ramp:...: docs/traces.md.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Recorded arrivals (docs/traces.md).")] = None,
    slot: Slot = None,
    seed: Annotated[int, typer.Option(help="Of arrivals, samples and times.", min=0)] = 1,
    faults: Annotated[
        bool, typer.Option("--faults", help="No repository: made-up runs in which much goes wrong.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="With --faults: so many runs, from --seed on.", min=1)] = 1000,
    planted: Annotated[bool, typer.Option("--planted", help="With --faults: find known bugs.")] = False,
    story: Annotated[Path | None, typer.Option(help="With --faults: live a written story again.")] = None,
    out: Annotated[Path, typer.Option(help="With --faults: where short stories are written.")] = Path(),
    as_json: Json = False,
) -> None:
    """Run the real scheduler in pretended time on a profiled repository, or with --faults (docs/testing.md)."""
    if faults:
        from peekserve.cli.faults import faults as live

        _exit(live(seeds, seed, planted, story, out, as_json))
        return
    if repo is None:
        raise typer.BadParameter("a folder of applications is needed, or --faults", param_hint="REPO")
    from peekserve.cli.simulate import simulate as run

    _exit(run(repo, policy.split(","), rate, seconds, seed, as_json, arrivals, trace, slot))


@app.command()
def arrivals(
    words: Annotated[list[str] | None, typer.Argument(help="Processes, such as gamma:cv2=4.")] = None,
    trace: Annotated[list[Path] | None, typer.Option(help="Recorded arrivals; may be repeated.")] = None,
    slot: Slot = None,
    rate: Rate = None,
    seconds: Seconds = None,
    seed: Annotated[int, typer.Option(help="Of the instants.", min=0)] = 1,
    picture: Annotated[Path | None, typer.Option(help="Draw the rates into this file, svg or png.")] = None,
    as_json: Json = False,
) -> None:
    """Show what --arrivals and --trace make: rate, peak, how bursty (docs/traces.md)."""
    from peekserve.cli.arrivals import show

    _exit(show(words or (), trace or (), slot, rate, seconds, seed, picture, as_json))


@app.command()
def plan(
    repo: Repo,
    application: Annotated[str, typer.Argument(help="Which application.")],
    slo: Annotated[str, typer.Option(help="p95=400ms, accuracy=0.95, or both with a comma.")],
    qps_max: Annotated[float, typer.Option(help="The highest load, requests per second.", min=1e-6)],
    devices: Annotated[
        str | None, typer.Option(help="2xcpu=512MiB, cuda:0=8GiB, ...; the repository's own workers.")
    ] = None,
    ranges: Annotated[int, typer.Option(help="How many ranges of load.", min=1)] = 10,
    load: Annotated[
        str, typer.Option(help="zipf, zipf:1.5, 0-100:3,100-400:1, or a file with a rate on each line.")
    ] = "zipf",
    burstiness: Annotated[
        float, typer.Option(help="CV^2 of the simulated gaps between requests.", min=0.01)
    ] = 1.0,
    share: Annotated[
        float, typer.Option(help="Of the devices' time and memory; the rest is for other applications.")
    ] = 1.0,
    single_models: Annotated[
        bool, typer.Option("--single-models", help="No cascades: for the policy model-switching.")
    ] = False,
    what_if: Annotated[
        int, typer.Option(help="Up to how many devices: count them instead of planning.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Plan gears: which cascade of models serves which load (CascadeServe)."""
    from peekserve.cli.plan import plan as run

    told = (burstiness, share, single_models, what_if, as_json)
    _exit(run(repo, application, slo, qps_max, devices, ranges, load, *told))


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="A journal written by serve --journal.")],
    as_json: Json = False,
) -> None:
    """Feed a journal to a fresh scheduler and compare its commands with those recorded."""
    from peekserve.cli.replay import replay as run

    _exit(run(journal, as_json))


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="list, report, all, or an experiment such as sneakpeek-fig5.")],
    folder: Annotated[Path | None, typer.Argument(help="For report: where the summaries are.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Fewer windows and seeds: under a minute.")] = False,
    seeds: Annotated[int | None, typer.Option(help="How many seeds.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for rows, picture and summary.")] = None,
    timing: Annotated[str, typer.Option(help="Device class: paper, here, or a file.")] = "paper",
    recordings: Annotated[Path | None, typer.Option(help="Folder of recordings to use instead.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the figures and claims of the SneakPeek paper."""
    from peekserve.cli import experiment as run

    if name == "list":
        _exit(run.listed(as_json))
    elif name == "report":
        _exit(run.report(folder or run.RESULTS))
    else:
        _exit(run.experiment(name, small, seeds, out, timing, recordings, as_json))


@app.command()
def schedule(
    window: Annotated[Path, typer.Argument(help="A window written as JSON (docs/windows.md).")],
    policy: Annotated[str, typer.Option(help="A policy, several with commas, or all.")] = "horizon",
    option: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER, an option of the policy.")] = None,
    rows: Annotated[list[int] | None, typer.Argument(help="With --explain: these rows alone.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what else each row could have got, and why not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Plan a written window and say what the plan is worth."""
    from peekserve.cli.schedule import schedule as run

    if rows and not explain:
        raise typer.BadParameter("rows are named only with --explain", param_hint="ROWS")
    _exit(run(window, policy, option or (), as_json, (rows or ()) if explain else None))


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """The console script: errors of ours are sentences, not tracebacks."""
    try:
        app()
    except (InvalidConfiguration, InvalidData, InvalidModel) as error:
        print(f"peekserve: {error}", file=sys.stderr)
        sys.exit(3)
    except OSError as error:
        plain = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"peekserve: {plain}", file=sys.stderr)
        sys.exit(1)
    except PeekserveError as error:
        print(f"peekserve: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
