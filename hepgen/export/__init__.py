"""Products in the formats of other tools; trained models are exported by `hepgen.export.onnx`."""

from collections.abc import Sequence
from pathlib import Path

from hepgen.errors import HepgenError
from hepgen.export.products import open_products
from hepgen.registry import Registry, unknown_name
from hepgen.storage import atomic, refuse_inputs

__all__ = ["WRITERS", "check_output", "export"]

WRITERS = Registry(
    "format",
    {
        ".root": "hepgen.export.root:write",
        ".h5": "hepgen.export.hdf5:write",
        ".parquet": "hepgen.export.parquet:write",
        ".npz": "hepgen.export.npz:write",
    },
)


def export(paths: Sequence[str | Path], output: str | Path, *, tree: str | None = None, rntuple: bool = False) -> int:
    """Write products of one kind, joined in the order given, as one file; its ending says in which format.

    Args:
        paths: Events, observables, generated events, scores, event weights of an unfolding, or a bundle of these.
        output: File to write, whole or not at all; one that stands there is replaced.
        tree: Name of the tree, for ROOT only; ``events`` if left out.
        rntuple: Whether to write an RNTuple rather than a TTree, for ROOT only.

    Returns:
        How many rows were written.

    Raises:
        HepgenError: if a file is missing, damaged, no such product or unlike the others, if the ending stands for no
            format or for one that cannot hold the product, or if the output cannot be written.
    """
    output = Path(output)
    models = [path for path in paths if Path(path).suffix == ".safetensors"]
    if models:
        msg = f"{models[0]}: is a trained model, not a product with rows; models are exported to .onnx"
        raise HepgenError(msg)
    check_output(output)
    settings = {"tree": tree} if tree is not None else {}
    if rntuple:
        settings["rntuple"] = True
    WRITERS.check_settings(output.suffix, settings)
    product = open_products(paths)
    refuse_inputs(output, product.paths)
    if product.further and output.suffix != ".root":
        msg = f"{product.where}: holds more than one table ({', '.join(product.further)}); export to .root, as trees"
        raise HepgenError(msg)
    write = WRITERS.load(output.suffix)
    with atomic(output) as temporary:
        write(product, temporary, **settings)
    return product.rows


def check_output(output: Path) -> None:
    """Raise `HepgenError` if the ending of a file stands for no format."""
    if output.suffix not in WRITERS:
        raise unknown_name(f"ending of {output}:", output.suffix, WRITERS)
