"""Kubernetes targets. Rendering (``render/``, ``routes/``) is pure and apart from applying (``writing.py``)."""

from apps.targets.drivers.kubernetes.driver import KubernetesDriver, connect

__all__ = ["KubernetesDriver", "connect"]
