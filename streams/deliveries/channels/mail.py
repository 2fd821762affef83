"""Mail through the operator's own server: 4xx comes again, 5xx is final for this mail.

The server is a setting, so it isn't guarded as URLs are: whoever sets it may reach it.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
)

from infra.settings import MailSettings
from streams.deliveries.channel import Response
from streams.deliveries.channels.mail_content import compose
from streams.deliveries.channels.message import message
from streams.deliveries.channels.posting import cut, deadline_of
from streams.deliveries.channels.templating import made
from streams.deliveries.client import trust
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.endpoints.endpoint import Endpoint

_REQUEST_BYTES = 8 * 1024
_RESPONSE_BYTES = 2 * 1024
_PARTING_S = 1.0
# What a server says about us, not about the mail: set right, the same mail goes through.
_OURS = frozenset({502, 503, 504, 530, 534, 535, 538})


class MailChannel:
    """Sends mail; one connection per mail."""

    def __init__(self, settings: MailSettings, renderer: Renderer) -> None:
        self._settings = settings
        self._renderer = renderer
        self._context = trust(settings.ca_file)

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`. Delivered once the server has taken it for at least one recipient, unless it
        asks to try again for another."""
        assert endpoint.mail is not None
        if self._settings.host is None:
            return Response(
                Verdict.FAILED, error="no mail server is set: CHATGAUGE_MAIL_HOST says which one takes mail"
            )
        deadline = deadline_of(endpoint)
        mail = await self._composed(endpoint, notification)
        request = self._shown(mail)
        try:
            async with asyncio.timeout_at(deadline):
                verdict, code, error, said = await self._deliver(mail, endpoint.timeout)
        except TimeoutError:
            verdict, code, said = Verdict.FAILED, None, ""
            error = f"the mail server was not done within {endpoint.timeout:g} s"
        return Response(verdict, code, error, None, request, cut(said, _RESPONSE_BYTES))

    async def _composed(self, endpoint: Endpoint, notification: Notification) -> EmailMessage:
        assert endpoint.mail is not None
        said = message(notification)
        own = await made(self._renderer, endpoint, notification, endpoint.template)
        subject = await made(self._renderer, endpoint, notification, endpoint.mail.subject)
        as_html = endpoint.content_type.startswith("text/html")
        mail = compose(
            said,
            notification,
            endpoint.mail,
            self._settings.sender,
            subject=subject.text,
            plain_body=None if as_html else own.text,
            html_body=own.text if as_html else None,
        )
        for note in filter(None, (own.note, subject.note)):
            mail["X-Chatgauge-Note"] = cut(note.replace("\n", " "), 400)
        return mail

    async def _deliver(
        self, mail: EmailMessage, seconds: float
    ) -> tuple[Verdict, int | None, str | None, str]:
        settings = self._settings
        server = SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=seconds,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=None if settings.security == "none" else self._context,
            username=settings.user,
            password=settings.password.get_secret_value() if settings.user else None,
            local_hostname=socket.gethostname(),
        )
        try:
            await server.connect()
            refused, said = await server.send_message(mail)
        except SMTPRecipientsRefused as error:
            return _of_refused({each.recipient: each for each in error.recipients})
        except SMTPRecipientRefused as error:
            return _of_refused({error.recipient: error})
        except SMTPAuthenticationError as error:
            return Verdict.FAILED, error.code, f"the mail server refuses the login: {error.message}", ""
        except SMTPResponseException as error:
            words = f"the mail server answered {error.code} {error.message}"
            return _of_code(error.code), error.code, words, f"{error.code} {error.message}"
        except (SMTPException, OSError, ssl.SSLError, ValueError) as error:
            return Verdict.FAILED, None, f"no mail could be handed over: {_words(error)}", ""
        else:
            # What follows can't undo that it was taken.
            with suppress(SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(_PARTING_S):
                    await server.quit()
            return _of_taken(refused, said)
        finally:
            server.close()

    def _shown(self, mail: EmailMessage) -> str:
        body = mail.get_body(("plain", "html"))
        headers = "\n".join(f"{name}: {value}" for name, value in mail.items())
        text = body.get_content() if body is not None else ""
        return cut(f"SMTP {self._settings.host}:{self._settings.port}\n{headers}\n\n{text}", _REQUEST_BYTES)

    async def close(self) -> None:
        """Nothing: no connection is kept."""


def _of_code(code: int) -> Verdict:
    return Verdict.REJECTED if code >= 500 and code not in _OURS else Verdict.FAILED


def _listed(refused: Mapping[str, SMTPRecipientRefused | SMTPResponse]) -> str:
    return "; ".join(f"{address}: {each.code} {each.message}" for address, each in refused.items())


def _of_refused(
    refused: Mapping[str, SMTPRecipientRefused],
) -> tuple[Verdict, int | None, str | None, str]:
    """Nobody was accepted: it comes again if any of them may be later."""
    codes = [each.code for each in refused.values()]
    transient = [code for code in codes if _of_code(code) is Verdict.FAILED]
    verdict = Verdict.FAILED if transient else Verdict.REJECTED
    error = f"the mail server refuses every recipient: {_listed(refused)}"
    return verdict, next(iter(transient or codes), None), error, _listed(refused)


def _of_taken(refused: Mapping[str, SMTPResponse], said: str) -> tuple[Verdict, int | None, str | None, str]:
    later = {address: each for address, each in refused.items() if _of_code(each.code) is Verdict.FAILED}
    if later:
        code = next(iter(later.values())).code
        return Verdict.FAILED, code, f"taken, but not yet for {_listed(later)}", said
    return Verdict.DELIVERED, 250, None, f"{said}\nrefused: {_listed(refused)}" if refused else said


def _words(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {error.verify_message}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {cause.verify_message}"
    return str(error) or type(error).__name__
