"""Whole detectors as files that run without this library: ONNX, and torch.export's .pt2."""
