"""Invertible scalers of observables that know their log-Jacobian."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from hepgen.training import Indexable

__all__ = ["SCALERS", "MinMax", "Scale", "Scaler", "Standard", "Support", "Unit", "scaled"]

# Coefficients of y and y³ in `Support`.
CUBIC = (1.5976, 0.07056)
# Least share of the events with the same value that makes it an atom, and the least number of events that makes
# anything of a distribution certain.
ATOM, FEWEST = 1e-3, 10


class Scaler(nn.Module):
    """An invertible, elementwise map of columns, fitted once.

    Forward takes physical values of shape (n, d) in float64 to network inputs in float32; `inverse` takes
    them back. The fitted constants are buffers, so that they are saved with the model.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def fit(self, x: Tensor) -> "Scaler":
        """Learn the constants from data of shape (n, d)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return ((x.double() - self.shift) / self.scale).float()

    def inverse(self, z: Tensor) -> Tensor:
        """Network values of shape (n, d) back to physical ones, float64."""
        return z.double() * self.scale + self.shift

    def log_jacobian(self, x: Tensor) -> Tensor:
        """log |∂z/∂x| summed over columns, shape (n,)."""
        return -self.scale.log().sum().expand(len(x))


class Standard(Scaler):
    """Mean 0 and standard deviation 1 in every column; constant columns are only shifted."""

    def fit(self, x: Tensor) -> "Standard":
        x = x.double()
        self.shift.copy_(x.mean(0))
        self.scale.copy_(_nonzero((x - self.shift).square().mean(0).sqrt()))
        return self


class MinMax(Scaler):
    """The range of every column mapped to [−1, 1]."""

    def fit(self, x: Tensor) -> "MinMax":
        low, high = x.double().amin(0), x.double().amax(0)
        self.shift.copy_((high + low) / 2)
        self.scale.copy_(_nonzero((high - low) / 2))
        return self


class Scale(Scaler):
    """One factor for each feature of the last axis: zeros stay zeros, as they must in images and padding.

    The root mean square becomes 1. With one feature all pixels of an image share the factor.
    """

    def fit(self, x: Tensor) -> "Scale":
        self.scale.copy_(_nonzero(self._flat(x).square().mean(0).sqrt()))
        return self

    def _flat(self, x: Tensor) -> Tensor:
        return x.double().reshape(-1, len(self.scale))

    def log_jacobian(self, x: Tensor) -> Tensor:
        repeats = x[0].numel() // len(self.scale)
        return super().log_jacobian(x) * repeats


class Unit(Scale):
    """The largest value becomes 1 and the smallest, or 0 where that is smaller, 0: what a cross-entropy needs."""

    def fit(self, x: Tensor) -> "Unit":
        flat = self._flat(x)
        low = flat.amin(0).clamp(max=0.0)
        self.shift.copy_(low)
        self.scale.copy_(_nonzero(flat.amax(0) - low))
        return self


class Support(Scaler):
    """Maps events to columns that are nearly normal; whatever a network makes of them is a possible event.

    First every column is made continuous and straight:

    - An angle's circle is cut in the middle of the widest gap between events.
    - A whole number k becomes uniform in k to k + 1, and is rounded down again.
    - An atom, the most frequent value if at least `ATOM` of the events have exactly this, becomes uniform in a stretch
      that is put in at its place, or beside all other values if it is the smallest or largest. The stretch is as long
      as if they were uniform with the same density.

    Then it goes from its bounds to the line, and to mean 0 and standard deviation 1. A column bounded below becomes y
    of q(y) = log(exp(t) − 1), with t = x − low in units of its mean, and one bounded on both sides that of
    q(y) = log((x − low)/(high − x)). With the odd cubic q an exponential t and a uniform x are nearly normal. Above its
    median t follows the tangent of q instead, and stays as it is: else a small excess of the network's noise over the
    data would become an event far beyond any spectrum. Where the values stop sharply, as a selection's cut makes them,
    their bound is moved to that place. An angle that has a narrow peak with long tails, as that between two jets has,
    is made normal by an asinh from the peak's width on; nothing can get beyond the circle.

    The uniform numbers are drawn anew in every call from the same seed, so that they are a part of the training data.
    For a column with whole numbers or an atom, `log_jacobian` is that of one draw: over all draws the mean of the
    log-density is at most the log-probability of such a value. Elsewhere it is exact, but for events beyond a bound
    that the fit has moved: the inverse makes none, so that their density is 0, and they count as ones at the bound.

    Args:
        support: (low, high) of each column, ±inf where unbounded. Data on the edge of a bound are moved
            inside by a billionth of their spread.
        periods: Of the columns that are angles, None elsewhere; without it there are none.
        ceilings: Index of the column that bounds each from above in every event, None where there is none, as in all
            columns without it. It is ignored if the data do not keep it, or are whole numbers or atoms.

    References:
        Johnson (the asinh), 1949, Biometrika 36, 149.
        Bowling, Khasawneh, Kaewkuekool, Cho (q: 1/(1 + exp(−q(y))) is the normal distribution within 1.4e-4), 2009,
        J. Ind. Eng. Manag. 2, 114.
        Theis, van den Oord, Bethge (uniform noise on whole numbers), 2016, arXiv:1511.01844.
    """

    def __init__(
        self,
        support: Sequence[tuple[float, float]],
        periods: Sequence[float | None] | None = None,
        ceilings: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(len(support))
        self.support = support
        self.periods = periods or [None] * len(support)
        self.ceilings = ceilings or [None] * len(support)
        self.register_buffer("bounds", torch.tensor(support, dtype=torch.float64).T.contiguous())
        # value, start and length of its stretch, and by how much larger values move
        self.register_buffer("atom", torch.zeros(4, len(support), dtype=torch.float64))
        self.atom[:2] = math.inf
        for name in ("cut", "margin", "middle"):
            self.register_buffer(name, torch.zeros(len(support), dtype=torch.float64))
        for name in ("unit", "core"):
            self.register_buffer(name, torch.ones(len(support), dtype=torch.float64))
        for name in ("whole", "ordered"):
            self.register_buffer(name, torch.zeros(len(support), dtype=torch.bool))
        tops = [k if top is None else top for k, top in enumerate(self.ceilings)]
        self.register_buffer("top", torch.tensor(tops), persistent=False)
        known = {
            "angle": torch.tensor([period is not None for period in self.periods]),
            "period": torch.tensor([period or 1.0 for period in self.periods], dtype=torch.float64),
            "origin": self.bounds[0].clone(),
        }
        for name, values in known.items():
            self.register_buffer(name, values, persistent=False)

    def fit(self, x: Tensor) -> "Support":
        x = x.double()
        for k, values in enumerate(x.T):
            low, high = self.support[k]
            if self.periods[k]:
                self.cut[k] = _widest_gap(values, self.periods[k])
                low, high = 0.0, self.periods[k]
            elif torch.equal(values, values.round()):
                self.whole[k] = True
                low, high = _whole_bounds(values, low, high)
            else:
                atom, (low, high) = _atom_and_bounds(values, low, high)
                self.atom[:, k] = torch.tensor(atom, dtype=torch.float64)
            self.bounds[:, k] = torch.tensor([low, high], dtype=torch.float64)
        plain = ~self.whole & self.atom[0].isinf() & self.bounds[0].isfinite()
        # The lowest of a chain first: what bounds a column from above cannot start below it.
        for k in sorted(range(x.shape[1]), key=self._depth, reverse=True):
            top = self.ceilings[k]
            if top is not None and plain[k] and plain[top] and torch.all(x[:, k] <= x[:, top]):
                self.ordered[k] = True
                self.bounds[0, top] = self.bounds[0, [k, top]].max()
        t = self._straighten(x)
        self.margin.copy_(1e-9 * _nonzero(t.std(0, correction=0)))
        self.unit.copy_(self._distances(t)[0].mean(0))
        y = self._bell(t)
        self.middle.copy_(y.median(0).values)
        inner, outer = (y - self.middle).abs().quantile(torch.tensor([0.6827, 0.9545], dtype=torch.float64), 0)
        # After asinh(y/core) these are 1 and 2 deviations; without tails the core is far wider than all data.
        self.core.copy_(_nonzero(inner / ((outer / _nonzero(inner) / 2).clamp(min=1 + 1e-6).square() - 1).sqrt()))
        y = self._to_line(t)
        self.shift.copy_(y.mean(0))
        self.scale.copy_(_nonzero(y.std(0, correction=0)))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self._to_line(self._straighten(x)))

    def inverse(self, z: Tensor) -> Tensor:
        w = super().inverse(z)
        low, high = self.bounds.unbind()
        tail = ((w / self.core).exp() - (-w / self.core).exp()) / 2
        y = torch.where(self.angle, self.middle + self.core * tail, w)
        v = CUBIC[0] * y + CUBIC[1] * self._curved(y) ** 3
        below = torch.where(low.isinf(), y, low + self.unit * functional.softplus(v))
        t = torch.where(self._two_sided(), low + (high - low) * v.sigmoid(), below)
        for _ in range(max(map(self._depth, range(len(self.ceilings))))):
            t = torch.where(self.ordered, low + (t[:, self.top] - low) * v.sigmoid(), t)
        return self._bend(t)

    def log_jacobian(self, x: Tensor) -> Tensor:
        t = self._straighten(x)
        low, _ = self.bounds
        below, above = self._distances(t)
        one_sided = -self.unit.log() - (-torch.expm1(-below / self.unit)).log()
        two_sided = (1 + below / above).log() - below.log()
        curved = _uncube(self._curved(self._unbounded(t)))
        drawn_in = torch.where(self.angle, (1 + ((curved - self.middle) / self.core) ** 2).log() / 2, 0.0)
        slope = (
            torch.where(self._two_sided(), two_sided, one_sided)
            - (CUBIC[0] + 3 * CUBIC[1] * curved**2).log()
            - drawn_in
        )
        stretched = torch.where(x == self.atom[0], self.atom[2], 1.0).log()
        return super().log_jacobian(x) + (torch.where(low.isinf(), 0.0, slope) + stretched).sum(1)

    def _straighten(self, x: Tensor) -> Tensor:
        """Columns without wraps, whole numbers and atoms."""
        x = x.double()
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x.device)
        value, start, length, shift = self.atom
        # What has come to lie in a gap that the fit left out goes to its edge.
        beside = torch.where(x > value, torch.maximum(x + shift, start + length), torch.minimum(x, start))
        t = torch.where(x == value, start + length * noise, beside + self.whole * noise)
        return torch.where(self.angle, torch.remainder(x - self.cut, self.period), t)

    def _bend(self, t: Tensor) -> Tensor:
        """The inverse of `_straighten`, inside the bounds."""
        high = self.bounds[1]
        value, start, length, shift = self.atom.unbind()
        t = torch.minimum(t, high)
        whole = torch.minimum(t.floor(), high - 1)
        values = torch.where(t > start + length, t - shift, t)
        values = torch.where((t >= start) & (t <= start + length), value, values)
        angle = self.origin + torch.remainder(t + self.cut - self.origin, self.period)
        return torch.where(self.angle, angle, torch.where(self.whole, whole, values))

    def _to_line(self, t: Tensor) -> Tensor:
        y = self._bell(t)
        return torch.where(self.angle, self.core * ((y - self.middle) / self.core).asinh(), y)

    def _bell(self, t: Tensor) -> Tensor:
        """On the line, before the tails of angles are drawn in."""
        v = self._unbounded(t)
        curved = self._curved(v)
        return torch.where(self.bounds[0].isinf(), t, _uncube(curved) + (v - curved) / CUBIC[0])

    def _unbounded(self, t: Tensor) -> Tensor:
        """log(exp(t) − 1) of columns bounded below, the log of the odds of those bounded on both sides."""
        below, above = self._distances(t)
        t = below / self.unit
        return torch.where(self._two_sided(), below.log() - above.log(), t + (-torch.expm1(-t)).log())

    def _curved(self, y: Tensor) -> Tensor:
        """The part of each value that the cubic acts on, 0 where its tangent at 0 replaces it."""
        return torch.where(self._two_sided(), y, y.clamp(max=0))

    def _two_sided(self) -> Tensor:
        return self.ordered | self.bounds.isfinite().all(0)

    def _distances(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of every straightened value from its two bounds, 1 where there is none."""
        low, high = self.bounds
        high = torch.where(self.ordered, t[:, self.top], high)
        below = torch.where(low.isinf(), 1.0, torch.maximum(t - low, self.margin))
        above = torch.where(high.isinf(), 1.0, torch.maximum(high - t, self.margin))
        return below, above

    def _depth(self, column: int) -> int:
        """How many columns bound this one, one the other."""
        top = self.ceilings[column]
        return 0 if top is None else 1 + self._depth(top)


