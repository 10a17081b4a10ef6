"""Desired state to manifests. Pure: the same plan and settings give the same bytes, and golden files hold them."""

from apps.targets.drivers.kubernetes.render.endpoint import Bundle, render

__all__ = ["Bundle", "render"]
