"""What flows through the library: boxes with their fields, masks, key points and image batches."""
