"""Loading a real catalogue into the shop: read a folder or zip, check its rows, store them."""
