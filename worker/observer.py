"""The observer: ``python -m worker.observer``. Start as many as you like; a second one waits to take over."""

from __future__ import annotations

import signal

from worker.app import set_up_django


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    set_up_django()
    from worker.observing import Observer  # imports models: Django must be set up first

    observer = Observer()
    signal.signal(signal.SIGTERM, lambda *_: observer.stop())
    signal.signal(signal.SIGINT, lambda *_: observer.stop())
    observer.run()


if __name__ == "__main__":
    main()
