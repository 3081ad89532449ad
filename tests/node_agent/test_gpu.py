"""Names of cards as people use them, and the machine as the kernel describes it."""

import os
import sys
import types
from pathlib import Path

import pytest

from services.node_agent import gpu

NAMES = {
    "NVIDIA GeForce RTX 4090": ("NVIDIA", "RTX 4090"),
    "NVIDIA GeForce RTX 3060 Ti": ("NVIDIA", "RTX 3060 Ti"),
    "NVIDIA GeForce RTX 4090 Laptop GPU": ("NVIDIA", "RTX 4090 Laptop"),
    "GeForce GTX 1080 Ti": ("NVIDIA", "GTX 1080 Ti"),
    "NVIDIA H200": ("NVIDIA", "H200"),
    "NVIDIA H100 80GB HBM3": ("NVIDIA", "H100"),
    "NVIDIA H100 PCIe": ("NVIDIA", "H100"),
    "NVIDIA A100-SXM4-80GB": ("NVIDIA", "A100"),
    "NVIDIA A100 80GB PCIe": ("NVIDIA", "A100"),
    "Tesla V100-SXM2-16GB": ("NVIDIA", "V100"),
    "Tesla T4": ("NVIDIA", "T4"),
    "NVIDIA L40S": ("NVIDIA", "L40S"),
    "NVIDIA RTX A6000": ("NVIDIA", "RTX A6000"),
    "NVIDIA RTX 6000 Ada Generation": ("NVIDIA", "RTX 6000 Ada"),
    "NVIDIA GH200 480GB": ("NVIDIA", "GH200"),
    "AMD Instinct MI300X OAM": ("AMD", "Instinct MI300X"),
    "": ("NVIDIA", ""),
}


@pytest.mark.parametrize(("said", "name"), NAMES.items())
def test_names_are_those_people_ask_for(said: str, name: tuple[str, str]) -> None:
    assert gpu.name_of(said) == name


class DriverError(Exception):
    pass


def driver(cards: int, **answers: object) -> types.ModuleType:
    """A stand-in for NVML; an answer that is an exception is raised."""
    module = types.ModuleType("pynvml")

    def replying(answer: object) -> object:
        def reply(*_: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return reply

    given: dict[str, object] = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": cards,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetName": b"NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetMinorNumber": 3,
        "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=24 << 30),
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=40),
    }
    for name, answer in {**given, **answers}.items():
        setattr(module, name, replying(answer))
    module.NVMLError = DriverError  # type: ignore[attr-defined]
    return module


def test_cards_are_read_through_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(2))
    first, second = gpu.read_gpus().cards
    assert (first.index, second.index) == (0, 1)
    assert (first.minor, first.model, first.vram_bytes, first.utilisation) == (3, "RTX 4090", 24 << 30, 40)


def test_what_a_card_cannot_say_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = ("nvmlDeviceGetMinorNumber", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates")
    monkeypatch.setitem(sys.modules, "pynvml", driver(1, **dict.fromkeys(silent, DriverError("Not Supported"))))
    (card,) = gpu.read_gpus().cards
    assert (card.minor, card.vram_bytes, card.utilisation) == (0, 0, None)


@pytest.mark.parametrize("silent", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetUUID"])
def test_without_a_driver_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(1, **{silent: DriverError("Driver Not Loaded")}))
    found = gpu.read_gpus()
    assert found.cards == ()
    assert "Driver Not Loaded" in found.missing


def test_without_cards_there_are_no_device_nodes() -> None:
    assert gpu.device_nodes(()) == ()


def machine(root: Path, **files: str) -> Path:
    plain = {
        "proc/cpuinfo": "processor : 0\nmodel name : A Processor @ 2.60GHz\ncpu MHz : 2599.998\nprocessor : 1\n",
        "proc/meminfo": "MemTotal:       16384 kB\nMemFree:        1 kB\n",
    }
    for name, text in {**plain, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_processor_is_what_the_kernel_says(tmp_path: Path) -> None:
    found = gpu.read_processor(machine(tmp_path))
    assert found == gpu.Processor(
        model="A Processor @ 2.60GHz", cores=len(os.sched_getaffinity(0)), mhz=2600, memory_bytes=16 << 20
    )


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [
        ("sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory.max"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ],
)
def test_limits_of_a_container_are_respected(tmp_path: Path, cpu: str, memory: str) -> None:
    quota = {cpu: "100000 100000"} if cpu.endswith("max") else {cpu: "100000", cpu.replace("quota", "period"): "100000"}
    found = gpu.read_processor(machine(tmp_path, **quota, **{memory: str(8 << 20)}))
    assert (found.cores, found.memory_bytes) == (1, 8 << 20)


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}
    found = gpu.read_processor(machine(tmp_path, **files))
    assert (found.cores, found.memory_bytes) == (len(os.sched_getaffinity(0)), 16 << 20)


def test_the_highest_clock_counts(tmp_path: Path) -> None:
    frequency = {"sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "4200000"}
    assert gpu.read_processor(machine(tmp_path, **frequency)).mhz == 4200
