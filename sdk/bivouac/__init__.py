"""Client of the Bivouac compute network: quote, book, run, settle."""

from bivouac.booking import Booking
from bivouac.client import Client, Order, cluster
from bivouac.errors import (
    BivouacError,
    Damaged,
    Invalid,
    JobFailed,
    NotAllowed,
    Refused,
    TookTooLong,
    Unreachable,
)
from bivouac.job import Job
from bivouac.operator import Operator
from bivouac.view import BookingView, JobView

__all__ = [
    "BivouacError",
    "Booking",
    "BookingView",
    "Client",
    "Damaged",
    "Invalid",
    "Job",
    "JobFailed",
    "JobView",
    "NotAllowed",
    "Operator",
    "Order",
    "Refused",
    "TookTooLong",
    "Unreachable",
    "cluster",
]
