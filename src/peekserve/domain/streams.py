"""What an owner says of an application's streams: how fast samples come, what a window is and how it is found
(SneakPeek, figure 1 and section 3.2: data staging and preprocessing)."""

from dataclasses import dataclass
from enum import StrEnum

from peekserve.errors import InvalidConfiguration

# What the windows of one chunk may take, as float32: a chunk is taken whole or not at all.
MOST_BYTES_AT_ONCE = 16 << 20


class Normalise(StrEnum):
    """What is done to a window's values before anybody looks at them, for each channel of its own."""

    NONE = "none"
    CENTRE = "centre"  # less the window's median: a slow baseline goes
    ZSCORE = "zscore"  # less the window's mean, over its standard deviation


@dataclass(frozen=True, slots=True)
class Finding:
    """How windows are found in samples: Sliding, Onset or RPeak. A class and no union, because a union of dataclasses
    cannot be read back from a journal's header; journals leave streams out."""


@dataclass(frozen=True, slots=True)
class Sliding(Finding):
    """A window of fixed length every `stride` samples."""

    stride: int

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise InvalidConfiguration(f"a stride is one sample or more, not {self.stride}")


@dataclass(frozen=True, slots=True)
class Onset(Finding):
    """A window where the energy rises: something begins.

    Energy is looked at in frames of `frame` samples. It has risen when `sustain` frames one after another have
    more than `rise` times the running floor and more than `least` (in squared units of the signal). The window
    begins `pre_roll` samples before the first of these frames; the next onset is looked for `apart` samples
    after this one.
    """

    frame: int
    pre_roll: int
    apart: int
    rise: float = 8.0
    sustain: int = 3
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.frame < 1 or self.sustain < 1 or self.apart < 1:
            raise InvalidConfiguration("frame, sustain and apart of an onset are one or more")
        if self.pre_roll < 0 or not self.rise > 1.0 or not self.least >= 0.0:
            raise InvalidConfiguration(
                f"an onset has a pre-roll of 0 or more, a rise above 1 and a least energy of 0 or more, "
                f"not {self.pre_roll}, {self.rise:g}, {self.least:g}"
            )


@dataclass(frozen=True, slots=True)
class RPeak(Finding):
    """A window around each R peak of an electrocardiogram; the peak is sample number `at` of its window.
    `channel`: the lead that is looked at."""

    at: int
    channel: int = 0

    def __post_init__(self) -> None:
        if self.at < 0 or self.channel < 0:
            raise InvalidConfiguration("the place of an R peak and its channel are 0 or more")


@dataclass(frozen=True, slots=True)
class TrackSpec:
    """One input of the application as a stream of samples: `rate` in Hz, `length` samples in a window of
    `channels` values each. `axis`: which axis of the input's row is time."""

    input: str
    rate: float
    length: int
    channels: int = 1
    axis: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1e6:
            raise InvalidConfiguration(f"a rate is above 0 and at most 1 MHz, not {self.rate:g} Hz")
        if self.length < 2:
            raise InvalidConfiguration(
                f"a window of {self.input!r} has {self.length} samples; it needs two or more"
            )


@dataclass(frozen=True, slots=True)
class Recurring:
    """The server asks by itself: about each window as it is found, or about the newest every `every_s` seconds
    (None: each window). `query`: which query type it asks."""

    every_s: float | None = None
    query: str = "default"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """How an application's windows come out of raw samples.

    The finder looks at `tracks[0]`; sample 0 of every track is one instant. All times are in seconds:

    - `reorder_s`: so far behind the newest sample a chunk may come and still be put in its place;
    - `max_gap_s`: a hole no longer than this is filled along a straight line, a longer one begins afresh;
    - `max_age_s`: a query about a stream whose newest sample is older is refused as stale;
    - `wait_s`: so long a window waits for the samples of the other tracks;
    - `max_chunk_s`: more than this does not come in one chunk;
    - `idle_s`: a stream that brings nothing for so long is forgotten.
    """

    tracks: tuple[TrackSpec, ...]
    finder: Finding
    reorder_s: float = 0.25
    max_gap_s: float = 0.1
    max_age_s: float = 5.0
    wait_s: float = 0.5
    max_chunk_s: float = 5.0
    idle_s: float = 60.0
    normalise: Normalise = Normalise.NONE
    recurring: Recurring | None = None

    def __post_init__(self) -> None:
        if not self.tracks:
            raise InvalidConfiguration("a stream has one track or more")
        lead = self.tracks[0]
        match self.finder:
            case RPeak(at, channel):
                if at >= lead.length or channel >= lead.channels:
                    raise InvalidConfiguration(
                        f"the R peak stands at sample {at} of channel {channel}; a window has {lead.length} "
                        f"samples of {lead.channels} channels"
                    )
                if not 100.0 <= lead.rate <= 1000.0:
                    raise InvalidConfiguration(
                        f"R peaks are found at 100 to 1000 Hz, and the rate is {lead.rate:g} Hz"
                    )
            case Onset():
                if self.finder.pre_roll >= lead.length:
                    raise InvalidConfiguration(
                        f"a pre-roll of {self.finder.pre_roll} samples fills the window of {lead.length}"
                    )
            case Sliding(stride):
                window = sum(4 * track.length * track.channels for track in self.tracks)
                windows = int(self.max_chunk_s * lead.rate // stride) + 1
                if windows * window > MOST_BYTES_AT_ONCE:
                    raise InvalidConfiguration(
                        f"one chunk of {self.max_chunk_s:g} s would bring {windows} windows of {window} bytes, and "
                        f"{MOST_BYTES_AT_ONCE} bytes is the limit: lengthen the stride or shorten max_chunk"
                    )

    @property
    def lead(self) -> TrackSpec:
        """The track that the finder looks at."""
        return self.tracks[0]
