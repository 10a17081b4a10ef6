"""The model server that every target runs: one MLflow model behind the Open Inference Protocol and /invocations.

A program of its own: it imports neither Django nor the control plane's apps, and meets them only in
docs/concepts/contracts.md (sections 4 and 5).
"""
