"""What keeps the index true: claims, embeddings, neighbours, whatever changes and whatever dies."""
