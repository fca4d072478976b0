"""What nobody planned for. Lateness, refusal and overload are outcomes (domain/request.py), not errors.

PeekserveError
├── InvalidRequest          the bytes or the tensors of a request are wrong
│   └── InvalidTensor       ... a tensor's name, datatype, shape or values
├── UnknownApplication      no application of that name
├── UnknownVariant          the application has no such variant
├── UnknownRevision         the application was never registered in such a revision
├── WrongState              a revision that cannot do this where it stands
├── UnknownStream           no stream of that name, or an application that takes none
├── StaleStream             a stream whose newest sample is too old to answer from
├── NoWindow                a stream in which no window was found yet
├── UnknownRequest          feedback on a request that nobody remembers
├── NotAnswered             feedback on a request that has no answer yet
├── AlreadyConfirmed        feedback on a row whose true class is known
├── NotWanted               data that nobody waits for (any more)
├── TooFast                 more comes than can be taken; nothing was stored
│   └── RateLimited         ... from this client
├── Unauthenticated         no key, or one that is not known
├── Forbidden               a key that is not good for this
├── ConstraintInfeasible    a floor on accuracy that no variant reaches
├── NotReady                known, but not (yet) able to serve
│   └── NoRoom              ... as the disk is full
├── NotOffered              a part of a protocol that this server does not have
├── TooSlow                 a body that does not come to its end
├── TooLarge                a limit in bytes or rows was passed
├── InvalidConfiguration    a file or a flag says something that cannot be
├── InvalidModel            a model file that cannot be used
├── InvalidData             labelled data that do not fit their application
├── DataUnavailable         data or a package that is not here; says how to get it
├── ProfileMissing          a number that only a profile can give
├── WorkerFailed            a worker process died or answered nonsense
├── BackendError            the model's runtime raised
├── JournalDamaged          a journal that cannot be read to its end
├── StaleKernel             the compiled kernel is not that of the source
└── InvariantBroken         a bug in peekserve itself, found by a check()
"""


class PeekserveError(Exception):
    """The root: catch this to catch everything that peekserve raises on purpose."""


class InvalidRequest(PeekserveError):
    """A request whose bytes, fields or parameters are wrong."""


class InvalidTensor(InvalidRequest):
    """A tensor whose name, datatype, shape or values do not fit the application."""


class UnknownApplication(PeekserveError):
    """No application of that name is registered."""


class UnknownVariant(PeekserveError):
    """The application is known; the variant is not."""


class UnknownRevision(PeekserveError):
    """No such revision of the application was ever registered."""


class WrongState(PeekserveError):
    """A revision or an application is not where this could be done; the message says where it is."""


class UnknownStream(PeekserveError):
    """No stream of that name is open, or its application takes none."""


class StaleStream(PeekserveError):
    """The stream's newest sample is older than its owner allows."""


class NoWindow(PeekserveError):
    """The stream is open and no window was found in it yet."""


class UnknownRequest(PeekserveError):
    """A true class for a request that was never answered here, or was forgotten."""


class NotAnswered(PeekserveError):
    """A true class for a request that is still under way."""


class AlreadyConfirmed(PeekserveError):
    """A second true class for one row: the first was learnt."""


class NotWanted(PeekserveError):
    """Data under a token that nobody waits for, or not any more."""


class TooFast(PeekserveError):
    """More than can be taken now; nothing of it was stored. Later may do."""


class RateLimited(TooFast):
    """A client asks more often than it may. `wait_s`: until it may again."""

    def __init__(self, sentence: str, wait_s: float) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class Unauthenticated(PeekserveError):
    """No key, or one that is not known here."""


class Forbidden(PeekserveError):
    """A key that is known and lacks the scope."""


class ConstraintInfeasible(PeekserveError):
    """A client asks for more accuracy than any variant that could answer is profiled at."""


class NotReady(PeekserveError):
    """Registered, but not able to serve at this moment."""


class NoRoom(NotReady):
    """The disk has no room for what came, or no more of it is allowed; nothing of it was kept."""


class NotOffered(PeekserveError):
    """A part of a protocol that this server does not have; the message says what it has instead."""


class TooSlow(PeekserveError):
    """A request whose body does not come to its end."""


class TooLarge(PeekserveError):
    """More bytes or rows than a stated limit allows."""


class InvalidConfiguration(PeekserveError):
    """A configuration that cannot be: the message names file, line, key and the nearest valid one."""


class InvalidModel(PeekserveError):
    """A model file that is damaged, of another kind, or unlike its declaration."""


class InvalidData(PeekserveError):
    """Labelled data that do not fit their application."""


class DataUnavailable(PeekserveError):
    """Data or an optional package that is not on this machine; the message says how to get it."""


class ProfileMissing(PeekserveError):
    """A decision needs a number that only a profile (measured or stated) can give."""


class WorkerFailed(PeekserveError):
    """A worker process died, hung, or broke the protocol."""


class BackendError(PeekserveError):
    """The runtime raised while it ran a model."""


class JournalDamaged(PeekserveError):
    """A journal with a broken frame; the message gives the offset of the last good one."""


class StaleKernel(PeekserveError):
    """The compiled kernel was built from another source; `make build` mends it."""


class InvariantBroken(PeekserveError):
    """Something that must always hold does not: a bug of ours, with the numbers."""
