"""What an application's card states: the first table of its README, as the command `card` wrote it."""

from peekserve.applications.prepare import HOME


def stated(application: str, line: str) -> list[str]:
    """The cells of a line: nothing, name, validation, test, milliseconds, times the cheapest, nothing."""
    card = (HOME / application / "README.md").read_text(encoding="utf-8")
    return next(text for text in card.splitlines() if text.startswith(f"| {line} | ")).split("|")


def milliseconds(application: str, variant: str) -> float:
    """What one row took on the machine of the card: a test that timed it would fail on a busy one."""
    return float(stated(application, variant)[4])
