"""Where a file came from: the records of the jobs behind it, back to the inputs."""

from hepgen.lineage.records import NOTES, Archive, Step, kind, other_versions, span

__all__ = ["NOTES", "Archive", "Step", "kind", "other_versions", "span"]
