"""What every command has: the options that say who and where, --json, one-sentence errors, and Ctrl-C that detaches."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer

from bivouac import profile
from bivouac.client import Caller, Client
from bivouac.errors import BivouacError, Invalid
from bivouac.operator import Operator
from bivouac.terminal import Terminal

REFUSED, USAGE, INTERRUPTED = 1, 2, 130
A = TypeVar("A", bound=Caller)

Work = Callable[..., Awaitable[None] | None]

_COMMON: dict[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON document (streams: lines), no more.")],
    "profile_name": Annotated[str, typer.Option("--profile", metavar="NAME|PATH", help="The profile to use.")],
    "url": Annotated[str, typer.Option("--url", metavar="URL", help="The network (BIVOUAC_URL).")],
    "identity": Annotated[str, typer.Option("--identity", metavar="NAME", help="Who you are (BIVOUAC_IDENTITY).")],
    "key": Annotated[str, typer.Option("--key", metavar="FILE", help="Your key file (BIVOUAC_KEY).")],
}
_DEFAULTS: dict[str, Any] = {"as_json": False, "profile_name": "", "url": "", "identity": "", "key": ""}
# The same options may stand before the command: `bivouac --profile operator nodes`.
_said_before: ContextVar[dict[str, Any]] = ContextVar("said_before", default=_DEFAULTS)


class Session:
    """One run of one command; `detached` is what to say when it is interrupted."""

    def __init__(self, terminal: Terminal, who: dict[str, str], operates: bool) -> None:
        self.terminal, self._who, self._operates = terminal, who, operates
        self.detached = "Interrupted."
        self._callers: list[Caller] = []

    async def client(self) -> Client:
        """Connected as the partner of the profile."""
        return await self._connected(Client)

    async def operator(self) -> Operator:
        """Connected as the operator of the profile."""
        return await self._connected(Operator)

    async def caller(self) -> Caller:
        """Connected as whoever the profile is, for questions that anyone may ask."""
        return await self._connected(Caller)

    async def names(self, caller: Caller) -> dict[str, str]:
        """Node names by id; without the fleet's answer ids are shown."""
        try:
            return {row.node_id: row.name for row in (await caller.fleet(limit=1000)).nodes}
        except BivouacError:
            return {}

    async def close(self) -> None:
        for caller in self._callers:
            await caller.close()

    async def _connected(self, kind: type[A]) -> A:
        defaults = profile.OPERATOR_PROFILES if self._operates else profile.DEFAULT_PROFILES
        chosen = profile.load(
            profile=self._who["profile_name"],
            url=self._who["url"],
            identity=self._who["identity"],
            key=self._who["key"],
            defaults=defaults,
        )
        caller = await kind.connect(chosen.url, identity=chosen.identity, seed=chosen.seed())
        self._callers.append(caller)
        return caller


def command(app: typer.Typer, name: str, *, operates: bool = False, **options: Any) -> Callable[[Work], Work]:
    """Registers `work(session, …)` as a command that also takes the common options."""

    def register(work: Work) -> Work:
        own = list(inspect.signature(work).parameters.values())[1:]

        @functools.wraps(work)
        def run(**given: Any) -> None:
            who = {option: given.pop(option) or _said_before.get()[option] for option in _COMMON}
            session = Session(Terminal(who.pop("as_json")), who, operates)
            _carry_out(session, lambda: work(session, **given))

        app.command(name, **options)(_taking(run, own))
        return work

    return register


def common_options(app: typer.Typer) -> None:
    """Lets the common options stand before the command as well."""

    def before(**given: Any) -> None:
        _said_before.set(given)

    app.callback()(_taking(before, []))


def _taking(run: Callable[..., None], own: list[inspect.Parameter]) -> Callable[..., None]:
    """`run` with a signature of these parameters and the common options, for typer to read."""
    kind = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(option, kind, default=_DEFAULTS[option], annotation=annotation)
        for option, annotation in _COMMON.items()
    ]
    parameters = [parameter.replace(kind=kind) for parameter in own] + common
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _carry_out(session: Session, work: Callable[[], Awaitable[None] | None]) -> None:
    async def all_of_it() -> None:
        try:
            outcome = work()
            if outcome is not None:
                await outcome
        finally:
            await session.close()

    try:
        asyncio.run(all_of_it())
    except BivouacError as error:
        session.terminal.failed(error)
        raise typer.Exit(USAGE if isinstance(error, Invalid) else REFUSED) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        if session.detached:
            session.terminal.note(session.detached)
        raise typer.Exit(INTERRUPTED) from None
