"""Image data sets that several tasks read."""
