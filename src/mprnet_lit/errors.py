"""The one error type meant for people rather than programmers."""


class UserError(ValueError):
    """Bad input: one clear sentence saying what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """
