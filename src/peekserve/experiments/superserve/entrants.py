"""Who is compared over a supernet: SlackFit in its forms, the paper's other policies, fixed models, `horizon`."""

from peekserve.experiments.superserve.worlds import WORKERS, Entrant, World

# As the paper prints it; as it is shipped, where a batch that the queue cuts short gets a larger subnet; and with the
# whole queue to be drained within a share of the slack, by all workers together. The share is the largest, in steps of
# 0.05, with which drain meets as many deadlines as the smallest subnet alone in every cell of the bursty grid that is
# near that subnet's capacity, of `keywords`, seeds 1000 to 1005; no experiment uses these seeds.
DRAIN_SHARE = 0.3
PAPER = Entrant("slackfit (paper)", "slackfit", (("raise", 0.0),))
SLACKFIT = Entrant("slackfit", "slackfit")
MAXACC = Entrant("maxacc", "maxacc")
MAXBATCH = Entrant("maxbatch", "maxbatch")
INFAAS = Entrant("infaas", "infaas")
# As it is shipped; and counting on the rows that will come.
HORIZON = Entrant("horizon", "horizon")
ARRIVALS = Entrant("horizon (arrivals)", "horizon", (("arrivals", 1.0),))


def drain(workers: int) -> Entrant:
    """SlackFit with `drain`, told how many workers share its queue."""
    return Entrant("slackfit (drain)", "slackfit", (("drain", DRAIN_SHARE), ("workers", float(workers))))


DRAIN = drain(WORKERS)
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
