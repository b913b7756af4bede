"""The engine's end of the process that calls the CUDA driver, with small programs as the other end."""

from __future__ import annotations

import asyncio
import sys

import pytest

from serving.snapshots.cuda import driver as driver_module
from serving.snapshots.cuda.driver import CudaDriver, DriverFailed, Gpu

ANSWERS = """
import json, sys, time
gpu = {"name": "a double", "uuid": sys.argv[1] or "GPU-0", "driver": "1", "moves": True, "all_gpus": "GPU-0"}
print(json.dumps({"done": gpu}), flush=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    if what == "save" and 1 in arguments[0]: time.sleep(60)
    if what == "save" and 2 in arguments[0]: sys.exit()
    answers = {"measure_memory": {"done": [3, 8]}, "find_processes": {"done": arguments and arguments[0][:1]},
               "load": {"failed": "CUDA_ERROR_UNKNOWN"}, "save": {"done": None}}
    print(json.dumps(answers[what]), flush=True)
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "COMMAND", [sys.executable, "-c", ANSWERS])


def test_calls_are_answered_one_after_the_other(program: None) -> None:
    async def main() -> None:
        driver = CudaDriver()
        await driver.open()
        assert driver.gpu == Gpu("a double", "GPU-0", "1", True, "GPU-0")
        memory, found = await asyncio.gather(driver.measure_memory(), driver.find_processes([7, 8]))
        assert memory == (3, 8) and found == [7]
        await driver.save([3], 20)
        with pytest.raises(DriverFailed, match="load: CUDA_ERROR_UNKNOWN"):
            await driver.load([3], 20)
        await driver.close()

    asyncio.run(main())


def test_a_process_that_hangs_or_ends_is_replaced_at_the_next_call(program: None) -> None:
    async def main() -> None:
        driver = CudaDriver()
        await driver.open()
        with pytest.raises(DriverFailed, match=r"save: the CUDA driver did not answer within 0.3 s"):
            await driver.save([1], 0.3)
        assert await driver.measure_memory() == (3, 8)
        with pytest.raises(DriverFailed, match="save: the process that talks to the CUDA driver ended"):
            await driver.save([2], 20)
        assert await driver.measure_memory() == (3, 8)
        await driver.close()
        await driver.open("GPU-7")
        with pytest.raises(DriverFailed, match="ended"):
            await driver.save([2], 20)
        assert await driver.measure_memory() == (3, 8) and driver.gpu.uuid == "GPU-7", "the same GPU as before"
        await driver.close()

    asyncio.run(main())
