"""Classifiers: the reference networks, their specs, checkpoints and state dicts."""
