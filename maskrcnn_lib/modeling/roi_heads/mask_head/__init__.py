"""Mask head: the outline of each detection."""
