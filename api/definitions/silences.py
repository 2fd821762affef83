"""Silences and acknowledgements, as they are sent and shown."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final, Literal

from api.alerting.opened import OpenAlerts
from api.definitions.document import validated
from api.definitions.editor import Draft
from api.definitions.store import DefinitionStore
from api.errors import Fault, InvalidError
from api.models.silences import SilenceAnswer, SilenceRequest
from api.times import Clock, parse_span, to_time
from schemas.time import DAY, Micros, micros_of
from streams.definitions.definition import Definition
from streams.notifications.errors import SilenceError
from streams.notifications.silence import Acknowledgement, Silence, parse_silence
from streams.notifications.transition import RESOLVED

_log = logging.getLogger(__name__)

_KEPT: Final[Micros] = 30 * DAY
"""How long a silence is listed after its end."""
State = Literal["pending", "active", "expired"]


@dataclass(frozen=True)
class SilenceEditor:
    """Makes silences out of what is sent. A silence is never replaced: it is ended, and another one made."""

    store: DefinitionStore
    alerts: OpenAlerts
    clock: Clock

    async def new(self, document: Mapping[str, Any]) -> Draft:
        """A silence. What ended long ago is deleted now."""
        silence = made(validated(SilenceRequest, document, "silence"), self.clock())
        await self._delete_old()
        return Draft(silence.id, silence.model_dump(mode="json"), self.answer)

    def answer(self, definition: Definition) -> SilenceAnswer:
        """A silence or acknowledgement, as it is now."""
        return answered(definition, self.alerts, self.clock())

    async def _delete_old(self) -> None:
        now = self.clock()
        for definition in await self.store.all():
            if is_readable(definition) and _is_over(definition, self.alerts, now):
                await self.store.remove(definition.id, None)


def made(asked: SilenceRequest, now: Micros) -> Silence:
    """The silence that was asked for. Raises InvalidError."""
    if (asked.ends_at is None) == (asked.duration is None):
        raise InvalidError([Fault("silence.ends_at", "Say either when it ends, or its duration: 2h.")])
    starts = asked.starts_at or to_time(now)
    ends = asked.ends_at or starts + timedelta(
        microseconds=parse_span(asked.duration or "", "silence.duration")
    )
    if ends <= to_time(now):
        raise InvalidError(
            [Fault("silence.ends_at", "This lies in the past: a silence ends later than now.")]
        )
    return validated(
        Silence,
        {
            "id": f"si_{secrets.token_hex(8)}",
            "matchers": [matcher.model_dump() for matcher in asked.matchers],
            "starts_at": starts.astimezone(UTC),
            "ends_at": ends.astimezone(UTC),
            "author": asked.author,
            "reason": asked.reason,
        },
        "silence",
    )


def answered(definition: Definition, alerts: OpenAlerts, now: Micros) -> SilenceAnswer:
    """A silence or acknowledgement, as it is shown."""
    silence = parse_silence(definition.definition)
    common = {
        "id": definition.id,
        "revision": definition.revision,
        "changed_at": to_time(definition.changed_at),
        "changed_by": definition.changed_by,
        "author": silence.author,
        "reason": silence.reason,
        "kind": silence.kind,
    }
    if isinstance(silence, Acknowledgement):
        return SilenceAnswer(
            **common,
            state="expired" if _has_resolved(silence, alerts) else "active",
            matchers=[],
            alert_id=silence.alert_id,
            starts_at=silence.acknowledged_at,
            ends_at=None,
        )
    state: State = "active" if silence.active(now) else "pending"
    return SilenceAnswer(
        **common,
        state="expired" if micros_of(silence.ends_at) <= now else state,
        matchers=list(silence.matchers),
        alert_id=None,
        starts_at=silence.starts_at,
        ends_at=silence.ends_at,
    )


def is_readable(definition: Definition) -> bool:
    """Whether this version can read it; otherwise the log says why not."""
    try:
        parse_silence(definition.definition)
    except SilenceError as error:
        _log.error("chat.silences, %s: %s", definition.id, error)
        return False
    return True


def _has_resolved(acknowledgement: Acknowledgement, alerts: OpenAlerts) -> bool:
    alert = alerts.get(acknowledgement.alert_id)
    return alert is not None and alert["state"] == RESOLVED


def _is_over(definition: Definition, alerts: OpenAlerts, now: Micros) -> bool:
    silence = parse_silence(definition.definition)
    if isinstance(silence, Acknowledgement):
        alert = alerts.get(silence.alert_id)
        return (
            alert is not None
            and alert["state"] == RESOLVED
            and now - micros_of(alert["changed_at"]) > DAY
            and now - definition.changed_at > DAY
        )
    return now - micros_of(silence.ends_at) > _KEPT
