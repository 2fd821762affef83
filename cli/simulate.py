"""`chatgauge simulate`: made-up chat traffic onto Kafka."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cli.sending import encoder, fail, plain, send, summary
from traffic.delivery import Pace
from traffic.scenario import Scenario
from traffic.simulate import messages


def _share(text: str) -> float:
    """`1%` or `0.01`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a share; write 1% or 0.01") from None
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text} does not lie between 0 and 100 %")
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write e.g. 2026-03-01T08:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _speed(text: str) -> str:
    if text not in ("real", "max"):
        raise typer.BadParameter("write real (by the clock) or max (as fast as possible)")
    return text


def simulate(
    rate: Annotated[float, typer.Option(min=0.01, help="Finished requests per second, on average.")] = 100,
    duration: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds of traffic; without it, until Ctrl-C.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Requests, instead of a duration.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same events.")] = 0,
    speed: Annotated[
        str,
        typer.Option(parser=_speed, help="real: by the clock. max: at once, times spread over the duration."),
    ] = "real",
    start: Annotated[
        datetime | None,
        typer.Option(
            parser=_moment,
            help="When the traffic begins. By default now; with --speed max, so that it ends now.",
        ),
    ] = None,
    wave: Annotated[
        float, typer.Option(parser=_share, help="How far traffic swells by day and sinks at night.")
    ] = "50%",  # type: ignore[assignment]  # typer parses defaults too
    late: Annotated[
        float, typer.Option(parser=_share, help="Share reported 15 s to 25.9 h late, e.g. 1%.")
    ] = "0",  # type: ignore[assignment]
    too_late: Annotated[
        float, typer.Option(parser=_share, help="Share reported more than 26 h late, e.g. 0.1%.")
    ] = "0",  # type: ignore[assignment]
    corrupt: Annotated[int, typer.Option(min=0, help="Unreadable messages to put in between.")] = 0,
    users: Annotated[int, typer.Option(min=1, help="Users of the product.")] = 2_000,
    spaces: Annotated[int, typer.Option(min=1, help="Spaces that the users are in.")] = 40,
    started: Annotated[
        float, typer.Option(parser=_share, help="Share of requests that report their start, too.")
    ] = "10%",  # type: ignore[assignment]
    traced: Annotated[float, typer.Option(parser=_share, help="Share of requests with spans.")] = "5%",  # type: ignore[assignment]
) -> None:
    """Send made-up chat traffic to Kafka: requests, spans and samples of a product with several
    services, providers, spaces and workflows. It has its errors, its bursts of trouble and its caches.
    """
    if count is not None and duration is not None:
        fail("give --count or --duration, not both", 2)
    if duration is not None:
        count = max(1, round(rate * duration))
    if speed == "max" and count is None:
        fail("--speed max needs an end: give --count or --duration", 2)
    now = datetime.now(UTC)
    length = timedelta(seconds=(count or 0) / rate)
    begins = start or (now - length if speed == "max" else now)
    if begins + (length if speed == "max" else timedelta()) > now + timedelta(minutes=1):
        fail("the traffic would lie in the future, where events are refused; choose an earlier --start", 2)
    scenario = Scenario(
        start=begins,
        seed=seed,
        rate=rate,
        count=count,
        wave=wave,
        users=users,
        spaces=spaces,
        late=late,
        too_late=too_late,
        corrupt=corrupt,
        started=started,
        traced=traced,
    )
    until = f"{count:,} requests over {length}" if count else "until Ctrl-C"
    plain(f"simulating {rate:g} requests/s from {begins:%Y-%m-%d %H:%M:%S} UTC, {until}, seed {seed}")
    pace = Pace(scenario.timeline.start_us) if speed == "real" else None
    plain(summary(send(messages(scenario, encoder()), count, pace)))
