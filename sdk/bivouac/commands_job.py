"""run, logs, result: work on a cluster, its lines live, its files back."""

import re
from pathlib import Path
from typing import Annotated

import typer

from bivouac.booking import Booking
from bivouac.command import REFUSED, Session, command
from bivouac.errors import Invalid
from bivouac.job import Job
from bivouac.view import JobView

BookingId = Annotated[str, typer.Argument(metavar="BOOKING", help="The booking's id, bkg_….")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job_….")]
Out = Annotated[Path | None, typer.Option(help="Where the result is unzipped to: a new or empty directory.")]


def register(app: typer.Typer) -> None:
    command(app, "run")(run)
    command(app, "logs")(logs)
    command(app, "result")(result)


async def run(
    session: Session,
    booking_id: BookingId,
    entrypoint: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="What runs, such as python main.py.")],
    files: Annotated[Path, typer.Option(help="The directory with the job's files; the command runs in it.")],
    out: Out = None,
    env: Annotated[list[str], typer.Option(metavar="NAME=VALUE", help="An environment variable; repeat it.")] = [],  # noqa: B006
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the job.")] = False,
) -> None:
    """Run a command on a cluster: logs live, the result into --out, the job's success as exit code."""
    environment = dict(_pair(word) for word in env)
    _must_be_new(out)
    booking = await (await session.client()).booking(booking_id)
    with session.terminal.bar("Uploading the files") as progress:
        job = await booking.run(entrypoint, files=files, environment=environment, progress=progress)
    come_back = f"bivouac logs {booking_id} {job.job_id}"
    if detach:
        session.terminal.answer(f"Job {job.job_id} is accepted: see `{come_back}`.", job.view)
        return
    session.detached = (
        f"Detached. The job goes on: `{come_back}`, `bivouac result {booking_id} {job.job_id} --out DIR`."
    )
    session.terminal.note(f"Job {job.job_id} is accepted.")
    await _follow(session, booking, job, out)


async def logs(session: Session, booking_id: BookingId, job_id: JobId) -> None:
    """What a job prints: live while it runs, all of it once it is over. Its success is the exit code."""
    booking = await (await session.client()).booking(booking_id)
    job = _known(booking, job_id)
    session.detached = "Detached. The job goes on."
    await _follow(session, booking, job, None)


async def result(session: Session, booking_id: BookingId, job_id: JobId, out: Out = None) -> None:
    """Fetch a job's result; waits while the job runs."""
    target = out or Path("results") / job_id
    _must_be_new(target)
    booking = await (await session.client()).booking(booking_id)
    job = _known(booking, job_id)
    with session.terminal.waiting("Waiting for the job…"):
        await job.finished()
    found = await _fetch(session, job, target)
    words = "\n".join(str(target / name) for name in found)
    session.terminal.answer(words, {"job_id": job_id, "out": str(target), "files": [str(name) for name in found]})


async def _follow(session: Session, booking: Booking, job: Job, out: Path | None) -> None:
    terminal = session.terminal
    async for line in job.logs():
        if terminal.as_json:
            terminal.document({"line": line})
        else:
            terminal.line(line)
    view = await job.finished()
    if job.missed_lines:
        terminal.note(f"Some lines were not seen live: `bivouac logs {booking.booking_id} {job.job_id}` has them all.")
    found = await _fetch(session, job, out) if out is not None and view.result is not None else []
    if terminal.as_json:
        terminal.document({"job": view, "out": str(out) if found else None, "files": [str(name) for name in found]})
    else:
        _conclude(session, view, out if found else None)
    if view.state != "succeeded":
        raise typer.Exit(_exit_code(view))


async def _fetch(session: Session, job: Job, out: Path) -> list[Path]:
    with session.terminal.bar("Fetching the result") as progress:
        return await job.result(out, progress=progress)


def _exit_code(view: JobView) -> int:
    """The job's own, where Ray's words in the detail name it; else 1."""
    named = re.search(r"exit code (\d{1,3})\b", view.detail)
    code = int(named[1]) if named else REFUSED
    return code if 0 < code < 256 else REFUSED


def _conclude(session: Session, view: JobView, out: Path | None) -> None:
    why = view.detail.splitlines()[0] if view.detail else ""  # the rest repeats the log
    session.terminal.note(f"Job {view.job_id} {view.state}" + (f": {why}" if why else "."))
    if out is not None:
        session.terminal.note(f"Its result is in {out}.")


def _known(booking: Booking, job_id: str) -> Job:
    """The scheduler names every job of a booking; what it does not name is no job of it."""
    if job_id not in booking.jobs:
        has = ", ".join(booking.jobs) or "none"
        raise Invalid(f"Booking {booking.booking_id} has no job {job_id}: it has {has}.")
    return booking.job(job_id)


def _must_be_new(out: Path | None) -> None:
    """Found out before the job runs, not after."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Invalid(f"{out} is not an empty directory: name a new one, so that nothing is overwritten.")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise Invalid(f"{word!r} is no environment variable: write NAME=VALUE.")
    return name, value
