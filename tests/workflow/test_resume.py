"""Jobs that are killed while they learn, by signals to real processes, leave what undisturbed ones leave."""

import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from hepgen.checkpoints import STOPPED

from ..project import environment

# A job as it is, but for how often it writes its checkpoint.
PROGRAM = "from hepgen import checkpoints, cli; checkpoints.SECONDS = 0.2; cli.main()"
# A stage's words on the command line, and trainings that take seconds.
JOBS = {
    "tagging": ("train", "models", "dense_ae", {"training": {"epochs": 300, "batch_size": 16, "ema": 0.99}}),
    "generation": ("train", "models", "rqs_flow", {"training": {"epochs": 30, "batch_size": 32}}),
    "unfolding": ("unfold", "methods", "omnifold", {"iterations": 2, "training": {"epochs": 40, "batch_size": 32}}),
    "integration": ("sample", "methods", "flow", {"points": 2000, "training": {"epochs": 40, "batch_size": 250}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("analysis", JOBS)
def test_a_product_is_the_same_however_its_job_is_killed(finished, tmp_path, analysis):
    stage, block, name, changes = JOBS[analysis]
    config = yaml.safe_load((finished.root / "config.yaml").read_text())
    config[analysis][block][name] |= changes
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    tables = sorted(map(str, finished.root.glob("results/observables/*/*.h5"))) if analysis != "integration" else []
    words = [analysis, stage, "config.yaml", name, *(["nominal"] if stage == "unfold" else []), "1", *tables]

    def start(output):
        command = [sys.executable, "-c", PROGRAM, *words, "--device", "cpu", "--output", output.name]
        return subprocess.Popen(command, cwd=tmp_path, env=environment(finished.root))

    whole, product = tmp_path / "whole", tmp_path / "product"
    checkpoint = tmp_path / "product.checkpoint"
    assert start(whole).wait() == 0
    moment = random.Random(1)
    for number, status in ((signal.SIGTERM, STOPPED), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, STOPPED)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        job = start(product)
        while job.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(moment.uniform(0, 0.3))
        job.send_signal(number)
        assert job.wait() == status
        assert checkpoint.exists()
        assert not product.exists()
    assert start(product).wait() == 0
    assert product.read_bytes() == whole.read_bytes()
    assert not checkpoint.exists()
