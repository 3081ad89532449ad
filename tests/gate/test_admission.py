"""Who a key is, and which names may be given; no server needed."""

import pytest

from libs import nats_keys, nkey
from libs.nats_keys import Kind
from libs.settings import SettingsError
from services.gate.domain.admission import Admitted, Denied, Known, admit
from services.gate.domain.registration import RESERVED, Holder, register
from services.gate.settings import operators_of
from wire.access import PartnerRefused, PartnerRegistered, RegisterPartner
from wire.catalog import SERVICES

CLIENT = nkey.from_seed(nats_keys.new_seed(Kind.USER, b"u" * 32))
OTHER = nkey.from_seed(nats_keys.new_seed(Kind.USER, b"o" * 32))
KNOWN = Known({"KO": "ops"}, {"KP": "acme"}, {"KB": "wrong_answer", "KO2": "banned"})
NODE_KEY = CLIENT.public_key


@pytest.mark.parametrize(
    ("key", "wanted", "verdict"),
    [
        ("KO", "", Admitted("operator", "ops")),
        ("KP", "", Admitted("partner", "acme")),
        ("KP", "partner", Admitted("partner", "acme")),
        ("KP", "node", Denied("not registered as node")),
        (NODE_KEY, "", Admitted("node", NODE_KEY)),
        (NODE_KEY, "partner", Denied("not registered as partner")),
        (NODE_KEY, "king", Denied("no such role")),
        ("KB", "", Denied("banned: wrong_answer")),
        ("", "", Denied("not a user's key")),
        ("nonsense", "", Denied("not a user's key")),
    ],
)
def test_who_a_key_is(key: str, wanted: str, verdict: Admitted | Denied) -> None:
    assert admit(key, wanted, KNOWN) == verdict


def test_a_ban_comes_before_a_name() -> None:
    known = Known({"K": "ops"}, {"L": "acme"}, {"K": "banned", "L": "banned"})
    assert isinstance(admit("K", "", known), Denied) and isinstance(admit("L", "", known), Denied)


def order(partner: str = "acme", key: str = NODE_KEY) -> RegisterPartner:
    return RegisterPartner(id="r", at=1, operator="ops", partner=partner, public_key=key)


def test_a_name_has_one_key_and_a_key_one_name() -> None:
    operators = {OTHER.public_key: "ops"}
    assert isinstance(register(order(), (), operators, False), PartnerRegistered)
    assert isinstance(register(order(), (Holder("acme", NODE_KEY),), operators, True), PartnerRegistered)
    for holders in ((Holder("acme", "another"),), (Holder("another", NODE_KEY),)):
        assert isinstance(register(order(), holders, operators, False), PartnerRefused)
    assert isinstance(register(order(), (), operators, True), PartnerRefused)
    assert isinstance(register(order(key=OTHER.public_key), (), operators, False), PartnerRefused)


@pytest.mark.parametrize("name", [*SERVICES, "ops", "network", "node", "partner", "operator"])
def test_a_name_whose_inbox_is_taken_is_refused(name: str) -> None:
    assert isinstance(register(order(name), (), {OTHER.public_key: "ops"}, False), PartnerRefused)
    assert name == "ops" or name in RESERVED


def test_operators_are_read_or_the_setting_is_named() -> None:
    assert operators_of(f"ops={NODE_KEY} other={OTHER.public_key}") == {NODE_KEY: "ops", OTHER.public_key: "other"}
    for text in ("ops", f"ops={NODE_KEY[:-1]}", f"Ops={NODE_KEY}", f"={NODE_KEY}", "ops="):
        with pytest.raises(SettingsError, match="BIVOUAC_OPERATORS"):
            operators_of(text)
