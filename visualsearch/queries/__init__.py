"""What is asked: validated words, photos, products and options, before anything is searched."""
