"""From files to what the model eats: image reading, transforms, data sets."""
