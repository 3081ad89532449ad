"""Every role against every message of the catalogue: what may be said and heard is what the catalogue says."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gate.domain.permissions import ROLES, Role, permissions, service_permissions
from tests.gate.matcher import allowed, covers
from tests.gate.roles import IDENTITIES, OTHERS, hears, is_about, says, subject
from wire import border
from wire.catalog import CATALOG, SERVICES, Entry, Party
from wire.message import Query
from wire.names import bucket_of_node, bucket_of_partner, inbox_prefix

EVERY = [pytest.param(role, entry, id=f"{role}-{entry.message.__name__}") for role in ROLES for entry in CATALOG]


@pytest.mark.parametrize(("role", "entry"), EVERY)
def test_a_role_says_and_hears_what_the_catalogue_gives_it(role: Role, entry: Entry) -> None:
    may = permissions(role, IDENTITIES[role])
    own, other = (subject(entry.message, role, who[role]) for who in (IDENTITIES, OTHERS))
    assert allowed(may.publish, own) == says(entry, role)
    assert allowed(may.subscribe, own) == hears(entry, role)
    if is_about(entry.message, role):
        assert not allowed(may.publish, other)
        assert allowed(may.subscribe, other) == (role == "operator" and hears(entry, role))
        assert not allowed(may.subscribe, entry.message.pattern()) or role == "operator"


@pytest.mark.parametrize("role", ROLES)
def test_no_role_has_a_wildcard_at_the_root_or_the_api_of_jetstream(role: Role) -> None:
    may = permissions(role, IDENTITIES[role])
    harmful = [">", "*", "$JS.>", "$SYS.>", "$SYS.REQ.USER.AUTH", "_INBOX.>", "sys.connz", "sys.server.N.kick"]
    harmful += [f"{api}.{call}" for api in (border.API, border.API_OUTSIDE) for call in _CALLS]
    for pattern in harmful:
        assert not allowed(may.publish, pattern), pattern
        assert not allowed(may.subscribe, pattern), pattern
    assert not any(covers(f"{inbox_prefix(other)}.>", given) for other in OTHERS.values() for given in may.subscribe)


_CALLS = [
    f"{call}.OBJ_{bucket}"
    for bucket in (bucket_of_partner("acme"), bucket_of_node(IDENTITIES["node"]))
    for call in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.MSG.DELETE", "DIRECT.GET", "CONSUMER.CREATE")
] + ["STREAM.NAMES", "STREAM.LIST", "STREAM.CREATE.X", "CONSUMER.MSG.NEXT.CMD.ledger", "INFO"]


@given(st.sampled_from(ROLES[:2]), st.from_regex(r"[a-z][a-z0-9_\-]{0,31}", fullmatch=True))
def test_no_two_identities_share_anything_they_may_say(role: Role, name: str) -> None:
    """Nor hear, but for what is about nobody."""
    mine = permissions(role, IDENTITIES[role])
    if role == "partner" and name != IDENTITIES["partner"]:
        theirs = permissions("partner", name)
        assert not set(mine.publish) & set(theirs.publish)
        public = {entry.message.pattern() for entry in CATALOG if not is_about(entry.message, "partner")}
        assert set(mine.subscribe) & set(theirs.subscribe) <= public


@pytest.mark.parametrize("role", ROLES)
def test_what_outsiders_may_do_crosses_the_border(role: Role) -> None:
    """A grant that the border does not know would be a grant to talk to oneself."""
    if role == "operator":
        return
    may, outside = permissions(role, IDENTITIES[role]), border.outside("NET")
    published = [
        *(
            imported.get("to", imported["service"]["subject"])
            for imported in outside["imports"]
            if "service" in imported
        ),
        *(exported["stream"] for exported in outside["exports"] if "stream" in exported),
    ]
    heard = [
        *(one["stream"]["subject"] for one in outside["imports"] if "stream" in one),
        *(one["service"] for one in outside["exports"] if "service" in one),
        f"{inbox_prefix(IDENTITIES[role])}.>",
    ]
    assert [granted for granted in may.publish if not allowed(published, granted)] == []
    assert [granted for granted in may.subscribe if not allowed(heard, granted)] == []


def test_the_border_lets_nothing_through_that_deletes() -> None:
    inward = [export.get("service", "") for export in border.inside("OUT")["exports"]]
    api = [subject.removeprefix(border.API) for subject in inward if subject.startswith("$JS.API")]
    assert sorted(api) == [
        ".CONSUMER.INFO.NODE_CMD.*",
        ".CONSUMER.MSG.NEXT.NODE_CMD.*",
        ".STREAM.INFO.*",
        ".STREAM.MSG.GET.*",
    ]
    ours = {("cmd", "operator"), ("cmd", "node")}
    assert not any(tuple(subject.split(".")[:2]) in ours for subject in inward)
    assert not any(subject.split(".")[0] in ("dead", "sys", "$SYS", "_INBOX") for subject in inward)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_what_it_says(name: Party) -> None:
    may = service_permissions(name)
    for entry in CATALOG:
        pattern = entry.message.pattern()
        assert allowed(may.publish, pattern) == bool({name, "every_service"} & {*entry.said_by}), pattern
        if name in entry.heard_by and issubclass(entry.message, Query):
            assert allowed(may.subscribe, pattern)


def test_the_parties_are_known() -> None:
    assert {*ROLES, *SERVICES, "every_service"} == set(get_args(Party))
