"""Mail, to a real SMTP server."""

import asyncio
import contextlib
import email
import ssl
import warnings
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from pydantic import SecretStr

from infra.settings import MailSettings
from streams.deliveries.channel import Response
from streams.deliveries.channels.mail import MailChannel
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from tests.streams.deliveries.channels.samples import (
    NASTY,
    NOW,
    alert,
    alerts,
    endpoint,
    of_alerts,
    of_failing,
    of_test,
)
from tests.streams.deliveries.receivers import Authority


class Mailbox:
    """An SMTP server's handler that keeps what it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.port = 0
        self.envelopes: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.answers: dict[str, str] = {}
        """By recipient, or `DATA`."""
        self.logins: list[tuple[bytes, bytes]] = []

    @property
    def mails(self) -> list[EmailMessage]:
        return [
            email.message_from_bytes(envelope.content, policy=default)  # type: ignore[arg-type, misc]
            for envelope in self.envelopes
        ]

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        said = self.answers.get(address, "250 OK")
        if said.startswith("2"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: Any, _session: Any, envelope: Envelope) -> str:
        said = self.answers.get("DATA", "250 taken as 42")
        if said.startswith("2"):
            self.envelopes.append(envelope)
            self.encrypted.append(server.transport.get_extra_info("cipher") is not None)
        return said


@contextlib.asynccontextmanager
async def mailbox(
    starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, login: bytes | None = None
) -> AsyncIterator[Mailbox]:
    """A server: with STARTTLS, with TLS from the first byte, or without; `login`: a password it asks for."""
    box = Mailbox()

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        box.logins.append((given.login, given.password))
        return AuthResult(success=given.password == login, handled=False)

    def protocol() -> SMTP:
        with warnings.catch_warnings():
            # Of a login without STARTTLS; here the whole connection is encrypted.
            warnings.simplefilter("ignore", UserWarning)
            return SMTP(
                box,
                hostname="mail.test",
                enable_SMTPUTF8=True,
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=authenticate,
                auth_required=login is not None,
                auth_require_tls=tls is None,
                loop=asyncio.get_running_loop(),
            )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()


def settings(box: Mailbox, **fields: Any) -> MailSettings:
    given = {
        "host": "127.0.0.1",
        "port": box.port,
        "security": "none",
        "sender": "Chatgauge <alerts@chat.example>",
    }
    return MailSettings(**{**given, **fields})


def receiving(**fields: Any) -> Any:
    return endpoint("mail", mail={"to": ["oncall@example.org", "team@example.org"], **fields})


async def sent(
    box: Mailbox, renderer: Renderer, notification: Any, to: Any = None, **fields: Any
) -> Response:
    channel = MailChannel(settings(box, **fields), renderer)
    return await channel.send(to or receiving(), notification, 1, NOW)


def content(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


async def test_an_alert_is_one_mail_in_text_and_html(renderer: Renderer) -> None:
    to = receiving(cc=["boss@example.org"], reply_to="ops@example.org")
    async with mailbox() as box:
        response = await sent(box, renderer, of_alerts([alert()]), to)

    (mail,) = box.mails
    assert response.verdict is Verdict.DELIVERED
    assert (response.status, response.response) == (250, "taken as 42")
    assert box.envelopes[0].rcpt_tos == ["oncall@example.org", "team@example.org", "boss@example.org"]
    assert box.envelopes[0].mail_from == "alerts@chat.example"
    assert mail["Subject"] == "[FIRING] error: Error rate (space_id=s1)"
    assert mail["From"] == "Chatgauge <alerts@chat.example>"
    assert mail["To"] == "oncall@example.org, team@example.org"
    assert mail["Cc"] == "boss@example.org"
    assert mail["Reply-To"] == "ops@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"] == "Tue, 14 Nov 2023 22:10:00 +0000"
    for kind in ("plain", "html"):
        assert "25.3 % of the requests of space s1 failed" in content(mail, kind)
        assert "10 %" in content(mail, kind)
    assert "https://chatgauge.example/events?alert=al_" in content(mail, "plain")


async def test_the_same_notification_is_the_same_mail_whenever_it_is_sent(renderer: Renderer) -> None:
    async with mailbox() as box:
        channel = MailChannel(settings(box), renderer)
        await channel.send(receiving(), of_alerts([alert()]), 1, NOW)
        await channel.send(receiving(), of_alerts([alert()]), 4, NOW + 9000)
        await channel.send(receiving(), of_alerts([alert(state="resolved")], "alert.resolved"), 1, NOW)

    first, again, resolved = box.mails
    assert first["Message-ID"] == again["Message-ID"] == "<nt_0123456789abcdef01234567@chat.example>"
    assert first["Date"] == again["Date"]
    # What is told of an alert later stands in the same thread.
    assert first["References"] == resolved["References"] == "<al_0123456789abcdef0123@chat.example>"


async def test_grouped_alerts_are_one_mail_that_names_each(renderer: Renderer) -> None:
    async with mailbox() as box:
        await sent(box, renderer, of_alerts(alerts(200)))

    (mail,) = box.mails
    assert mail["Subject"] == "[FIRING] error: 200 alerts of Error rate"
    for kind in ("plain", "html"):
        assert all(f"(space_id=space-{number})" in content(mail, kind) for number in range(200))


async def test_nothing_in_an_alert_becomes_a_header_or_html(renderer: Renderer) -> None:
    told = alert(rule_name=NASTY, summary=NASTY, group=[f"space_id={NASTY}"], labels=[f"a={NASTY}"])
    async with mailbox() as box:
        await sent(box, renderer, of_alerts([told]))

    (mail,) = box.mails
    assert mail["Bcc"] is None
    assert box.envelopes[0].rcpt_tos == ["oncall@example.org", "team@example.org"]
    assert len(mail["Subject"]) <= 200
    assert "<script>" not in content(mail, "html")
    assert "&lt;script&gt;" in content(mail, "html")


@pytest.mark.parametrize("notification", [of_test(), of_failing(), of_failing(disabled=True)])
async def test_what_is_no_alert_is_mailed_too(renderer: Renderer, notification: Any) -> None:
    async with mailbox() as box:
        response = await sent(box, renderer, notification)

    assert response.verdict is Verdict.DELIVERED
    assert "endpoint" in box.mails[0]["Subject"]
    assert "endpoint_id" in content(box.mails[0], "plain")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_over_tls_after_a_login(renderer: Renderer, security: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.context("127.0.0.1")
    served = {security: context}
    async with mailbox(**served, login=b"geheim") as box:
        fields: dict[str, Any] = {"security": security, "ca_file": authority.file, "user": "alerts"}
        right = await sent(box, renderer, of_alerts([alert()]), password=SecretStr("geheim"), **fields)
        wrong = await sent(box, renderer, of_alerts([alert()]), password=SecretStr("falsch"), **fields)
        untrusted = await sent(
            box, renderer, of_alerts([alert()]), password=SecretStr("geheim"), **{**fields, "ca_file": None}
        )

    assert right.verdict is Verdict.DELIVERED
    assert box.encrypted == [True]
    assert box.logins[0] == (b"alerts", b"geheim")
    # Set right, the same mail goes through: it comes again.
    assert wrong.verdict is Verdict.FAILED
    assert "refuses the login" in str(wrong.error)
    assert untrusted.verdict is Verdict.FAILED
    assert "certificate" in str(untrusted.error)
    # A server that isn't trusted doesn't get the password.
    assert box.logins.count((b"alerts", b"geheim")) == 1
    assert "geheim" not in right.request + wrong.request + str(wrong.error)


async def test_without_starttls_on_offer_nothing_goes_out_in_clear(renderer: Renderer) -> None:
    async with mailbox() as box:
        response = await sent(box, renderer, of_alerts([alert()]), security="starttls")

    assert response.verdict is Verdict.FAILED
    assert box.envelopes == []


@pytest.mark.parametrize(
    ("answers", "verdict", "code"),
    [
        ({"DATA": "451 try later"}, Verdict.FAILED, 451),
        ({"DATA": "452 full"}, Verdict.FAILED, 452),
        ({"DATA": "554 looks like spam"}, Verdict.REJECTED, 554),
        ({"oncall@example.org": "550 no such user", "team@example.org": "550 no"}, Verdict.REJECTED, 550),
        ({"oncall@example.org": "450 greylisted", "team@example.org": "450 greylisted"}, Verdict.FAILED, 450),
        ({"oncall@example.org": "550 no", "team@example.org": "450 greylisted"}, Verdict.FAILED, 450),
    ],
)
async def test_4xx_comes_again_and_5xx_is_final(
    renderer: Renderer, answers: dict[str, str], verdict: Verdict, code: int
) -> None:
    async with mailbox() as box:
        box.answers = answers
        response = await sent(box, renderer, of_alerts([alert()]))

    assert (response.verdict, response.status) == (verdict, code)
    assert str(code) in str(response.error)
    assert box.envelopes == []


async def test_one_recipient_that_is_refused_for_good_holds_nobody_up(renderer: Renderer) -> None:
    async with mailbox() as box:
        box.answers = {"oncall@example.org": "550 no such user"}
        response = await sent(box, renderer, of_alerts([alert()]))

    assert response.verdict is Verdict.DELIVERED
    assert box.envelopes[0].rcpt_tos == ["team@example.org"]
    assert "oncall@example.org: 550 no such user" in response.response


async def test_one_recipient_that_is_to_come_again_comes_again(renderer: Renderer) -> None:
    async with mailbox() as box:
        box.answers = {"oncall@example.org": "450 greylisted"}
        response = await sent(box, renderer, of_alerts([alert()]))

    assert (response.verdict, response.status) == (Verdict.FAILED, 450)
    assert "not yet for oncall@example.org" in str(response.error)


async def test_no_server_and_a_silent_server_are_failures_in_words(renderer: Renderer) -> None:
    held: set[asyncio.StreamWriter] = set()
    server = await asyncio.start_server(lambda _reader, writer: held.add(writer), "127.0.0.1", 0)
    box = Mailbox()
    box.port = server.sockets[0].getsockname()[1]
    silent = await sent(
        box, renderer, of_alerts([alert()]), endpoint("mail", mail={"to": ["a@b.example"]}, timeout=0.3)
    )
    for writer in held:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    gone = await sent(box, renderer, of_alerts([alert()]))
    unset = await MailChannel(MailSettings(host=None), renderer).send(
        receiving(), of_alerts([alert()]), 1, NOW
    )

    assert (silent.verdict, gone.verdict, unset.verdict) == (Verdict.FAILED,) * 3
    assert "0.3 s" in str(silent.error)
    assert "no mail could be handed over" in str(gone.error)
    assert "CHATGAUGE_MAIL_HOST" in str(unset.error)


async def test_a_mail_is_delivered_once_it_is_taken_whatever_the_parting_is_like(renderer: Renderer) -> None:
    class Rude(Mailbox):
        async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:
            return "500 go away"

    async with mailbox() as box:
        box.__class__ = Rude
        response = await sent(box, renderer, of_alerts([alert()]))

    assert response.verdict is Verdict.DELIVERED
    assert len(box.mails) == 1


async def test_templates_make_subject_and_text(renderer: Renderer) -> None:
    to = endpoint(
        "mail",
        mail={"to": ["a@b.example"], "subject": "{{ data.alerts | length }}x {{ data.alerts[0].rule_name }}"},
        template="Look at {{ data.alerts[0].links.events }}",
        content_type="text/plain",
    )
    async with mailbox() as box:
        await sent(box, renderer, of_alerts([alert()]), to)

    (mail,) = box.mails
    assert mail["Subject"] == "1x Error rate"
    assert content(mail, "plain").startswith("Look at https://chatgauge.example/events")
    assert mail.get_body(("html",)) is None


async def test_a_template_of_html_is_escaped_and_has_the_product_s_text_beside_it(renderer: Renderer) -> None:
    to = endpoint(
        "mail",
        mail={"to": ["a@b.example"]},
        template="<p>{{ data.alerts[0].summary }}</p>",
        content_type="text/html",
    )
    async with mailbox() as box:
        await sent(box, renderer, of_alerts([alert(summary="<b>bold</b>")]), to)

    (mail,) = box.mails
    assert content(mail, "html").strip() == "<p>&lt;b&gt;bold&lt;/b&gt;</p>"
    assert "<b>bold</b>" in content(mail, "plain")


async def test_where_a_template_fails_the_product_s_own_mail_goes_out(renderer: Renderer) -> None:
    to = endpoint("mail", mail={"to": ["a@b.example"]}, template="\n{{ nothing }}")
    async with mailbox() as box:
        response = await sent(box, renderer, of_alerts([alert()]), to)

    assert response.verdict is Verdict.DELIVERED
    assert "25.3 %" in content(box.mails[0], "plain")
    assert "line 2: 'nothing' is undefined" in response.request
