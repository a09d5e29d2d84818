"""The loops that put model, data and evaluation together."""
