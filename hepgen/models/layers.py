"""Layers that several networks are made of, and what their settings must be."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError

__all__ = ["ChannelsLast", "at_least", "dense", "square_side", "weighted_mean"]


class ChannelsLast(nn.Module):
    """Images in the memory order that convolutions on a CPU are fastest in."""

    def forward(self, x: Tensor) -> Tensor:
        """The same images."""
        return x.contiguous(memory_format=torch.channels_last)


def dense(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers of the given widths with activations between them.

    Raises:
        HepgenError: if a width is below 1.
    """
    at_least(1, hidden=widths[1:])
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.1))]
    return layers[:-1]


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over events, of shape (n,), each counted by its weight, whose own mean over all events is 1."""
    return losses.mean() if weight is None else (losses * weight).mean()


def square_side(name: str, shape: tuple[int, ...], divisor: int) -> int:
    """The side of square images of one channel.

    Raises:
        HepgenError: if the inputs are no such images, or their side is not a multiple of the divisor.
    """
    if len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2] or shape[1] % divisor:
        msg = f"{name}: inputs of shape {tuple(shape)}; it takes square images (inputs: images)"
        raise HepgenError(f"{msg} with a side divisible by {divisor}")
    return shape[1]


def at_least(least: float, **settings: float | Sequence[float]) -> None:
    """Check settings, or all numbers of those that are lists, which must not be empty.

    Args:
        least: What they must reach; where it is a whole number, they must be whole numbers too.
        **settings: The settings by name.

    Raises:
        HepgenError: naming the first setting that does not suffice.
    """
    kinds, what = (int, "a whole number of ") if isinstance(least, int) else ((int, float), "a number of ")
    for name, value in settings.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(number, kinds) and not isinstance(number, bool) for number in numbers):
            msg = f"settings.{name}: is {value!r}; it must be {what}at least {least}"
            raise HepgenError(msg)
        if not numbers or not min(numbers) >= least:
            msg = f"settings.{name}: is {value}; it must be at least {least}"
            raise HepgenError(msg)
