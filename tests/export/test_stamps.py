import json

import numpy as np
import onnx
import pytest

from hepgen.errors import HepgenError
from hepgen.export import export
from hepgen.export.stamps import read_stamps
from hepgen.models.files import save_model

STAMP = {"card": {"name": "net"}, "code": "c0de", "versions": {}}


@pytest.mark.parametrize("suffix", [".h5", ".root", ".parquet", ".npz"])
def test_an_export_says_what_it_was_made_from(store, tmp_path, suffix):
    stored = store("scores")
    export(stored.paths, tmp_path / f"x{suffix}")
    assert read_stamps(tmp_path / f"x{suffix}") == [json.loads(stored.provenance)]


def test_a_product_and_models_do_too(store, tmp_path):
    stored = store("events")
    assert read_stamps(stored.paths[0]) == [json.loads(stored.provenance)]
    save_model(tmp_path / "x.safetensors", {}, {}, json.dumps(STAMP))
    model = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
    onnx.helper.set_model_props(model, {"provenance": json.dumps(STAMP)})
    onnx.save(model, tmp_path / "x.onnx")
    assert read_stamps(tmp_path / "x.safetensors") == read_stamps(tmp_path / "x.onnx") == [STAMP]


def test_an_export_of_several_files_has_all_their_stamps(tmp_path):
    np.savez(tmp_path / "x.npz", provenance=json.dumps([STAMP, {"card": {"name": "other"}}, "none"]))
    assert [stamp["card"]["name"] for stamp in read_stamps(tmp_path / "x.npz")] == ["net", "other"]


def test_a_file_of_others_has_none(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.csv").write_text("a,b\n")
    assert read_stamps(tmp_path / "x.npz") == read_stamps(tmp_path / "x.csv") == []


@pytest.mark.parametrize("suffix", [".h5", ".root", ".parquet", ".npz", ".safetensors", ".onnx"])
def test_a_damaged_file_is_one_error(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"not what its name says" * 10)
    with pytest.raises(HepgenError, match=rf"x\{suffix}: not a readable"):
        read_stamps(tmp_path / f"x{suffix}")
