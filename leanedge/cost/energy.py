"""Energy of one inference: the board's power under load times the latency, where a source gives that power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.figures import Figure, unavailable

if TYPE_CHECKING:
    from leanedge.profile import DeviceProfile

__all__ = ["predict_energy"]


def predict_energy(profile: DeviceProfile, latency: Figure) -> Figure:
    """Microjoules of one inference of the whole board, idle share included.

    Args:
        profile: The device; its power is that with all cores computing, so fewer threads take less.
        latency: Milliseconds of one inference, measured or predicted.

    Returns:
        Kind ``predicted``, with the interval of the latency; unavailable without a sourced power or a latency.
    """
    if profile.power is None:
        return unavailable("uJ", f"the profile of {profile.name} has no sourced power figure")
    if latency.value is None:
        return unavailable("uJ", f"latency is unavailable: {latency.detail.get('reason', 'no reason given')}")
    watts = profile.power.load_watts
    detail = {
        "by": "board power under load x latency",
        "load_watts": watts,
        "latency": latency.how,
        "source": profile.power.source,
    }
    if "low_ms" in latency.detail:
        detail |= {"low_uj": 1e3 * watts * latency.detail["low_ms"], "high_uj": 1e3 * watts * latency.detail["high_ms"]}
    # Milliwatt-seconds: watts x milliseconds = millijoules = 1000 microjoules.
    return Figure(1e3 * watts * latency.value, "uJ", "predicted", detail)
