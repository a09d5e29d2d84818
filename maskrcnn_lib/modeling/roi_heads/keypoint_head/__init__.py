"""Keypoint head: named points of each detection."""
