"""One set of weights, many speeds. Only `space` is loaded here: everything else in this room needs torch."""

from peekserve.supernets.space import Space, Subnet, kept_units

__all__ = ["Space", "Subnet", "kept_units"]
