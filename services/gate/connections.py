"""Who is connected, as the server's advisories tell every replica; and kicks, which end a connection at once."""

import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from libs.local.nats import CONNECTED, CONNECTIONS, KICK
from libs.local.outsiders import OUTSIDE_CONNECTIONS

Came = Callable[[str, "Connection"], Awaitable[None]]
_COMINGS_AND_GOINGS = CONNECTED.rpartition(".")[0] + ".*"  # in one subscription, so that they keep their order
_PAGE = 1024
_LIST_SECONDS = 5.0

log = logging.getLogger("gate")


class Connection(msgspec.Struct, frozen=True, order=True):
    """`start` sorts by time; `number` is the server's own, and counts upwards."""

    start: str
    number: int
    server_id: str
    account: str


class _Server(msgspec.Struct):
    id: str


class _Client(msgspec.Struct):
    id: int
    start: str
    acc: str = ""
    user: str = ""


class _Advisory(msgspec.Struct):
    server: _Server
    client: _Client


class _Listed(msgspec.Struct):
    cid: int
    start: str
    account: str = ""
    authorized_user: str = ""


class _Page(msgspec.Struct):
    server_id: str
    total: int
    connections: list[_Listed] = msgspec.field(default_factory=list)


class _Answer(msgspec.Struct):
    data: _Page


class Connections:
    """By identity. Advisories may be lost, so `learn` asks for all."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: dict[str, set[Connection]] = {}
        self._came_meanwhile: list[tuple[str, Connection]] | None = None  # while `learn` waits for the server

    def of(self, identity: str) -> list[Connection]:
        """Oldest first."""
        return sorted(self._open.get(identity, ()))

    def count(self, identity: str) -> int:
        return len(self._open.get(identity, ()))

    def identities(self) -> list[str]:
        return list(self._open)

    async def listen(self, came: Came) -> Subscription:
        """From now on `came` is told of each new connection, once it is in here."""

        async def arrived(message: Msg) -> None:
            advisory = msgspec.json.decode(message.data, type=_Advisory)
            client, identity = advisory.client, advisory.client.user
            connection = Connection(_sortable(client.start), client.id, advisory.server.id, client.acc)
            if message.subject == CONNECTED:
                self._open.setdefault(identity, set()).add(connection)
                if self._came_meanwhile is not None:
                    self._came_meanwhile.append((identity, connection))
                await came(identity, connection)
            elif identity in self._open:
                self._open[identity].discard(connection)
                if not self._open[identity]:
                    del self._open[identity]

        return await self._client.subscribe(_COMINGS_AND_GOINGS, cb=arrived)

    async def learn(self) -> None:
        """Ask the server for all that are open now. Raises a NATS error or TimeoutError where it does not say."""
        came: list[tuple[str, Connection]] = []
        self._came_meanwhile = came
        try:
            found = [pair for subject in (CONNECTIONS, OUTSIDE_CONNECTIONS) for pair in await self._listed(subject)]
        finally:
            self._came_meanwhile = None
        self._open = {}
        for identity, connection in (*found, *came):
            self._open.setdefault(identity, set()).add(connection)

    async def kick(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            subject = KICK.format(server_id=connection.server_id)
            try:
                # The server ignores a kick that asks for no answer; nobody waits for it.
                body = msgspec.json.encode({"cid": connection.number})
                await self._client.publish(subject, body, reply=self._client.new_inbox())
            except NatsError as error:
                log.warning("cannot kick connection %d: %s", connection.number, error)

    async def _listed(self, subject: str) -> list[tuple[str, Connection]]:
        found: list[tuple[str, Connection]] = []
        while True:
            asked = msgspec.json.encode({"auth": True, "limit": _PAGE, "offset": len(found)})
            answer = await self._client.request(subject, asked, timeout=_LIST_SECONDS)
            page = msgspec.json.decode(answer.data, type=_Answer).data
            found += [
                (
                    listed.authorized_user,
                    Connection(_sortable(listed.start), listed.cid, page.server_id, listed.account),
                )
                for listed in page.connections
            ]
            if not page.connections or len(found) >= page.total:
                return found


def _sortable(time: str) -> str:
    """The server drops zeros at the end of a second's fraction; with them, times sort as texts."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
