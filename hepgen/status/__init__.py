"""Where a run stands: what is done, running, failed or stale and why, and what would run now."""

from hepgen.status.jobs import Job, Plan, plan

__all__ = ["Job", "Plan", "plan"]
