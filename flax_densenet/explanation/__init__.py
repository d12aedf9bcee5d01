"""Maps of the parts of an image that speak for a class."""
