"""Keys, seals, tokens and the server's questions: what is believed and what is not; no server needed."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import nats_keys, nkey
from libs.nats_keys import Kind, NotAKey, NotSealed
from services.gate import jwt
from services.gate.answer import Signet
from services.gate.domain.admission import Admitted, Denied
from services.gate.jwt import BadToken, Claims
from services.gate.request import Door, NotBelieved

NOW = 1_800_000_000
SECRET = st.binary(min_size=32, max_size=32)
ISSUER = nats_keys.new_seed(Kind.ACCOUNT, b"i" * 32)
CURVE, SERVER_CURVE = (nats_keys.new_seed(Kind.CURVE, letter * 32) for letter in (b"c", b"s"))
SERVER = nats_keys.new_seed(Kind.SERVER, b"n" * 32)
SERVER_ID = nats_keys.public_of(SERVER, Kind.SERVER)
CLIENT = nkey.from_seed(nats_keys.new_seed(Kind.USER, b"u" * 32))
OTHER = nkey.from_seed(nats_keys.new_seed(Kind.USER, b"o" * 32))
MADE_UP = nats_keys.public_of(nats_keys.new_seed(Kind.USER, b"m" * 32), Kind.USER)


@given(st.sampled_from(list(Kind)), SECRET)
def test_keys_are_read_as_they_are_written(kind: Kind, secret: bytes) -> None:
    seed = nats_keys.new_seed(kind, secret)
    public = nats_keys.public_of(seed, kind)
    assert nats_keys.encode(nats_keys.decode(public, kind), kind) == public
    for other in set(Kind) - {kind}:
        with pytest.raises(NotAKey):
            nats_keys.decode(public, other)
        with pytest.raises(NotAKey):
            nats_keys.public_of(seed, other)
    if kind is Kind.USER:
        assert nkey.from_seed(seed).public_key == public


@given(SECRET, st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567189a=.* "))
def test_a_misspelt_key_is_no_key(secret: bytes, place: int, letter: str) -> None:
    public = nats_keys.public_of(nats_keys.new_seed(Kind.USER, secret), Kind.USER)
    misspelt = public[:place] + letter + public[place + 1 :]
    if misspelt != public:
        with pytest.raises(NotAKey):
            nats_keys.decode(misspelt, Kind.USER)


@given(st.binary(max_size=500), st.integers(0, 10_000), st.integers(1, 255))
def test_a_seal_holds_or_breaks(message: bytes, place: int, flip: int) -> None:
    ours, theirs = (nats_keys.public_of(seed, Kind.CURVE) for seed in (CURVE, SERVER_CURVE))
    sealed = nats_keys.seal(SERVER_CURVE, ours, message)
    assert nats_keys.unseal(CURVE, theirs, sealed) == message
    broken = bytearray(sealed)
    broken[place % len(sealed)] ^= flip
    with pytest.raises(NotSealed):
        nats_keys.unseal(CURVE, theirs, bytes(broken))
    with pytest.raises(NotSealed):
        nats_keys.unseal(CURVE, ours, sealed)


class Said(Claims, frozen=True, kw_only=True):
    what: str


def said(**more: Any) -> dict[str, Any]:
    issuer = nats_keys.public_of(ISSUER, Kind.ACCOUNT)
    return {"jti": "j", "iss": issuer, "iat": NOW, "exp": NOW + 1, "what": "so", **more}


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_token_that_was_touched_is_bad(place: int, patch: bytes) -> None:
    token = jwt.encode(said(), ISSUER, Kind.ACCOUNT).encode()
    assert jwt.decode(token, Kind.ACCOUNT, Said).what == "so"
    place %= len(token)
    touched = token[:place] + patch + token[place + len(patch) :]
    if touched != token:
        with pytest.raises(BadToken):
            jwt.decode(touched, Kind.ACCOUNT, Said)


@given(st.binary(max_size=300))
def test_garbage_is_no_token(garbage: bytes) -> None:
    for token in (garbage, base64.urlsafe_b64encode(garbage), b".".join([base64.urlsafe_b64encode(garbage)] * 3)):
        with pytest.raises(BadToken):
            jwt.decode(token, Kind.ACCOUNT, Said)


@pytest.mark.parametrize("header", [{"typ": "JWT", "alg": "none"}, {"typ": "JWT", "alg": "HS256"}, {}, []])
def test_only_one_algorithm_is_taken(header: object) -> None:
    token = jwt.encode(said(), ISSUER, Kind.ACCOUNT)
    other = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    for signature in (token.split(".")[2], ""):
        with pytest.raises(BadToken):
            jwt.decode(".".join([other, token.split(".")[1], signature]).encode(), Kind.ACCOUNT, Said)


def test_a_key_of_another_kind_or_owner_signs_nothing() -> None:
    with pytest.raises(BadToken):
        jwt.decode(jwt.encode(said(), ISSUER, Kind.ACCOUNT).encode(), Kind.SERVER, Said)
    forged = jwt.encode(said(), nats_keys.new_seed(Kind.ACCOUNT, b"f" * 32), Kind.ACCOUNT)
    with pytest.raises(BadToken):
        jwt.decode(forged.encode(), Kind.ACCOUNT, Said)


def asked(seed: str = SERVER, **changes: Any) -> bytes:
    """The server's question about CLIENT, sealed; `changes` reach into the claims by name."""
    sig = base64.b64encode(CLIENT.sign(b"nonce")).decode()
    nats: dict[str, Any] = {
        "server_id": {"id": SERVER_ID, "name": "n", "host": "h", "version": "2"},
        "user_nkey": MADE_UP,
        "client_info": {"id": 7, "kind": "Client", "type": "nats", "host": "127.0.0.1", "nonce": "nonce"},
        "connect_opts": {"nkey": CLIENT.public_key, "sig": sig, "protocol": 1},
        "type": "authorization_request",
        "version": 2,
    }
    claims: dict[str, Any] = {
        "jti": "j",
        "iss": SERVER_ID,
        "sub": nats_keys.public_of(ISSUER, Kind.ACCOUNT),
        "aud": "nats-authorization-request",
        "iat": NOW,
        "exp": NOW + 1,
        "nats": nats,
    }
    for name, value in changes.items():
        holder = next(
            part for part in (claims, nats, *(v for v in nats.values() if isinstance(v, dict))) if name in part
        )
        holder[name] = value
    token = jwt.encode(claims, seed, Kind.SERVER).encode()
    return nats_keys.seal(SERVER_CURVE, nats_keys.public_of(CURVE, Kind.CURVE), token)


