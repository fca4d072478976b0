"""Who is compared over a supernet: SlackFit in its forms, the paper's other policies, fixed models, `horizon`."""

from peekserve.experiments.superserve.worlds import WORKERS, Entrant, World

# As the paper prints it; as it is shipped, where a batch that the queue cuts short gets a larger subnet; and with the
# whole queue to be drained within half the slack, by all workers together.
PAPER = Entrant("slackfit (paper)", "slackfit", (("raise", 0.0),))
SLACKFIT = Entrant("slackfit", "slackfit")
DRAIN = Entrant("slackfit (drain)", "slackfit", (("drain", 0.5), ("workers", float(WORKERS))))
MAXACC = Entrant("maxacc", "maxacc")
MAXBATCH = Entrant("maxbatch", "maxbatch")
INFAAS = Entrant("infaas", "infaas")
HORIZON = Entrant("horizon", "horizon")
SLACKFITS = (PAPER, SLACKFIT, DRAIN)
POLICIES = (*SLACKFITS, MAXBATCH, MAXACC, INFAAS)
SMALL_SEPARATE = "small separate"


def fixed(world: World) -> list[Entrant]:
    """One subnet each with dynamic batches (Clipper, Clockwork, TF-Serving in the paper), the least accurate first."""
    return [Entrant(f"fixed-{i}", "clipper", only=name) for i, name in enumerate(world.points(), 1)]


def small_separate(world: World) -> list[Entrant]:
    """The smallest separately trained model alone; nobody where none was recorded."""
    names = world.separate()
    return [Entrant(SMALL_SEPARATE, "clipper", only=names[0])] if names else []


def everyone(world: World) -> list[Entrant]:
    return [*POLICIES, *fixed(world), *small_separate(world)]
