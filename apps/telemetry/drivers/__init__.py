"""Metric stores that are asked for slots, behind one interface (``base.MetricSource``)."""
