"""The published weights by name, one module per toolbox; ``model_entries`` joins them."""
