"""Work on a cluster: files in by digest, logs back live, results back by digest."""

from typing import Annotated, Literal

import msgspec

from wire.message import Command, Event, Telemetry, Token
from wire.values import Digest, NodeId, PartnerId, Refusal, Text

# Ray takes packages of less than 100 MiB.
ARTEFACT_BYTES_MAX = 96 * 1024 * 1024
Entrypoint = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=4096)], ...], msgspec.Meta(min_length=1, max_length=64)
]
Environment = Annotated[
    dict[
        Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]{0,63}$(?!\n)")],
        Annotated[str, msgspec.Meta(max_length=4096)],
    ],
    msgspec.Meta(max_length=64),
]
LogLine = Annotated[str, msgspec.Meta(max_length=4096)]


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the object store, named by what is in it."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=ARTEFACT_BYTES_MAX)]


class SubmitJob(Command, frozen=True, kw_only=True):
    """Run `entrypoint` on the cluster, in the unpacked zip `files` from the partner's bucket."""

    SUBJECT = "cmd.job.{partner}.{booking_id}.{job_id}.submit"
    partner: PartnerId
    booking_id: Token
    job_id: Token
    entrypoint: Entrypoint
    files: Artefact
    environment: Environment = msgspec.field(default_factory=dict)


class CancelJob(Command, frozen=True, kw_only=True):
    """Stop a job."""

    SUBJECT = "cmd.job.{partner}.{booking_id}.{job_id}.cancel"
    partner: PartnerId
    booking_id: Token
    job_id: Token


class JobEvent(Event, frozen=True, kw_only=True):
    """What every event of a job carries."""

    partner: PartnerId
    booking_id: Token
    job_id: Token


class JobRefused(JobEvent, frozen=True, kw_only=True):
    """The job was not taken."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.refused"
    refusal: Refusal


class JobAccepted(JobEvent, frozen=True, kw_only=True):
    """The job was taken; its files go to the head node. A job whose head is lost is accepted anew, `attempt` + 1."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.accepted"
    node_id: NodeId
    files: Artefact
    attempt: int = 1


class JobFilesDelivered(JobEvent, frozen=True, kw_only=True):
    """The job's files lie in the head node's bucket, whole and with the right digest."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.files_delivered"
    node_id: NodeId
    attempt: int = 1


class JobFilesMissing(JobEvent, frozen=True, kw_only=True):
    """The partner's bucket does not hold what the job names."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.files_missing"
    refusal: Refusal
    attempt: int = 1


class JobStarted(JobEvent, frozen=True, kw_only=True):
    """The head node was told to run the job."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.started"
    node_id: NodeId
    attempt: int = 1


class RunJob(Command, frozen=True, kw_only=True):
    """Run a job on the Ray node of `lease_id`; `files` lie in the node's own bucket."""

    SUBJECT = "cmd.node.{node_id}.run_job"
    node_id: NodeId
    lease_id: Token
    partner: PartnerId
    booking_id: Token
    job_id: Token
    attempt: int = 1
    entrypoint: Entrypoint
    files: Artefact
    environment: Environment = msgspec.field(default_factory=dict)


class StopJob(Command, frozen=True, kw_only=True):
    """Stop a job on the head node."""

    SUBJECT = "cmd.node.{node_id}.stop_job"
    node_id: NodeId
    job_id: Token


class JobExited(Event, frozen=True, kw_only=True):
    """A job is over; result and whole log lie in the node's own bucket."""

    SUBJECT = "evt.node.{node_id}.job_exited"
    node_id: NodeId
    partner: PartnerId
    booking_id: Token
    job_id: Token
    attempt: int = 1
    status: Literal["succeeded", "failed", "stopped"]
    detail: Text = ""
    result: Artefact | None = None
    log: Artefact | None = None


class JobResultDelivered(JobEvent, frozen=True, kw_only=True):
    """Result and log lie in the partner's bucket (or could not be brought, see `refusal`)."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.result_delivered"
    node_id: NodeId
    attempt: int = 1
    status: Literal["succeeded", "failed", "stopped"]
    detail: Text = ""
    result: Artefact | None = None
    log: Artefact | None = None
    refusal: Refusal | None = None


class JobFinished(JobEvent, frozen=True, kw_only=True):
    """The job is over; its files lie in the partner's bucket under their digests."""

    SUBJECT = "evt.job.{partner}.{booking_id}.{job_id}.finished"
    status: Literal["succeeded", "failed", "stopped"]
    detail: Text = ""
    attempt: int = 1
    result: Artefact | None = None
    log: Artefact | None = None


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands, for a partner whose live events were lost; `refusal` when it was not taken."""

    job_id: Token
    state: Literal["accepted", "running", "refused", "succeeded", "failed", "stopped"]
    attempt: int = 1
    detail: Text = ""
    result: Artefact | None = None
    log: Artefact | None = None
    refusal: Refusal | None = None


class NodeJobLog(Telemetry, frozen=True, kw_only=True):
    """Lines a job printed, as the head node saw them; `sequence` shows a gap."""

    SUBJECT = "tel.node.{node_id}.job_log"
    node_id: NodeId
    booking_id: Token
    job_id: Token
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    lines: Annotated[tuple[LogLine, ...], msgspec.Meta(max_length=256)]


class JobLog(Telemetry, frozen=True, kw_only=True):
    """Lines a job printed, for the partner."""

    SUBJECT = "tel.job.{partner}.{booking_id}.{job_id}.log"
    partner: PartnerId
    booking_id: Token
    job_id: Token
    sequence: Annotated[int, msgspec.Meta(ge=0)]
    lines: Annotated[tuple[LogLine, ...], msgspec.Meta(max_length=256)]
