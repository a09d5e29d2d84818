"""An evaluation as one HTML page: tables, curves, kinds of error, and the images themselves."""
