"""The drawn catalogue: products, their words and their photos, computed from a seed and a number."""
