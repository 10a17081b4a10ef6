"""The node agent of a local target: owns one Envoy and the serving processes, and makes endpoint plans true.

A program of its own (`python -m agent`): it imports neither Django nor apps/, and it keeps serving when the control
plane is gone. Wire formats: docs/concepts/contracts.md, sections 1 to 4 and 6.
"""

VERSION = "0.1.0"
