"""
A worker's clock is wrong.

No false alarm comes of it: what time decides in the load are notice windows that end within the
run.  A fast clock ends them early and a slow one late, so what stands after the run, when all of
them have ended and all clocks are right again, is what the inputs say.
"""

import time

from streams.bench.faults.plan import Fault
from streams.bench.faults.scene import Scene


def wrong(scene: Scene, fault: Fault) -> str:
    """Restart a worker with a wrong clock, and later with the right one."""
    worker = scene.workers[fault.worker]
    worker.leave()
    worker.variables["CLOCK_OFFSET_S"] = fault.amount
    worker.start()
    try:
        scene.wait_until_whole()
        time.sleep(fault.lasts_s)
    finally:
        del worker.variables["CLOCK_OFFSET_S"]
    worker.leave()
    worker.start()
    return ""
