"""Heads that look at each proposed region: boxes and classes, masks."""
