"""Reads what the machine has: GPUs through NVML, and the processor and memory that this process may use."""

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

_MAKERS = ("NVIDIA", "AMD", "Intel")
# Words that say the series, the form or the size of a card; what is left is the model people ask for.
_SERIES = {"geforce", "tesla", "gpu", "generation", "edition", "with", "max-q", "design"}
_FORM = re.compile(r"(?i)(sxm\d*|pcie|hbm\d\w*|\d+gb|\d+g|oam|dgxs?|hgx)")


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One card. `minor` is the number of its device node; `utilisation` is in percent, None where NVML has none."""

    index: int
    minor: int
    manufacturer: str
    model: str
    vram_bytes: int
    uuid: str
    utilisation: int | None = None


class Gpus(msgspec.Struct, frozen=True):
    """The cards of this machine, and why there are none."""

    cards: tuple[Gpu, ...]
    missing: str = ""


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """What this process may use of the machine: its affinity and cgroup are respected, 0 MHz is unknown."""

    model: str
    cores: int
    mhz: int
    memory_bytes: int


def read_gpus() -> Gpus:
    """The cards, in NVML's order; takes milliseconds with a driver, none without."""
    try:
        import pynvml
    except ImportError:
        return Gpus((), "The package nvidia-ml-py is not installed.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus((), f"No NVIDIA driver answers: {error}.")
    try:
        return Gpus(tuple(_card(index) for index in range(pynvml.nvmlDeviceGetCount())))
    except pynvml.NVMLError as error:
        return Gpus((), f"The NVIDIA driver cannot be read: {error}.")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _card(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    manufacturer, model = name_of(_text(pynvml.nvmlDeviceGetName(handle)))

    def told(question: Callable[[Any], Any]) -> Any:
        """What some cards and some virtual machines cannot say is None."""
        with contextlib.suppress(pynvml.NVMLError):
            return question(handle)
        return None

    minor, memory = told(pynvml.nvmlDeviceGetMinorNumber), told(pynvml.nvmlDeviceGetMemoryInfo)
    rates = told(pynvml.nvmlDeviceGetUtilizationRates)
    return Gpu(
        index=index,
        minor=index if minor is None else int(minor),
        manufacturer=manufacturer,
        model=model,
        vram_bytes=int(memory.total) if memory else 0,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        utilisation=int(rates.gpu) if rates else None,
    )


def _text(said: str | bytes) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said


def name_of(said: str) -> tuple[str, str]:
    """Manufacturer and model of a card's name: "NVIDIA A100-SXM4-80GB" is ("NVIDIA", "A100").

    The size of its memory is not part of the name, since it stands beside it. A name that says no manufacturer comes
    from NVML, so from NVIDIA.
    """
    words = said.replace("(R)", "").replace("(TM)", "").split()
    maker = next((maker for maker in _MAKERS for word in words if word.lower() == maker.lower()), _MAKERS[0])
    kept = []
    for word in words:
        if word.lower() in _SERIES or word.lower() == maker.lower():
            continue
        parts = [part for part in word.split("-") if not _FORM.fullmatch(part)]
        if parts:
            kept.append("-".join(parts))
    return maker, " ".join(kept) or said.strip()


def device_nodes(cards: Sequence[Gpu]) -> tuple[str, ...]:
    """The files under /dev that give access to these cards and to no other."""
    if not cards:
        return ()
    shared = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps", "dxg")
    wanted = [Path("/dev", name) for name in (*(f"nvidia{card.minor}" for card in cards), *shared)]
    return tuple(str(path) for path in wanted if path.exists())


def read_processor(root: Path = Path("/")) -> Processor:
    """The processor and memory of the Linux system whose /proc and /sys lie under `root`."""
    cpuinfo = _fields(root / "proc/cpuinfo")
    return Processor(
        model=cpuinfo.get("model name") or cpuinfo.get("Model") or "unknown",
        cores=_cores(root),
        mhz=_mhz(root, cpuinfo),
        memory_bytes=_memory(root),
    )


def _fields(path: Path) -> dict[str, str]:
    """The `name : value` lines of a file, the first of each name."""
    fields: dict[str, str] = {}
    for line in _read(path).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _cores(root: Path) -> int:
    # Not on macOS, where Python's affinity is unknown.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(root / f"sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdigit() and int(quota) > 0 and period.isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def _mhz(root: Path, cpuinfo: dict[str, str]) -> int:
    """The highest clock the machine admits to; virtual machines name the one they run at, or none."""
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    for name in ("cpuinfo_max_freq", "base_frequency"):
        if (kilohertz := _read(frequency / name)).isdigit():
            return int(kilohertz) // 1000
    with contextlib.suppress(ValueError):
        return round(float(cpuinfo.get("cpu MHz", "0")))
    return 0


def _memory(root: Path) -> int:
    total = int(_fields(root / "proc/meminfo").get("MemTotal", "0 kB").split()[0]) * 1024
    limits = [_read(root / f"sys/fs/cgroup/{name}") for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([total, *(int(limit) for limit in limits if limit.isdigit() and int(limit) > 0)])


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