def _uncube(v: Tensor) -> Tensor:
    """The y of CUBIC[0] y + CUBIC[1] y³ = v: Cardano's formula for a cubic that rises everywhere."""
    root = math.sqrt(CUBIC[0] / (3 * CUBIC[1]))
    return 2 * root * (torch.asinh(1.5 * v / (CUBIC[0] * root)) / 3).sinh()


def _widest_gap(values: Tensor, period: float) -> float:
    """The middle of the widest empty arc of a circle."""
    around = torch.remainder(values, period).sort().values
    gaps = torch.cat([around[1:], around[:1] + period]) - around
    return float(around[gaps.argmax()] + gaps.max() / 2)


def _whole_bounds(values: Tensor, low: float, high: float) -> tuple[float, float]:
    """Bounds of whole numbers with uniform noise: the data's where those are sharp, or nothing is known of them."""
    first, last = float(values.min()), float(values.max())
    unknown = low == -math.inf
    if unknown or _sharp_edge(values) is not None:
        low = first
    if unknown or _sharp_edge(-values) is not None:
        high = last
    return low, high + 1


def _atom_and_bounds(values: Tensor, low: float, high: float) -> tuple[list[float], tuple[float, float]]:
    """A column's atom as `Support` keeps it, and its bounds: at sharp edges, and with room for the atom's stretch."""
    distinct, counts = values.unique(return_counts=True)
    value, count = float(distinct[counts.argmax()]), int(counts.max())
    has_atom = len(distinct) > 1 and count >= max(FEWEST, ATOM * len(values))
    rest = values[values != value] if has_atom else values
    first, last = _sharp_edge(rest), _sharp_edge(-rest)
    low = low if first is None else max(low, first)
    high = math.inf if low == -math.inf else high if last is None else min(high, -last)
    if not has_atom:
        return [math.inf, math.inf, 0.0, 0.0], (low, high)
    spread = float(rest.std(correction=0)) or abs(float(rest[0]) - value)
    length = math.sqrt(12) * spread * count / len(rest)
    if value < rest.min():
        end = max(value, float(rest.min()) - spread) if first is None else first
        return [value, end - length, length, 0.0], (end - length, high)
    if value > rest.max():
        start = min(value, float(rest.max()) + spread) if last is None else -last
        return [value, start, length, 0.0], (low, start + length)
    return [value, value, length, length], (low, high + length)


def _sharp_edge(values: Tensor) -> float | None:
    """Where values begin, if they do so sharply: as densely in their lowest 1 % as, within a factor 2, beyond."""
    rising = values.sort().values
    few = max(FEWEST, len(rising) // 100)
    if len(rising) <= few or rising[0] == rising[-1]:
        return None
    width = rising[few] - rising[0]
    if int((rising <= rising[0] + 2 * width).sum()) > 3 * few:
        return None
    return float(rising[0] - (rising[FEWEST] - rising[0]) / FEWEST)


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale > math.ulp(1.0), scale, 1.0)


SCALERS = {"standard": Standard, "scale": Scale, "unit": Unit}


def scaled(inputs: "Indexable", scaler: Scaler) -> "Indexable":
    """Network inputs: a tensor at once, anything else when it is asked for."""
    return scaler(inputs) if isinstance(inputs, Tensor) else _Lazy(inputs, scaler)


class _Lazy:
    """Rows that are made and scaled when they are indexed."""

    def __init__(self, rows: "Indexable", scaler: Scaler) -> None:
        self.rows = rows
        self.scaler = scaler

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.scaler(self.rows[index])
