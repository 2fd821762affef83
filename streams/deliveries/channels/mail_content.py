"""A notification as mail: one message, text and HTML, with everything that the notification tells.

The Message-ID comes from the notification, so that a mail which is sent twice is one mail to whoever keeps
them apart by it. Mails about one alert refer to that alert, which makes them one thread.
"""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from jinja2 import Environment

from streams.deliveries.channels.message import Message, one_line, shortened
from streams.deliveries.notification import Notification
from streams.endpoints.endpoint import Mail

_LONGEST_SUBJECT = 200
_COLOURS = {"info": "#2563eb", "warning": "#b45309", "error": "#c2410c", "critical": "#b91c1c"}
_RESOLVED = "#15803d"

_HTML = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!DOCTYPE html>
<html><head><meta charset="utf-8"></head>
<body style="font-family: sans-serif; color: #1f2937; max-width: 48em">
<h2 style="color: {{ colour(said.severity, said.resolved) }}; font-size: 1.2em">{{ said.title }}</h2>
{% if said.text %}
<p>{{ said.text }}</p>
{% endif %}
{% for alert in said.alerts %}
<div style="border-left: 4px solid {{ colour(alert.severity, alert.resolved) }}; padding-left: 1em; \
margin: 1em 0">
<p><b>{{ alert.title }}</b><br>{{ alert.summary }}</p>
<table style="font-size: 0.9em">
{% for name, value in alert.facts() %}
<tr><td style="color: #6b7280; padding-right: 1em">{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</table>
{% if alert.link %}
<p><a href="{{ alert.link }}">The events behind it</a></p>
{% endif %}
</div>
{% endfor %}
{% if said.facts %}
<table style="font-size: 0.9em">
{% for name, value in said.facts %}
<tr><td style="color: #6b7280; padding-right: 1em">{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if said.link %}
<p><a href="{{ said.link }}">Open in Chatgauge</a></p>
{% endif %}
</body></html>
""")


def text(said: Message) -> str:
    """The message as plain text."""
    lines = [said.title, ""]
    if said.text:
        lines += [said.text, ""]
    for alert in said.alerts:
        lines += [f"* {alert.title}", f"  {alert.summary}"]
        lines += [f"  {name}: {value}" for name, value in alert.facts()]
        lines += [f"  {alert.link}"] if alert.link else []
        lines.append("")
    lines += [f"{name}: {value}" for name, value in said.facts]
    lines += ["", said.link] if said.link else []
    return "\n".join(lines).rstrip() + "\n"


def html(said: Message) -> str:
    """The message as HTML; whatever it inserts is escaped."""
    return _HTML.render(said=said, colour=_colour)


def _colour(severity: str, resolved: bool) -> str:
    return _RESOLVED if resolved else _COLOURS.get(severity, "#1f2937")


def compose(
    said: Message,
    notification: Notification,
    mail: Mail,
    sender: str,
    *,
    subject: str | None = None,
    plain_body: str | None = None,
    html_body: str | None = None,
) -> EmailMessage:
    """The mail; a `subject`, `plain_body` or `html_body` that is given replaces the product's own."""
    domain = _domain(sender)
    composed = EmailMessage(policy=SMTP)
    composed["From"] = _address(sender)
    composed["To"] = ", ".join(mail.to)
    if mail.cc:
        composed["Cc"] = ", ".join(mail.cc)
    if mail.reply_to:
        composed["Reply-To"] = mail.reply_to
    composed["Subject"] = shortened(one_line(subject or said.title), _LONGEST_SUBJECT)
    composed["Date"] = format_datetime(datetime.fromtimestamp(notification.created_at / 1e6, UTC))
    composed["Message-ID"] = f"<{notification.notification_id}@{domain}>"
    if len(said.alerts) == 1:
        composed["References"] = f"<{said.alerts[0].id}@{domain}>"
    composed["Auto-Submitted"] = "auto-generated"
    composed["X-Auto-Response-Suppress"] = "All"
    composed.set_content(plain_body or text(said))
    if plain_body is None or html_body is not None:
        composed.add_alternative(html_body or html(said), subtype="html")
    return composed


def _address(sender: str) -> Address:
    name, address = parseaddr(sender)
    return Address(one_line(name), addr_spec=address)


def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2] or "localhost"
