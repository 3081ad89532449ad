"""What goes wrong on the user's own machine, said in one sentence that tells what and how to mend it."""


class LocalError(Exception):
    """Shown to a person as it is, without a traceback."""