def door(server: str = SERVER_ID) -> Door:
    return Door(CURVE, nats_keys.public_of(ISSUER, Kind.ACCOUNT), server)


SEALER = nats_keys.public_of(SERVER_CURVE, Kind.CURVE)


def test_a_true_question_is_believed_once() -> None:
    at = door()
    question = at.open(asked(), SEALER, NOW)
    assert question.signed_by_client and question.connect_opts.nkey == CLIENT.public_key
    with pytest.raises(NotBelieved):
        at.open(asked(), SEALER, NOW + 1)
    assert door("").open(asked(), SEALER, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": nats_keys.public_of(nats_keys.new_seed(Kind.SERVER, b"x" * 32), Kind.SERVER)},
        {"sub": nats_keys.public_of(nats_keys.new_seed(Kind.ACCOUNT, b"x" * 32), Kind.ACCOUNT)},
        {"aud": "something else"},
        {"iat": NOW + 60, "exp": NOW + 61},
        {"iat": NOW - 60, "exp": NOW - 59},
        {"exp": NOW + 10_000},
        {"user_nkey": CLIENT.public_key[:-1]},
        {"user_nkey": "U" * 56},
        {"type": "authorization_response"},
        {"version": 1},
        {"connect_opts": {"nkey": "n" * 300}},
        {"connect_opts": 5},
        {"client_info": {"id": "seven"}},
        {"jti": ""},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_an_untrue_question_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(NotBelieved):
        door().open(asked(**changes), SEALER, NOW)


def test_another_servers_question_is_not_believed() -> None:
    other = nats_keys.new_seed(Kind.SERVER, b"x" * 32)
    public = nats_keys.public_of(other, Kind.SERVER)
    theirs = asked(seed=other, iss=public, server_id={"id": public})
    with pytest.raises(NotBelieved):
        door().open(theirs, SEALER, NOW)
    assert door("").open(theirs, SEALER, NOW)
    with pytest.raises(NotBelieved):
        door("").open(asked(seed=other), SEALER, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"sig": base64.b64encode(OTHER.sign(b"nonce")).decode()},
        {"sig": base64.b64encode(CLIENT.sign(b"another")).decode()},
        {"sig": ""},
        {"sig": "☃"},
        {"nonce": ""},
        {"nonce": "another"},
        {"nkey": OTHER.public_key},
        {"nkey": ""},
        {"kind": "Leafnode"},
    ],
    ids=lambda changes: str(changes)[:20],
)
def test_a_client_that_did_not_sign_is_seen(changes: dict[str, Any]) -> None:
    assert not door().open(asked(**changes), SEALER, NOW).signed_by_client


def test_both_alphabets_of_a_signature_are_read() -> None:
    for letters in (base64.urlsafe_b64encode, base64.b64encode):
        for text in (letters(CLIENT.sign(b"nonce")).decode(), letters(CLIENT.sign(b"nonce")).decode().rstrip("=")):
            assert door().open(asked(sig=text), SEALER, NOW).signed_by_client


@pytest.mark.parametrize("role", ["node", "partner", "operator"])
def test_an_answer_is_for_that_question_alone(role: Any) -> None:
    signet = Signet(ISSUER, "NET", "OUT", 3600)
    question = door().open(asked(), SEALER, NOW)

    class Answer(Claims, frozen=True, kw_only=True):
        aud: str
        sub: str
        nats: dict[str, Any]
        exp: int = 0

    told = jwt.decode(signet.answer(question, Admitted(role, "acme"), NOW), Kind.ACCOUNT, Answer)
    user = jwt.decode(told.nats["jwt"].encode(), Kind.ACCOUNT, Answer)
    assert (told.aud, told.sub, user.sub) == (SERVER_ID, MADE_UP, MADE_UP)
    assert user.aud == ("NET" if role == "operator" else "OUT")
    assert user.exp == NOW + 3600
    assert ("resp" in user.nats) == (role == "node")
    refusal = jwt.decode(signet.answer(question, Denied("banned: wrong_answer"), NOW), Kind.ACCOUNT, Answer)
    assert refusal.nats["error"] == "banned: wrong_answer" and "jwt" not in refusal.nats


def test_a_token_says_no_more_than_it_must() -> None:
    """It passes through the server's log at worst: no seed is in it."""
    question = door().open(asked(), SEALER, NOW)
    answer = Signet(ISSUER, "NET", "OUT", 60).answer(question, Admitted("node", CLIENT.public_key), NOW)
    assert ISSUER.encode() not in answer and len(answer) < 16 * 1024
    assert msgspec.json.decode(base64.urlsafe_b64decode(answer.split(b".")[1] + b"=="))["iss"].startswith("A")
