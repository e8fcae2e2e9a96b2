"""Tiers: what a device may be given. One table, from a phone without WebGPU to a large GPU.

A worker gets the highest tier whose floor it reaches in measured speed and in memory. task_ms: how long a task should
take; queue_ms: how much work is queued ahead on the device, so that it never waits for a round trip; max_leases bounds
the count of small tasks; memory_share: part of the device's memory that one task may fill.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tier:
    name: str
    gops_min: float
    memory_mib_min: int
    needs_gpu: bool
    task_ms: int
    queue_ms: int
    max_leases: int
    result_mib_max: int
    memory_share: float


TIERS: tuple[Tier, ...] = (
    Tier("wasm-phone", 0.0, 16, False, 700, 1_500, 64, 8, 0.20),
    Tier("wasm-laptop", 8.0, 256, False, 1_000, 3_000, 512, 64, 0.25),
    Tier("wasm-desktop", 30.0, 512, False, 1_000, 3_000, 512, 128, 0.25),
    Tier("gpu-integrated", 200.0, 512, True, 1_000, 3_000, 512, 128, 0.25),
    Tier("gpu-discrete", 2_000.0, 1_024, True, 1_000, 3_000, 512, 256, 0.25),
    Tier("gpu-large", 20_000.0, 4_096, True, 1_000, 4_000, 512, 512, 0.25),
)
BY_NAME = {tier.name: tier for tier in TIERS}


def tier_for(gops: float, memory_mib: int, has_gpu: bool) -> Tier | None:
    """The highest tier that the device reaches; None when it is too small for any work."""
    reached = [
        tier
        for tier in TIERS
        if gops >= tier.gops_min and memory_mib >= tier.memory_mib_min and (has_gpu or not tier.needs_gpu)
    ]
    return reached[-1] if reached else None


def tier_shown(given: Tier, gops: float, memory_mib: int) -> Tier:
    """The tier that a device works in: the one it was given, unless the speed that it has shown since is under an
    eighth of that tier's floor. Then it claimed what it has not got, and is queued for like what it is."""
    if gops * 8 >= given.gops_min:
        return given
    return tier_for(gops, memory_mib, given.needs_gpu) or given


def believable_gops(claimed: float, probe_ops: int, gateway_ms: float) -> float:
    """A claim cut to what the gateway's own clock allows. It timed a dependent chain of small products, hand-overs and
    network included, on which a large GPU shows a small part of its speed; more than 500 times what it showed is not
    believed at join. Speed shown on real tasks is learned later, from results."""
    shown = probe_ops / max(gateway_ms, 0.1) / 1e6
    return max(0.01, min(claimed, 500 * shown))
