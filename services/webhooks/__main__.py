"""Composition root of the delivery of webhooks: `python -m services.webhooks`."""

from __future__ import annotations

from services.analysis.database import make_engine
from services.analysis.end import EndBySignal
from services.analysis.sealing import sealing_from
from services.analysis.settings import load_settings
from services.analysis.telemetry import configure_logging
from services.analysis.webhooks import WebhookBook
from services.webhooks.delivery import AT_ONCE, Deliverer


def main() -> None:
    """Delivers until it is asked to end."""
    settings = load_settings()
    configure_logging(settings, "webhooks")
    stopped = EndBySignal()
    stopped.listen()
    engine = make_engine(settings.database_url, pool_size=AT_ONCE // 2)
    book = WebhookBook(engine, sealing_from(settings.blob_keys))
    Deliverer(book, settings.webhook_networks(), settings.webhook_timeout_s).run(stopped)


if __name__ == "__main__":
    main()
