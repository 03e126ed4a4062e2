"""A third catalogue: text as the primary key, the image on the product itself."""
