"""A made-up market of nodes, the same at every run; few models and countries have most of it."""

from base64 import b32encode
from collections.abc import Iterator
from random import Random

from services.scheduler.domain.columns import Listing

MODELS = {f"GPU {number}": (24_576, 49_152, 81_920)[number % 3] for number in range(19)}
COUNTRIES = ("US", "DE", "SI", "CA", "FR", "GB", "JP", "KR", "PL", "SE")


def market(nodes: int) -> Iterator[Listing]:
    """That many nodes."""
    random = Random(nodes)
    models, countries = list(MODELS), list(COUNTRIES)
    share = [1 / (place + 1) for place in range(len(models))]
    for _ in range(nodes):
        model = random.choices(models, share)[0]
        yield Listing(
            node_id="U" + b32encode(random.randbytes(35)).decode()[:55],
            model=model,
            gpus=random.choice((1, 1, 2, 4, 4, 8)),
            tier=random.randrange(8),
            country=random.choices(countries, share[: len(countries)])[0],
            vram_mb=MODELS[model],
            reputation_millis=min(1000, int(random.betavariate(8, 2) * 1000)),
            ask=random.randrange(200_000, 900_000, 1000),
        )
