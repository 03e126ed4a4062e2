"""The demo shop: an ordinary Django project that uses visualsearch."""
