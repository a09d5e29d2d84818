"""One-stage detectors: every anchor of every feature map says class and box."""
