"""The embedded default: everything Pilothouse needs on one machine, started out of Python packages.

`python -m embedded.services` runs PostgreSQL and Valkey; `python -m embedded.up` runs the whole product. A program of
its own: it imports neither Django nor `apps`, it starts them.
"""
