"""What holds notifications of an alert back, pure: from the silences, and from what the notifier decided."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from api.models.alerts import HeldBack
from streams.definitions import Definition
from streams.notifications.errors import SilenceError
from streams.notifications.silence import Acknowledgement, Silence, parse_silence
from streams.notifications.transition import Transition
from streams.windows.panes import Micros

_log = logging.getLogger(__name__)


def is_readable(definition: Definition) -> bool:
    """Whether it is a silence or an acknowledgement. What is none holds nothing back; it is logged."""
    try:
        parse_silence(definition.definition)
    except SilenceError as error:
        _log.error("chat.silences, %s: %s", definition.id, error)
        return False
    return True


def parsed(definitions: Iterable[Definition]) -> list[Silence | Acknowledgement]:
    """The silences and acknowledgements among definitions."""
    return [parse_silence(each.definition) for each in definitions if is_readable(each)]


def by_silences(
    record: Mapping[str, Any], silences: Iterable[Silence | Acknowledgement], now: Micros
) -> list[HeldBack]:
    """The silences that hold at `now` and match the alert, and its acknowledgement."""
    alert = Transition.of(record)
    found = []
    for silence in silences:
        if isinstance(silence, Acknowledgement):
            if silence.alert_id == alert.alert_id:
                found.append(
                    HeldBack(
                        what="acknowledged",
                        reason=silence.reason or "taken charge of",
                        silence_id=silence.id,
                        author=silence.author,
                    )
                )
        elif silence.active(now) and silence.matches(alert.properties):
            found.append(
                HeldBack(
                    what="silenced",
                    reason=silence.reason,
                    silence_id=silence.id,
                    author=silence.author,
                    until=silence.ends_at,
                )
            )
    return found


def by_decisions(record: Mapping[str, Any], told: Iterable[Mapping[str, Any]]) -> list[HeldBack]:
    """What the notifier decided of the alert's present transition, when that was not to tell.

    `told`: its decisions, oldest first. Silences and acknowledgements are left out: those that hold are
    known better from `by_silences`.
    """
    held: dict[str | None, HeldBack] = {}
    for decision in told:
        if (decision["alert_id"], decision["transition"]) != (record["alert_id"], record["transition"]):
            continue
        endpoint = decision["endpoint_id"]
        if decision["what"] == "notified":
            held.pop(None, None)
            held.pop(endpoint, None)
        elif decision["what"] in ("inhibited", "quiet", "unmatched"):
            held[endpoint] = HeldBack(what=decision["what"], reason=decision["reason"], endpoint_id=endpoint)
    return list(held.values())
