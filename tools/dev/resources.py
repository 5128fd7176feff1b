"""The resources that a process holds, which should not grow over a long time."""

from pathlib import Path

from mmreplk.benchmarks.measure import resident_mib


def held_resources() -> dict[str, float]:
    """Returns what this process holds: resident memory in MiB, and how many open files, threads and children."""
    tasks = list(Path('/proc/self/task').iterdir())
    return dict(
        memory_mib=resident_mib(),
        files=len(list(Path('/proc/self/fd').iterdir())),
        threads=len(tasks),
        children=sum(len((task / 'children').read_text().split()) for task in tasks))
