"""Options of recommending items."""

from __future__ import annotations

from lstmkit.errors import SettingError

SEEN_ITEMS = ("allow", "exclude")  #: What may happen to items of the session itself.


def check_recommendation_options(k: int, seen_items: str) -> None:
    """Check how many items are recommended, and of which kind.

    Args:
        k: The number of items.
        seen_items: One of :data:`SEEN_ITEMS`; empty for the setting of the job.

    Raises:
        SettingError: One of them is out of range.
    """
    if not isinstance(k, int) or k < 1:
        raise SettingError(f"k must be a whole number of at least 1, got {k!r}")
    if seen_items not in ("", *SEEN_ITEMS):
        raise SettingError(f"seen_items must be one of {', '.join(SEEN_ITEMS)}, got {seen_items!r}")
