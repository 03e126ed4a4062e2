"""A second catalogue, unlike the demo shop's in every way that should not matter."""
