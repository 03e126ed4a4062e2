"""What becomes of a photo: opened safely, in processes that may die of it."""
