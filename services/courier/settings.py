"""What can be set on the courier, besides the bus."""

from libs.settings import BusSettings


class Settings(BusSettings, frozen=True, kw_only=True):
    """BIVOUAC_LOG_MESSAGES_PER_SECOND  what one job's log may put on the bus; the rest is dropped"""

    log_messages_per_second: int = 50
