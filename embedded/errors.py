"""Errors of the launcher.

LaunchError                 a sentence for the person at the terminal, with the way out in it
  ServiceError              PostgreSQL or Valkey cannot be started or stopped
  PortTakenError            somebody else listens where we want to listen
"""


class LaunchError(Exception):
    """Shown to the person as one sentence, without a traceback."""


class ServiceError(LaunchError):
    """An embedded service refuses to start, answer or stop."""


class PortTakenError(LaunchError):
    """A port is in use; names the port, who holds it where that can be known, and the variable that moves it."""
