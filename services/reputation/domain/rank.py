"""A node's rank: its place by the lower bound, equals sharing one ("1224")."""


def rank(lower_millis: int, higher_on_board: int, own_on_board: int | None) -> int:
    """One more than there are nodes whose lower bound is higher.

    The board lags behind the rows a little, so it may still hold the node itself at an older, higher bound
    (`own_on_board`): a node does not stand in its own way.
    """
    itself = own_on_board is not None and own_on_board > lower_millis
    return 1 + higher_on_board - itself
