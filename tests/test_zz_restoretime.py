import time, re
from tests.fault_load import Load
from tests.worker_process import *


def test_q(kafka, prefix, tmp_path):
    apply_topics(kafka, prefix)
    worker = Worker(kafka, prefix, tmp_path / "state")
    with worker:
        with Load(kafka, prefix, 5) as load:
            worker.wait_ready()
            time.sleep(3)
        wait_until_caught_up(kafka, prefix, workers=[worker])
        for _ in range(3):
            worker.terminate()
            worker.start()
            worker.wait_ready()
    print([l for l in worker.log().splitlines() if "assigned" in l or "restored" in l])
