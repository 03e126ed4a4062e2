"""What is found: nearest vectors, words, both; in scope, in order, with reasons."""
