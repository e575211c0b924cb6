"""The two ways work can end badly, and the exit codes that tell them apart."""


class VlaError(Exception):
    """An error whose message is written for the user: the name of the thing, what was expected, what to do."""

    exit_code = 1


class BadInput(VlaError):
    """What the user gave cannot be used; nothing was written."""

    exit_code = 2


class WorkFailed(VlaError):
    """The input was good, the work itself failed; nothing half-written is left behind."""

    exit_code = 1
