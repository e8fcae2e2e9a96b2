"""Verification keys of the right form, whose points lie on no curve: for whoever looks at no more than the form."""

from __future__ import annotations

from typing import Any

from shardy_common.verifiers import Key, checked_key


def made_vk(number: int, public: int = 4, **more: Any) -> dict[str, Any]:
    """Another key for each number."""

    def g1(at: int) -> list[str]:
        return [str(1_000 * number + at), str(7 * at), "1"]

    def g2(at: int) -> list[list[str]]:
        return [[str(number), str(at)], [str(at + 1), str(at + 2)], ["1", "0"]]

    return {
        "protocol": "groth16",
        "curve": "bn128",
        "nPublic": public,
        "vk_alpha_1": g1(1),
        "vk_beta_2": g2(2),
        "vk_gamma_2": g2(3),
        "vk_delta_2": g2(4),
        "IC": [g1(at) for at in range(public + 1)],
        **more,
    }


def made_key(number: int) -> Key:
    return checked_key(made_vk(number))
