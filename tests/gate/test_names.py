"""Names keep identities apart, and are names that NATS takes."""

import re

from hypothesis import given
from hypothesis import strategies as st

from wire import names

PARTNER = st.from_regex(r"[a-z][a-z0-9_\-]{0,31}", fullmatch=True)
NODE = st.from_regex(r"U[A-Z2-7]{55}", fullmatch=True)
_BUCKET = re.compile(r"[a-zA-Z0-9_-]+")


@given(PARTNER, NODE)
def test_names_are_taken_by_nats(partner: str, node_id: str) -> None:
    for bucket in (names.bucket_of_partner(partner), names.bucket_of_node(node_id)):
        assert _BUCKET.fullmatch(bucket)
        assert len(names.bucket_stream(bucket)) <= 255
    assert _BUCKET.fullmatch(names.node_consumer(node_id))
    for identity in (partner, node_id):
        assert not set(" .*>") & set(names.inbox_prefix(identity))


@given(st.lists(PARTNER | NODE, min_size=2, max_size=2, unique=True))
def test_two_identities_share_no_name(pair: list[str]) -> None:
    one, other = pair
    assert names.inbox_prefix(one) != names.inbox_prefix(other)
    buckets = {names.bucket_of_partner(one), names.bucket_of_node(one)}
    assert not buckets & {names.bucket_of_partner(other), names.bucket_of_node(other)}
