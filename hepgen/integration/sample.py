"""Adapt one method with one seed, then draw weighted events."""

from pathlib import Path

import numpy as np

from hepgen.checkpoints import resumable
from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.integration.matrix_element import DIMENSIONS, cross_section, phase_space
from hepgen.integration.samplers import draw
from hepgen.integration.unweighting import bootstrap_maximum, unweight
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.storage import Columns, create_h5

__all__ = ["KIND", "sample"]

KIND = "weighted"


def sample(config: Config, method: str, seed: int, output: Path, device: str = "auto") -> int:
    """Write a method's events; returns how many there are before unweighting.

    The columns of the group ``events`` are those of `hepgen.integration.matrix_element.Point`, ``weight`` [pb], whose
    mean estimates the cross section, ``stratum``, and ``unweighted``, the weight after hit or miss: 0 for rejected
    events, 1, or what is above the maximum, which the attribute ``maximum`` [pb] holds.

    Args:
        config: The run.
        method: An entry of ``integration.methods``.
        seed: Fixes all random numbers, together with the run's.
        output: HDF5 file to write.
        device: Of flows: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the method is unknown, cannot be adapted or finds no event within the cuts.
    """
    block = config.integration
    entry = look_up("entry of integration.methods", method, block.methods)
    random = seed_for(config.seed, "integration", method, seed)
    made_from = provenance(config, "integration_sample", method)
    with resumable(output, made_from, seed):
        drawn = draw(method, entry, lambda u: cross_section(block, u), DIMENSIONS, block.events, random, device)
        maximum = bootstrap_maximum(drawn.weight)
        if maximum == 0:
            msg = f"integration.methods.{method}: hardly any of {len(drawn.weight)} points is within the cuts"
            raise HepgenError(f"{msg}; loosen them or raise integration.events")
        point, _ = phase_space(drawn.u)
        columns = {name: values.astype(np.float32) for name, values in point._asdict().items()}
        columns |= {"weight": drawn.weight, "stratum": drawn.stratum}
        columns["unweighted"] = unweight(drawn.weight, maximum, np.random.default_rng(random + 1))
        with create_h5(output, KIND, made_from) as file:
            file.attrs.update(method=method, seed=seed, maximum=maximum, adaptation=drawn.adaptation)
            Columns(file.create_group("events")).append(columns)
    return len(drawn.weight)
