"""Email through Airflow's SMTP connection."""

from __future__ import annotations

from airflow.providers.smtp.hooks.smtp import SmtpHook

from include.etl.alerts.base import Alert
from include.etl.alerts.message import html, title
from include.etl.config_alerts import ChannelSettings


class EmailChannel:
    """A mail in HTML to all addresses in `to`; the connection's `from_email` is the sender."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.settings = settings

    def send(self, alert: Alert) -> None:
        """Send one mail to all addresses."""
        with SmtpHook(smtp_conn_id=self.settings.conn_id) as hook:
            hook.send_email_smtp(
                to=self.settings.to,
                subject=title(alert),
                html_content=html(alert),
                custom_headers={"Auto-Submitted": "auto-generated"},  # keeps holiday answers away (RFC 3834)
            )
