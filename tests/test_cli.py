import json
import re
import subprocess
import sys

import pytest

from hepgen.config import json_schema


def hepgen(*arguments, cwd=None):
    command = [sys.executable, "-m", "hepgen.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def failed(result):
    """The one line that a user reads after a mistake."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


TABLE = """
samples:
  mine: {{source: arrays, path: "{path}", columns: {{mjj: a, tau21_heavy: b}}, label: 0}}
tagging:
  samples: [mine]
  models:
    pca: {{type: pca, inputs: [mjj, tau21_heavy], settings: {{components: 1}}}}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(TABLE.format(path=tmp_path / "table.csv"))
    return path


def listed(text):
    """The commands of a help page, in its order."""
    return [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2].isalpha()]


def test_help_reads_like_a_table_of_contents():
    before = ["check", "inspect", "schema", "datasets", "fetch"]
    after = ["plot", "export", "sample", "summary", "account", "status", "provenance"]
    stages = ["ingest", "observe", "overview", "search", "tagging", "generation", "unfolding", "integration"]
    assert listed(hepgen("--help").stdout) == [*before, *stages, *after]
    assert listed(hepgen("tagging", "--help").stdout) == ["train", "score", "evaluate", "split"]
    assert listed(hepgen("generation", "--help").stdout) == ["train", "sample", "evaluate"]
    assert listed(hepgen("unfolding", "--help").stdout) == [
        *("unfold", "learn", "posterior", "combine", "evaluate", "verdict", "bundle", "histogram", "hepdata"),
    ]
    assert listed(hepgen("integration", "--help").stdout) == ["sample", "evaluate"]


def test_check_says_what_would_run(config):
    result = hepgen("check", config)
    assert result.returncode == 0
    assert re.search(
        r"mine: observables of .*table\.csv \(arrays\), not here yet: .*table\.csv, 1 chunk", result.stdout
    )
    assert "tagging: pca" in result.stdout


@pytest.mark.parametrize("command", [["check"], ["tagging", "split", "-o", "split.h5"]])
def test_a_command_without_a_record_says_so(config, tmp_path, command):
    said = failed(hepgen("--record", "a.json", *command, config, *([config] if "-o" in command else []), cwd=tmp_path))
    assert "--record a.json: this command leaves no record" in said


def test_schema_is_json():
    assert json.loads(hepgen("schema").stdout) == json_schema()


def test_an_unknown_key_is_one_error(config):
    config.write_text(config.read_text().replace("models:", "model:"))
    assert "tagging.model: unknown key 'model' (did you mean 'models'?)" in failed(hepgen("check", config))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "table.csv"),
        ("a,b\n", "table.csv"),
        ("a,b\n1,nan\n", "tau21_heavy"),
        ("a\n1\n", "unknown column"),
    ],
    ids=["missing", "empty", "no events", "NaN", "column absent"],
)
def test_a_bad_input_file_is_one_error_and_leaves_nothing(config, tmp_path, content, message):
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert message in failed(hepgen("ingest", config, "mine", 0, "--output", tmp_path / "out.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_output_that_cannot_be_written_is_one_error(config, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert "cannot write" in failed(hepgen("ingest", config, "mine", 0, "--output", "/proc/out.h5"))


def test_an_input_of_the_wrong_kind_is_one_error(config, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,5\n")
    hepgen("ingest", config, "mine", 0, "--output", tmp_path / "table.h5")
    result = hepgen("tagging", "score", config, tmp_path / "table.h5", tmp_path / "table.h5", "-o", tmp_path / "s.h5")
    assert "not a readable model file" in failed(result)


def test_an_unknown_sample_is_one_error(config, tmp_path):
    assert "unknown sample 'mien' (did you mean 'mine'?)" in failed(
        hepgen("ingest", config, "mien", 0, "--output", tmp_path / "out.h5")
    )


def test_a_command_of_an_analysis_that_is_not_configured_is_one_error(config, tmp_path):
    assert "has no 'unfolding' block" in failed(
        hepgen("unfolding", "unfold", config, "ibu", "nominal", 1, config, "-o", tmp_path)
    )


def test_snakemakes_refusal_is_one_error(config, tmp_path):
    assert "No Snakefile found" in failed(hepgen("status", config, cwd=tmp_path))
    assert failed(hepgen("status", config, "--ful")) == "error: unrecognized arguments: --ful"
