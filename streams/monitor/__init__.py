"""
Looks at a group from outside, for all partitions, whether a worker owns them or not.

`objections monitor`: it joins no group and writes nothing, so it goes on telling how late
propagation is when there is nobody left to tell it.
"""

from streams.monitor.sight import Sight
from streams.monitor.watcher import Watcher, count_partitions

__all__ = ["Sight", "Watcher", "count_partitions"]
