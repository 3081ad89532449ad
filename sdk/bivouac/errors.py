"""What can go wrong, as exceptions whose text is one sentence for the person who asked."""

from wire.values import Reason, Refusal


class BivouacError(Exception):
    """Base of all; its text says what went wrong and how to mend it."""


class Invalid(BivouacError, ValueError):
    """What was asked for cannot be said on the bus; nothing was sent."""


class Unreachable(BivouacError):
    """The network did not answer."""


class NotAllowed(BivouacError):
    """This identity may not do that on this network."""


class TookTooLong(BivouacError, TimeoutError):
    """It has not happened yet; it may still, and asking again is safe."""


class Damaged(BivouacError):
    """A file is not what its digest or its format promises."""


class JobFailed(BivouacError):
    """The job itself did not succeed."""


class Refused(BivouacError):
    """The network said no: `reason` to branch on, `detail` to show, `nearest` what would have worked."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        sentence = refusal.detail or f"Refused: {refusal.reason.value.replace('_', ' ')}."
        super().__init__(sentence)

    @property
    def reason(self) -> Reason:
        return self.refusal.reason

    @property
    def detail(self) -> str:
        return self.refusal.detail

    @property
    def nearest(self) -> str:
        return self.refusal.nearest
