"""Errors that a person can mend."""


class UserError(Exception):
    """Something the person at the keyboard can mend: shown as one line without a traceback, exit code 2."""


class RunError(Exception):
    """Work that failed on its way, such as a loss that is not finite: one line without a traceback, exit code 1."""
