"""Copies of the project in which the workflow runs."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def copy_code(root: Path) -> None:
    """The parts of the project that a run needs, and the small configuration."""
    root.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("hepgen", "workflow", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    shutil.copy(ROOT / "Snakefile", root)
    shutil.copy(ROOT / "tests/workflow/tiny.yaml", root / "config.yaml")


def environment(root: Path, **further: str) -> dict[str, str]:
    """What makes hepgen and snakemake those of this Python, with a copy's code; one thread a job."""
    found = {**os.environ, **further}
    path = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
    return {**found, "PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


@dataclass
class Project:
    """A checkout with its own code, configuration and results."""

    root: Path

    def snakemake(self, *arguments: str, cores: int = 2, check: bool = True) -> subprocess.CompletedProcess:
        """Run snakemake here, with the copy's code and with the small configuration."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", str(cores), "--configfile", "config.yaml"]
        result = subprocess.run(
            command, cwd=self.root, env=environment(self.root), capture_output=True, text=True, check=False
        )
        if check and result.returncode:
            logs = "".join(f"\n--- {log}\n{log.read_text()}" for log in self.root.glob("results/logs/**/*.log"))
            pytest.fail(f"{result.stdout}\n{result.stderr}\n{logs}")
        return result

    def planned(self, *targets: str) -> Counter[str]:
        """How many jobs of each rule a run would have now, without the target rules and the account of whatever ran."""
        output = self.snakemake(*targets, "--dry-run").stdout
        if "Nothing to be done" in output:
            return Counter()
        table = re.search(r"^job +count\n[- ]+\n(.*?)\ntotal ", output, re.MULTILINE | re.DOTALL)
        jobs = dict(line.split() for line in table[1].splitlines())
        others = {"all", "account", "samples", "tagging", "generation", "unfolding", "integration"}
        return Counter({rule: int(count) for rule, count in jobs.items() if rule not in others})

    def planned_models(self, rule: str) -> set[str]:
        """The models that a rule's planned jobs are for."""
        output = self.snakemake("--dry-run").stdout
        return set(re.findall(rf"^rule {rule}:\n(?:    .*\n)*?    wildcards: .*model=(\w+)", output, re.MULTILINE))

    def configure(self, change) -> None:
        """Change the configuration in place."""
        path = self.root / "config.yaml"
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))
