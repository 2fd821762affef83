"""What a notifier goes by, from the settings."""

from infra.settings import NotificationSettings, WindowSettings
from schemas.time import micros
from streams.notifications.grouping import Intervals
from streams.notifications.notifier import Terms


def terms_of(settings: NotificationSettings, windows: WindowSettings) -> Terms:
    """What the settings say."""
    return Terms(
        Intervals(micros(settings.group_wait), micros(settings.group_interval)),
        tuple(settings.group_by),
        windows.timezone,
        settings.public_url,
    )
