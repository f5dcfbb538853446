"""A real Slurm of two nodes on this machine, for tests: munged, slurmctld and two slurmd of its own.

    eval "$(python tests/cluster/slurm.py start FOLDER)"
    python tests/cluster/slurm.py stop FOLDER

It lives in one folder and needs neither root nor systemd or a database; any number of them run side by side.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Any

NODES = ("node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo")
SYSTEM_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"

# Jobs over their memory are killed, higher partitions preempt lower ones, and finished jobs stay listed.
CONFIGURATION = """
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=86400
KillWait=10
ReturnToService=2
SlurmdTimeout={timeout}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory={memory} Gres=gpu:1
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory={memory} Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL DefaultTime=10 PriorityTier=1 GraceTime=10
"""
# Nothing is a GPU here: it is only counted and given to jobs.
GPUS = "NodeName=node[1-2] Name=gpu File=/dev/null\n"
CGROUPS = "CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\n"
# The executor's job step starts srun without SLURM_CONF.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


class Unavailable(Exception):
    """Why there can be no such test here."""


@dataclass(frozen=True)
class Slurm:
    """A Slurm in a folder.

    Attributes:
        folder: Where everything of it is; not a long name, as sockets are there too.
        cpus, memory: What each node says to have, the latter in MB.
        timeout: Seconds until a node that is silent counts as lost.
        tracking: How it knows a job's processes: as children of its own (`linuxproc`), or by `cgroup`, as most do that
            are not for tests; this needs root, and no other one of its kind at the same time.
    """

    folder: Path
    cpus: int = 2
    memory: int = 32_000
    timeout: int = 60
    tracking: str = "linuxproc"

    def __enter__(self) -> "Slurm":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What makes all commands of Slurm, and snakemake, use this one."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def run(self, *command: str | Path, check: bool = True) -> str:
        """The output of a command that uses this Slurm."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, check=check, capture_output=True, text=True, timeout=60).stdout

    def start(self) -> None:
        """Start whatever does not run yet, and wait until both nodes take jobs."""
        missing = [name for name in PROGRAMS if not shutil.which(name, path=SYSTEM_PATH)]
        if missing:
            msg = f"no {', '.join(missing)} here; on Debian and Ubuntu: apt install slurm-wlm munge"
            raise Unavailable(msg)
        if not (self.folder / "slurm.conf").exists():
            self._configure()
        munge = self.folder / "munge"
        self._daemon("munged", "--force", f"--key-file={munge}/key", f"--seed-file={munge}/seed",
                     f"--log-file={munge}/log", f"--socket={self.folder}/munge.sock",
                     f"--pid-file={self.folder}/munged.pid", name="munged")  # fmt: skip
        configured = ["-f", str(self.folder / "slurm.conf")]
        self._daemon("slurmctld", *configured, name="slurmctld")
        for node in NODES:
            self.start_node(node)
        self._expect(lambda: self.run("sinfo", "-hNt", "idle,mix,alloc", "-p", "main").count("\n") == 2, "no nodes")

    def start_node(self, node: str) -> None:
        """Start a node's daemon unless it runs."""
        self._daemon("slurmd", "-f", str(self.folder / "slurm.conf"), "-N", node, name=node)

    def stop(self) -> None:
        """Cancel all jobs, stop the daemons that were started here, and remove the folder."""
        if not self.folder.exists():
            return
        if self.pid("slurmctld"):
            self.run("scancel", "--full", "--user", getuser(), check=False)
            # Those of a node that is lost never do.
            _wait(lambda: not self.run("squeue", "-h"))
        for name in (*NODES, "slurmctld", "munged"):
            self.stop_daemon(name)
        shutil.rmtree(self.folder)

    def pid(self, name: str) -> int | None:
        """The process of a daemon, `node1`, `node2`, `slurmctld` or `munged`; none where it does not run."""
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
            program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except (OSError, ValueError):
            return None
        return pid if Path(program).name in PROGRAMS else None

    def stop_daemon(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop a daemon by a signal and wait for its end."""
        if pid := self.pid(name):
            os.kill(pid, number)
            self._expect(lambda: not self.pid(name), f"{name} does not stop")

    def _configure(self) -> None:
        """Write the configuration, with ports that are free."""
        for name in ("munge", "state", *NODES, "bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        srun = self.folder / "bin/srun"
        srun.write_text(SRUN.format(folder=shlex.quote(str(self.folder)), srun=shutil.which("srun")))
        srun.chmod(0o755)
        (self.folder / "gres.conf").write_text(GPUS)
        (self.folder / "cgroup.conf").write_text(CGROUPS)
        fields = vars(self) | {"host": socket.gethostname().split(".")[0], "user": getuser(), "ports": _free_ports(3)}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format_map(fields))

    def _daemon(self, program: str, *arguments: str, name: str) -> None:
        """Start a program that puts itself into the background."""
        if self.pid(name):
            return
        (self.folder / f"{name}.pid").unlink(missing_ok=True)
        command = [shutil.which(program, path=SYSTEM_PATH), *arguments]
        done = subprocess.run(command, capture_output=True, check=False)
        self._expect(lambda: done.returncode == 0 and self.pid(name), f"{program} does not start")

    def _expect(self, condition: Callable[[], Any], complaint: str) -> None:
        """Wait for something; where it does not come, say what the daemons have said last."""
        if not _wait(condition):
            logs = (f"\n--- {log}\n{log.read_text()[-1000:]}" for log in self.folder.glob("*.log"))
            raise Unavailable(complaint + "".join(logs))


def _wait(condition: Callable[[], Any]) -> bool:
    """Whether something comes true within a minute."""
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpus", type=int, default=Slurm.cpus, help="of each node")
    parser.add_argument("--memory", type=int, default=Slurm.memory, help="of each node, in MB")
    arguments = parser.parse_args()
    slurm = Slurm(arguments.folder.absolute(), arguments.cpus, arguments.memory)
    if arguments.action == "stop":
        slurm.stop()
        return
    slurm.start()
    for name, value in slurm.environment.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
